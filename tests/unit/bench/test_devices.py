"""Devices: what keeps torch from a GPU, what there is on a CPU, and that nothing heavy comes along."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch

from asynckit.bench.devices import (
    CpuDevice,
    Gpu,
    busy_gpu,
    choose_device,
    largest_cache,
    why_no_cuda,
)
from asynckit.bench.simulated_device import SimulatedGpu
from asynckit.errors import DependencyError

without_cuda = pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")


@pytest.mark.parametrize(
    ("built_for", "visible", "driver", "words"),
    [
        (None, None, True, "for CPUs only"),
        ("13.0", "", True, "CUDA_VISIBLE_DEVICES='' hides every GPU"),
        ("13.0", "-1", True, "hides every GPU"),
        ("13.0", None, False, "no NVIDIA driver"),
        ("13.0", "3", True, "with CUDA_VISIBLE_DEVICES='3'"),
        ("13.0", None, True, "finds no GPU that it can use"),
    ],
)
def test_it_is_said_why_there_is_no_gpu(
    built_for: str | None, visible: str | None, driver: bool, words: str
) -> None:
    """A CPU build, a hidden GPU, a missing driver and anything else are told apart, each with a mend."""
    problem, mend = why_no_cuda(built_for, visible, driver)
    assert words in problem
    assert mend


@without_cuda
def test_a_gpu_that_is_not_there_is_refused() -> None:
    """``auto`` falls to the CPU; who asks for CUDA gets exit code 5 and never a CPU's number."""
    assert choose_device("auto").kind == "cpu"
    assert choose_device("cpu").kind == "cpu"
    with pytest.raises(DependencyError) as caught:
        choose_device("cuda")
    assert caught.value.exit_code == 5
    assert caught.value.mend
    assert busy_gpu() is None


def test_only_gpus_have_events() -> None:
    """The protocol tells apart what can be timed by events and graphs."""
    assert isinstance(SimulatedGpu(), Gpu)
    assert not isinstance(CpuDevice(), Gpu)


def test_the_largest_cache_is_read_as_linux_writes_it(tmp_path: Path) -> None:
    """Kilobytes and megabytes are understood; where nothing is said, 32 MiB are taken."""
    assert largest_cache(str(tmp_path)) == 32 << 20
    for index, size in enumerate(("48K\n", "2M\n", "unknown\n")):
        (tmp_path / f"index{index}").mkdir()
        (tmp_path / f"index{index}" / "size").write_text(size)
    assert largest_cache(str(tmp_path)) == 2 << 20


def test_the_clock_of_the_cpu_resolves_microseconds() -> None:
    """Its resolution is a positive number well below what a repetition takes."""
    assert 0 < CpuDevice().host_resolution() < 1e-5


def test_a_cpu_flushes_and_names_nothing() -> None:
    """Flushing, ranges and the look at memory work without CUDA."""
    device = CpuDevice()
    device.flush()
    device.synchronize()
    with device.range("{name}"):
        assert device.peak_memory(pytest.fail) is None


def test_timing_comes_without_what_gpu_machines_lack() -> None:
    """``from asynckit.bench import measure`` times a function where neither Ray nor pyzmq is."""
    script = (
        "import sys\n"
        "for name in ('ray', 'zmq', 'omegaconf', 'pyarrow', 'fastapi'): sys.modules[name] = None\n"
        "from asynckit.bench import measure\n"
        "from asynckit.bench.config import BenchConfig\n"
        "assert 'torch' not in sys.modules\n"
        "measure(lambda: 1, config=BenchConfig(device='cpu', cache='hot', max_seconds=0.01))\n"
        "assert 'torch' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", script], check=True, timeout=60)
