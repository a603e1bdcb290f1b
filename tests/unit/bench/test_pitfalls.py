"""What makes timings of GPUs wrong, on a simulated one: each pitfall is shown, and then found."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from asynckit.bench.checks import goes_on_after_return
from asynckit.bench.clocks import Work
from asynckit.bench.config import BenchConfig
from asynckit.bench.simulated_device import SimulatedGpu
from asynckit.bench.timing import Measurement, measure
from asynckit.errors import WorkFailed

LONG, SHORT = 250e-6, 2e-6  # seconds of kernels; launching one takes 4 µs
QUICK = BenchConfig(max_repetitions=60)


def timed(gpu: SimulatedGpu, function: Callable[..., Any], **options: Any) -> Measurement:
    return measure(function, device=gpu, config=QUICK, **options)


def fresh_array(size: int = 4) -> Callable[[], np.ndarray[Any, Any]]:
    generator = np.random.default_rng(0)
    return lambda: generator.random(size)


@pytest.mark.parametrize("clock", ["auto", "host", "graph", "cupti"])
def test_every_clock_agrees_on_a_long_kernel(clock: str) -> None:
    """Where there is no pitfall there is no doubt, and each clock reads the time."""
    gpu = SimulatedGpu()
    found = timed(gpu, lambda: gpu.kernel(LONG), clock=clock, cache="hot")
    assert found.doubts == ()
    assert found.timing.median == pytest.approx(LONG, rel=0.02)
    assert found.timing.clock == ("events" if clock == "auto" else clock)


def test_without_synchronizing_only_the_launch_is_timed() -> None:
    """The host's clock alone reads 4 of 250 µs; ours waits, and a CPU's timing of such work is doubted."""
    gpu = SimulatedGpu()
    begin = gpu.seconds()
    gpu.kernel(LONG)
    assert gpu.seconds() - begin == pytest.approx(4e-6)
    assert timed(gpu, lambda: gpu.kernel(LONG), clock="host", cache="hot").timing.median >= LONG
    assert "after the function has returned" in goes_on_after_return(gpu, Work(lambda: gpu.kernel(LONG)))


def test_what_waits_for_its_own_work_may_be_timed_on_the_cpu() -> None:
    """A function that synchronizes by itself, or that launches nothing, is not doubted."""
    gpu = SimulatedGpu()

    def waits() -> None:
        gpu.kernel(LONG)
        gpu.synchronize()

    assert goes_on_after_return(gpu, Work(waits)) == ""
    assert goes_on_after_return(gpu, Work(lambda: gpu.compute(1e-3))) == ""


@pytest.mark.parametrize("seconds", [LONG, SHORT])
def test_events_do_not_see_another_stream(seconds: float) -> None:
    """Events read next to nothing of work on another stream, and say so; also where launching hides it."""
    gpu = SimulatedGpu()
    found = timed(gpu, lambda: gpu.kernel(seconds, stream=1), clock="events")
    assert found.timing.median < seconds / 10
    assert any("another stream" in doubt for doubt in found.doubts)
    assert timed(gpu, lambda: gpu.kernel(LONG, stream=1), clock="cupti").timing.median == pytest.approx(LONG)


def test_events_doubt_work_that_is_only_partly_elsewhere() -> None:
    """A function whose longer part is on another stream is found too."""
    gpu = SimulatedGpu()

    def split() -> None:
        gpu.kernel(LONG / 10)
        gpu.kernel(LONG, stream=1)

    assert any("events see" in doubt for doubt in timed(gpu, split, clock="events").doubts)


def test_a_warm_cache_makes_repeated_calls_faster() -> None:
    """Without a flush the second call finds its inputs in L2; with one it doesn't."""
    gpu = SimulatedGpu(cached=0.4)
    reading = lambda: gpu.kernel(LONG, reads="weights")  # noqa: E731
    assert timed(gpu, reading, cache="cold").timing.median == pytest.approx(LONG, rel=0.01)
    assert timed(gpu, reading, cache="hot").timing.median == pytest.approx(0.4 * LONG, rel=0.01)


def test_gaps_between_launches_do_not_count() -> None:
    """Twenty kernels of 1 µs take 20 µs of the device, though launching them takes 80."""
    gpu = SimulatedGpu()

    def many() -> None:
        for _ in range(20):
            gpu.kernel(1e-6)

    found = timed(gpu, many, clock="events")
    assert found.timing.median == pytest.approx(20e-6, rel=0.01)
    assert found.doubts == ()
    assert timed(gpu, many, clock="host", cache="hot").timing.median > 80e-6


def test_gaps_that_cannot_be_hidden_are_told() -> None:
    """A function that waits for the device in its middle has launch gaps in its time."""
    gpu = SimulatedGpu()

    def waits() -> None:
        gpu.kernel(1e-6)
        gpu.synchronize()
        gpu.kernel(1e-6)

    assert any("gaps between launches" in doubt for doubt in timed(gpu, waits, clock="events").doubts)


def test_frozen_outputs_are_found() -> None:
    """A function that returns what it computed once is found by fresh inputs, one that computes is not."""
    gpu = SimulatedGpu()
    results: list[Any] = []

    def cached(given: Any) -> Any:
        results.append(given * 2)
        gpu.kernel(LONG)
        return results[0]

    def computes(given: Any) -> Any:
        gpu.kernel(LONG)
        return given * 2

    assert any("cached" in doubt for doubt in timed(gpu, cached, setup=fresh_array()).doubts)
    assert timed(gpu, computes, setup=fresh_array()).doubts == ()
    assert timed(gpu, cached, setup=lambda: np.ones(4)).doubts == ()  # nothing can be told of equal inputs


def doubling(gpu: SimulatedGpu) -> Callable[[Any], Any]:
    output = np.zeros(4)

    def function(given: Any) -> Any:
        gpu.kernel(LONG, work=lambda: np.multiply(given, 2, out=output))
        return output

    return function


def test_a_whole_graph_is_not_doubted() -> None:
    """A function whose work is all in kernels gives the same output when it is replayed."""
    gpu = SimulatedGpu(noise=0.02)
    found = timed(gpu, doubling(gpu), setup=fresh_array(), clock="graph")
    assert found.doubts == ()
    assert found.timing.median == pytest.approx(LONG, rel=0.1)


def test_what_the_host_computes_is_missing_from_a_graph() -> None:
    """Work of the host happens at capture only; the replayed output does not follow the inputs."""
    gpu = SimulatedGpu()
    double = doubling(gpu)

    def function(given: Any) -> Any:
        return double(given) + given.sum()

    doubts = timed(gpu, function, setup=fresh_array(), clock="graph").doubts
    assert any("was not captured" in doubt for doubt in doubts)


def test_what_runs_on_another_stream_is_missing_from_a_graph() -> None:
    """Kernels that were not captured are missed by counting, also where there are no outputs to compare."""
    gpu = SimulatedGpu()

    def split() -> None:
        gpu.kernel(LONG)
        gpu.kernel(LONG, stream=1)

    doubts = timed(gpu, split, clock="graph").doubts
    assert doubts == ("the graph runs 1 kernels where the function runs 2: part of it was not captured",)


def test_what_waits_cannot_be_captured() -> None:
    """It fails with the clock to blame, and nothing stays captured."""
    gpu = SimulatedGpu()

    def waits() -> None:
        gpu.kernel(LONG)
        gpu.synchronize()

    with pytest.raises(WorkFailed, match="captured"):
        timed(gpu, waits, clock="graph")
    assert timed(gpu, waits, clock="cupti").timing.median == pytest.approx(LONG)


def test_chance_is_not_taken_for_an_incomplete_graph() -> None:
    """A function that differs from call to call over the same inputs has only its kernels counted."""
    gpu = SimulatedGpu()
    generator = np.random.default_rng(1)
    output = np.zeros(4)

    def samples(given: Any) -> Any:
        gpu.kernel(LONG, work=lambda: np.copyto(output, given + generator.random(4)))
        return output

    assert timed(gpu, samples, setup=fresh_array(), clock="graph").doubts == ()


def test_a_clock_that_is_too_coarse_is_told() -> None:
    """One cold call of 2 µs between events with ticks of 0.5 µs cannot be known to 1 %."""
    gpu = SimulatedGpu(tick=5e-7)
    function = lambda: gpu.kernel(SHORT)  # noqa: E731
    assert any("too short" in doubt for doubt in timed(gpu, function, cache="cold").doubts)
    hot = timed(gpu, function, cache="hot")
    assert hot.doubts == ()
    assert hot.timing.calls * SHORT > 500e-6


def test_slow_first_kernels_are_thrown_away() -> None:
    """A device that is three times as slow until it is warm does not show in the samples."""
    gpu = SimulatedGpu(slow_kernels=40)
    found = timed(gpu, lambda: gpu.kernel(LONG))
    assert max(found.timing.samples) == pytest.approx(LONG, rel=0.01)
    assert found.timing.warmup >= 10
