"""A real GPU through the seam on which the simulated one is tested: the same functions, the same findings."""

from collections.abc import Callable
from typing import Any

import pytest
import torch

from asynckit.bench.config import BenchConfig
from asynckit.bench.devices import Gpu, choose_device
from asynckit.bench.timing import measure, run_once
from asynckit.errors import WorkFailed

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
]
QUICK = BenchConfig(device="cuda", max_repetitions=100, max_seconds=2.0)


def matmul(size: int = 2048) -> Callable[[], torch.Tensor]:
    left, right = (torch.randn(size, size, device="cuda", dtype=torch.bfloat16) for _ in range(2))
    return lambda: left @ right


def gpu() -> Gpu:
    device = choose_device("cuda")
    assert isinstance(device, Gpu)
    return device


def test_all_clocks_agree_on_a_long_kernel() -> None:
    """No clock finds anything to doubt in a large matrix product."""
    medians = {}
    for clock in ("events", "graph", "cupti", "host"):
        found = measure(matmul(4096), config=QUICK, clock=clock, cache="hot")
        assert found.doubts == ()
        medians[clock] = found.timing.median
    assert max(medians.values()) < 1.5 * min(medians.values())


def test_the_device_knows_its_clocks() -> None:
    """Resolutions are below a millisecond, and a blocked stream is busy when the host goes on."""
    device = gpu()
    assert 0 < device.event_resolution() <= 5e-7
    assert 0 < device.host_resolution() < 1e-3
    start, end = device.event(), device.event()
    device.synchronize()
    start.record()
    device.block(0.02)
    end.record()
    assert not end.done()
    end.wait()
    assert 0.005 < end.seconds_since(start) < 0.08


def test_work_on_another_stream_is_found() -> None:
    """Events don't see it and CUPTI does."""
    product, side = matmul(4096), torch.cuda.Stream()  # type: ignore[no-untyped-call]

    def elsewhere() -> None:
        with torch.cuda.stream(side):
            product()

    found = measure(elsewhere, config=QUICK, clock="events")
    assert any("another stream" in doubt for doubt in found.doubts)
    assert measure(elsewhere, config=QUICK, clock="cupti").timing.median > 2 * found.timing.median


def test_an_incomplete_graph_is_found() -> None:
    """Kernels on a stream that was not captured run once and are missing from replays."""
    side, outside = torch.cuda.Stream(), torch.ones(1024, device="cuda")  # type: ignore[no-untyped-call]

    def inputs() -> Any:
        return torch.randn(1024, device="cuda")

    def double(given: torch.Tensor) -> torch.Tensor:
        return given * 2

    def split(given: torch.Tensor) -> torch.Tensor:
        with torch.cuda.stream(side):
            outside.add_(1)
        return double(given)

    for function, incomplete in ((double, False), (split, True)):
        doubts = measure(function, setup=inputs, config=QUICK, clock="graph").doubts
        assert any("not captured" in doubt for doubt in doubts) == incomplete


def test_what_waits_cannot_be_captured() -> None:
    """It fails with advice; the device can be used afterwards."""
    total = torch.ones(1024, device="cuda")
    with pytest.raises(WorkFailed, match="captured"):
        measure(lambda: total.sum().item(), config=QUICK, clock="graph")
    assert measure(matmul(), config=QUICK).timing.median > 0


def test_work_that_the_cpu_does_not_wait_for_is_found() -> None:
    """Timing a GPU's work as a CPU's is doubted."""
    found = measure(matmul(8192), config=QUICK, device="cpu", cache="hot")
    assert any("after the function has returned" in doubt for doubt in found.doubts)


def test_memory_is_what_the_call_takes() -> None:
    """The buffer that flushes caches is not counted."""
    device = gpu()
    device.flush()
    held = torch.cuda.memory_allocated()
    peak = device.peak_memory(lambda: torch.empty(64 << 20, dtype=torch.uint8, device="cuda"))
    assert peak is not None
    assert (64 << 20) <= peak <= (64 << 20) + held


def test_a_profiler_can_be_attached() -> None:
    """Running once inside a range works where no profiler listens, too."""
    run_once(matmul(), device="cuda", name="matmul {2048}")
