"""A CUDA device, through torch: events, a kernel that spins, graphs, and CUPTI's record of kernels."""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from itertools import pairwise
from time import perf_counter_ns
from typing import Any, Self, cast

import numpy as np
import torch

from asynckit.bench.devices import Act, Result
from asynckit.errors import WorkFailed
from asynckit.nvtx import ranges

_CALIBRATION = 2_000_000  # cycles: about a millisecond
_UNKNOWN_L2 = 128 << 20
_DOCUMENTED_RESOLUTION = 5e-7  # of cudaEventElapsedTime
_PROBES = 64


class CudaEvent:
    """An event in the stream that is current when it is recorded."""

    def __init__(self) -> None:
        self._event = torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]

    def record(self) -> None:
        """Put it behind the work that is in the current stream now."""
        self._event.record()

    def done(self) -> bool:
        """Whether the device has passed it."""
        return bool(self._event.query())  # type: ignore[no-untyped-call]

    def wait(self) -> None:
        """Wait until the device has passed it."""
        self._event.synchronize()

    def seconds_since(self, earlier: Self) -> float:
        """Seconds of the device from ``earlier`` to this one."""
        return float(earlier._event.elapsed_time(self._event)) * 1e-3


class CudaDevice:
    """torch's current CUDA device.

    Raises:
        RuntimeError: there is none; :func:`asynckit.bench.devices.choose_device` says why.
    """

    kind = "cuda"

    def __init__(self) -> None:
        torch.cuda.init()  # type: ignore[no-untyped-call]
        self._index = torch.cuda.current_device()
        self._flushing: torch.Tensor | None = None
        self._cycles_per_second = 0.0
        self._ranges = ranges()

    def now(self) -> int:
        """The host's clock, in nanoseconds."""
        return perf_counter_ns()

    def synchronize(self) -> None:
        """Wait until all streams are idle."""
        torch.cuda.synchronize(self._index)

    def host_resolution(self) -> float:
        """What waiting for an idle device takes, in seconds: the median of some waits."""
        self.synchronize()
        readings = []
        for _ in range(_PROBES):
            begin = perf_counter_ns()
            self.synchronize()
            readings.append(perf_counter_ns() - begin)
        return float(np.median(readings)) * 1e-9

    def flush(self) -> None:
        """Write zeros to twice as much memory as the L2 cache holds."""
        if self._flushing is None:
            l2 = torch.cuda.get_device_properties(self._index).L2_cache_size or _UNKNOWN_L2
            self._flushing = torch.empty(2 * l2, dtype=torch.uint8, device=f"cuda:{self._index}")
        self._flushing.zero_()

    def peak_memory(self, act: Act) -> int | None:
        """Run ``act`` and say how much of torch's memory was taken at most; not that of flushing."""
        self.synchronize()
        torch.cuda.reset_peak_memory_stats(self._index)
        act()
        self.synchronize()
        own = 0 if self._flushing is None else self._flushing.numel()
        return torch.cuda.max_memory_allocated(self._index) - own

    def range(self, name: str) -> AbstractContextManager[object]:
        """An NVTX range."""
        return self._ranges(name)

    def event_resolution(self) -> float:
        """The step in which times between events that follow each other differ, in seconds.

        At most the one that CUDA documents, which is coarser than what recent GPUs do.
        """
        events = [CudaEvent() for _ in range(_PROBES)]
        for event in events:
            event.record()
        self.synchronize()
        apart = [later.seconds_since(earlier) * 1e9 for earlier, later in pairwise(events)]
        steps = np.diff(np.unique(np.round(apart)))  # nanoseconds
        return min(float(steps.min(initial=np.inf)) * 1e-9, _DOCUMENTED_RESOLUTION)

    def event(self) -> CudaEvent:
        """A new one."""
        return CudaEvent()

    def block(self, seconds: float) -> None:
        """Launch a kernel that spins for about as long."""
        if not self._cycles_per_second:
            _spin(10 * _CALIBRATION)  # loads the kernel, and brings the clocks up
            self._cycles_per_second = _CALIBRATION / min(_time_spinning(_CALIBRATION) for _ in range(3))
        _spin(int(seconds * self._cycles_per_second))

    def capture(self, act: Callable[[], Result]) -> Callable[[], Result]:
        """Run ``act`` on another stream to warm up, then capture it.

        Raises:
            WorkFailed: it does what a graph cannot hold, such as waiting for the device.
        """
        from asynckit.engine.decode_graphs import CudaCapture

        capture = cast("Any", CudaCapture(torch.device("cuda", self._index)))  # of whatever ``act`` returns
        try:
            return cast("Callable[[], Result]", capture(act))
        except RuntimeError as error:
            raise WorkFailed(
                f"it cannot be captured as a CUDA graph: {error}",
                where="clock=graph",
                mend="a graph cannot hold what waits for the device or allocates on it; take clock=events",
            ) from error

    def profile(self, act: Act) -> Sequence[tuple[float, float]]:
        """Begin and end, in seconds, of each kernel, copy and fill that ``act`` runs; empty without CUPTI."""
        from torch.profiler import ProfilerActivity, profile

        self.synchronize()
        with profile(activities=[ProfilerActivity.CUDA]) as profiler:
            act()
            self.synchronize()
        events = profiler.events() or ()
        ran = (each for each in events if each.device_type.name == "CUDA" and not each.is_user_annotation)
        return [(each.time_range.start * 1e-6, each.time_range.end * 1e-6) for each in ran]


def _time_spinning(cycles: int) -> float:
    start, end = CudaEvent(), CudaEvent()
    start.record()
    _spin(cycles)
    end.record()
    end.wait()
    return end.seconds_since(start)


def _spin(cycles: int) -> None:
    torch.cuda._sleep(cycles)  # type: ignore[no-untyped-call]  # noqa: SLF001 - has no public name
