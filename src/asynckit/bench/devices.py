"""What timing needs of a device, and what of it a CPU has.

The clocks and checks know a device by two protocols only. :class:`Device` is enough for the host's clock;
events, graphs and profiles need a :class:`Gpu`. Of that there are two: CUDA's, and a simulated one with
virtual time, on which everything that is done with GPUs can be tried without having one.
"""

import os
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, Self, TypeVar, runtime_checkable

from asynckit.errors import DependencyError

if TYPE_CHECKING:
    import torch

Act = Callable[[], object]
Result = TypeVar("Result")

_UNKNOWN_CACHE = 32 << 20
_CACHES = "/sys/devices/system/cpu/cpu0/cache"


class Event(Protocol):
    """A place in a stream whose time can be read once the device has passed it."""

    def record(self) -> None:
        """Put it behind the work that is in the current stream now."""

    def done(self) -> bool:
        """Whether the device has passed it."""

    def wait(self) -> None:
        """Wait until the device has passed it."""

    def seconds_since(self, earlier: Self) -> float:
        """Seconds of the device from ``earlier`` to this one; both have been passed."""


class Device(Protocol):
    """What runs the work that is timed."""

    @property
    def kind(self) -> str:
        """``cuda`` or ``cpu``."""

    def now(self) -> int:
        """The host's clock, in nanoseconds from anywhere."""

    def synchronize(self) -> None:
        """Wait until all work on all streams is done."""

    def host_resolution(self) -> float:
        """Seconds that the host's clock cannot tell from nothing, waiting for an idle device included."""

    def flush(self) -> None:
        """Begin to drive what earlier work left in the caches out of them."""

    def peak_memory(self, act: Act) -> int | None:
        """Bytes of the device that are taken at most while ``act`` runs; None, without a run, if unknown."""

    def range(self, name: str) -> AbstractContextManager[object]:
        """Give what is run inside a name in profiles."""


@runtime_checkable
class Gpu(Device, Protocol):
    """A device that works through streams by itself while the host goes on."""

    def event_resolution(self) -> float:
        """Seconds that two events cannot tell from nothing."""

    def event(self) -> Event:
        """A new one."""

    def block(self, seconds: float) -> None:
        """Keep the current stream busy for about as long, so that work can be launched behind it."""

    def capture(self, act: Callable[[], Result]) -> Callable[[], Result]:
        """Run ``act`` to warm up, then capture what it launches as a graph.

        Returns:
            Replays the graph and returns what ``act`` returned when it was captured: the same buffers.
        """

    def profile(self, act: Act) -> Sequence[tuple[float, float]]:
        """Begin and end, in seconds, of each kernel and copy that ``act`` runs on any stream."""


class CpuDevice:
    """The CPU, where what was called is done when it returns."""

    kind = "cpu"

    def __init__(self) -> None:
        self._flushing: torch.Tensor | None = None

    def now(self) -> int:
        """The host's clock, in nanoseconds."""
        return time.perf_counter_ns()

    def synchronize(self) -> None:
        """Return: nothing runs on by itself."""

    def host_resolution(self) -> float:
        """The smallest step that successive readings of the clock make, in seconds."""
        readings = [time.perf_counter_ns() for _ in range(1000)]
        steps = [later - earlier for earlier, later in pairwise(readings)]
        return min((step for step in steps if step), default=1000) * 1e-9

    def flush(self) -> None:
        """Write to twice as much memory as the largest cache holds, from as many threads as torch uses."""
        if self._flushing is None:
            import torch

            self._flushing = torch.empty(2 * largest_cache(), dtype=torch.uint8)
        self._flushing.zero_()

    def peak_memory(self, act: Act) -> int | None:  # noqa: ARG002 - as all devices
        """None: memory of one function cannot be told from that of the process."""
        return None

    def range(self, name: str) -> AbstractContextManager[object]:  # noqa: ARG002 - as all devices
        """No-op: there are no ranges outside CUDA's profilers."""
        return nullcontext()


def largest_cache(folder: str = _CACHES) -> int:
    """Bytes of the largest cache that the first core reaches; 32 MiB where the system doesn't say."""
    sizes = [_bytes(path.read_text()) for path in Path(folder).glob("index*/size")]
    return max(sizes, default=0) or _UNKNOWN_CACHE


def _bytes(size: str) -> int:
    """Of what Linux writes as ``32768K``."""
    text = size.strip()
    scale = {"K": 1 << 10, "M": 1 << 20, "G": 1 << 30}.get(text[-1:], 1)
    digits = text.rstrip("KMG")
    return int(digits) * scale if digits.isdigit() else 0


def choose_device(name: str) -> Device:
    """The device that a person asked for.

    Args:
        name: ``auto`` takes CUDA where it works; ``cuda`` or ``cpu``.

    Raises:
        DependencyError: ``cuda`` was asked for and cannot be used; says why.
    """
    if name == "cpu":
        return CpuDevice()
    import torch

    if torch.cuda.is_available():
        from asynckit.bench.cuda_device import CudaDevice

        return CudaDevice()
    if name == "auto":
        return CpuDevice()
    problem, mend = why_no_cuda(torch.version.cuda, os.environ.get("CUDA_VISIBLE_DEVICES"), _has_driver())
    raise DependencyError(problem, where="--device cuda", mend=mend)


def why_no_cuda(built_for: str | None, visible: str | None, driver: bool) -> tuple[str, str]:
    """What keeps torch from using a GPU, and what to do about it.

    Args:
        built_for: version of CUDA that torch was built for; None for a build without it.
        visible: what CUDA_VISIBLE_DEVICES is set to, None where it is not.
        driver: whether NVIDIA's kernel driver is loaded.
    """
    if built_for is None:
        return (
            "this build of torch is for CPUs only",
            "install a CUDA build of torch",
        )
    if visible is not None and visible.strip() in ("", "-1"):
        return f"CUDA_VISIBLE_DEVICES={visible!r} hides every GPU", "unset CUDA_VISIBLE_DEVICES"
    if not driver:
        return (
            "there is no NVIDIA driver on this machine",
            "run on a machine with a GPU, or take --device cpu",
        )
    return (
        f"torch (CUDA {built_for}) finds no GPU that it can use"
        + (f" with CUDA_VISIBLE_DEVICES={visible!r}" if visible is not None else ""),
        "see what `nvidia-smi` shows: the driver may be older than CUDA needs, or the GPU may be in use",
    )


def _has_driver() -> bool:
    return Path("/proc/driver/nvidia/version").exists() or Path("/dev/nvidiactl").exists() or _is_wsl()


def _is_wsl() -> bool:
    return sys.platform == "linux" and Path("/dev/dxg").exists()


def busy_gpu() -> Gpu | None:
    """The GPU that this process has begun to use; None if it has not, as far as torch knows."""
    torch: Any = sys.modules.get("torch")
    if torch is None or not torch.cuda.is_initialized():
        return None
    from asynckit.bench.cuda_device import CudaDevice

    return CudaDevice()
