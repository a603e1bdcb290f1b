"""A GPU that only exists in virtual time: what clocks and checks say of a function can be known beforehand.

It has what makes timing GPUs hard. The host goes on while kernels run, each on one of several streams, one
after the other; launching one takes the host time, and so does waiting. What a kernel reads is in the L2
cache the next time, until it is flushed. The first kernels are slow, all are noisy, and time stamps
are coarse. Nothing here looks at a real clock or sleeps.

Work is launched by :meth:`SimulatedGpu.kernel`. What it computes is a function of Python's, which runs when
the kernel does: not while a graph is captured, and again with each replay.
"""

import math
from collections import defaultdict
from collections.abc import Callable, Hashable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Self

import numpy as np

from asynckit.bench.devices import Act, Result
from asynckit.errors import WorkFailed

_FLUSH_SECONDS = 40e-6
_SLOW = 3.0  # times as long as later, before the device is warm


@dataclass(frozen=True)
class Kernel:
    """Something that takes a stream's time.

    Attributes:
        seconds: from an empty cache, without noise.
        work: what it computes.
        reads: name of the memory that it reads; None reads nothing that a cache would hold.
    """

    seconds: float
    work: Act | None
    reads: Hashable


class SimulatedEvent:
    """A place in the first stream."""

    def __init__(self, gpu: "SimulatedGpu") -> None:
        self._gpu = gpu
        self._at = math.nan

    def record(self) -> None:
        """Put it behind the work that is in the stream now."""
        self._at = self._gpu.free_at()

    def done(self) -> bool:
        """Whether the device has passed it."""
        return self._gpu.seconds() >= self._at

    def wait(self) -> None:
        """Let the host wait."""
        self._gpu.wait_until(self._at)

    def seconds_since(self, earlier: Self) -> float:
        """In whole ticks of the device."""
        tick = self._gpu.event_resolution()
        return (math.floor(self._at / tick) - math.floor(earlier._at / tick)) * tick


class SimulatedGpu:
    """A GPU in virtual time.

    Args:
        launch: seconds of the host for each kernel, copy or graph.
        wait: seconds of the host for each wait, beyond the work that is waited for.
        cached: share of its time that a kernel takes when the L2 cache has what it reads.
        noise: mean of what kernels take longer, as a share; exponentially distributed.
        slow_kernels: how many come before the device is warm.
        tick: of events, in seconds.
        seed: of the noise.
    """

    kind = "cuda"

    def __init__(
        self,
        *,
        launch: float = 4e-6,
        wait: float = 8e-6,
        cached: float = 0.4,
        noise: float = 0.0,
        slow_kernels: int = 0,
        tick: float = 3.2e-8,
        seed: int = 0,
    ) -> None:
        self._launch, self._wait, self._cached, self._noise, self._tick = launch, wait, cached, noise, tick
        self._slow_kernels = slow_kernels
        self._generator = np.random.Generator(np.random.Philox(seed))
        self._host = 0.0
        self._free: defaultdict[int, float] = defaultdict(float)
        self._l2: set[Hashable] = set()
        self._graph: list[Kernel] | None = None
        self._spans: list[tuple[float, float]] = []

    def kernel(
        self, seconds: float, *, work: Act | None = None, reads: Hashable = None, stream: int = 0
    ) -> None:
        """Launch a kernel; while a graph is captured, one in the first stream becomes part of it instead."""
        launched = Kernel(seconds, work, reads)
        if self._graph is not None and stream == 0:
            self._graph.append(launched)
            return
        self._host += self._launch
        self._run(launched, stream)

    def compute(self, seconds: float) -> None:
        """Let the host be busy."""
        self._host += seconds

    def seconds(self) -> float:
        """The host's time."""
        return self._host

    def free_at(self, stream: int = 0) -> float:
        """When the stream will have done what it has; now, if it has."""
        return max(self._host, self._free[stream])

    def wait_until(self, moment: float) -> None:
        """Let the host wait for the device."""
        if self._graph is not None:
            raise WorkFailed("it waits for the device while it is captured as a graph", where="clock=graph")
        self._host = max(self._host, moment) + self._wait

    def _run(self, kernel: Kernel, stream: int) -> None:
        begin = self.free_at(stream)
        self._free[stream] = end = begin + self._duration(kernel)
        self._spans.append((begin, end))
        if kernel.work is not None:
            kernel.work()

    def _duration(self, kernel: Kernel) -> float:
        share = self._cached if kernel.reads in self._l2 else 1.0
        if kernel.reads is not None:
            self._l2.add(kernel.reads)
        if self._slow_kernels:
            self._slow_kernels -= 1
            share *= _SLOW
        noise = self._noise * self._generator.exponential() if self._noise else 0.0
        return kernel.seconds * share * (1 + noise)

    def now(self) -> int:
        """The host's clock, in nanoseconds."""
        return round(self._host * 1e9)

    def synchronize(self) -> None:
        """Let the host wait for all streams."""
        self.wait_until(max(self._free.values(), default=0.0))

    def host_resolution(self) -> float:
        """What a wait for nothing takes."""
        return self._wait

    def flush(self) -> None:
        """Empty the L2 cache, which takes the first stream a while."""
        self._host += self._launch
        self._free[0] = self.free_at() + _FLUSH_SECONDS
        self._l2.clear()

    def peak_memory(self, act: Act) -> int | None:  # noqa: ARG002 - as all devices
        """None: there is no memory."""
        return None

    def range(self, name: str) -> AbstractContextManager[object]:  # noqa: ARG002 - as all devices
        """No-op: nobody profiles virtual time."""
        return nullcontext()

    def event_resolution(self) -> float:
        """The tick."""
        return self._tick

    def event(self) -> SimulatedEvent:
        """A new one."""
        return SimulatedEvent(self)

    def block(self, seconds: float) -> None:
        """Keep the first stream busy."""
        self._host += self._launch
        self._free[0] = self.free_at() + seconds

    def capture(self, act: Callable[[], Result]) -> Callable[[], Result]:
        """Run ``act`` to warm up, then collect what it launches in the first stream.

        Raises:
            WorkFailed: it waits for the device.
        """
        act()
        graph: list[Kernel] = []
        self._graph = graph
        try:
            result = act()
        finally:
            self._graph = None

        def replay() -> Result:
            self._host += self._launch
            for kernel in graph:
                self._run(kernel, stream=0)
            return result

        return replay

    def profile(self, act: Act) -> Sequence[tuple[float, float]]:
        """Begin and end of each kernel that ``act`` runs."""
        self._spans.clear()
        act()
        self.synchronize()
        return tuple(self._spans)
