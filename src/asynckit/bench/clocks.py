"""Clocks: what turns a function into seconds.

A repetition is a number of calls of the function, run in one of two ways and timed by one of three watches::

    clock    run       timed by
    host     eagerly   the host's clock, once the device is idle and until it is again
    events   eagerly   CUDA events in the stream, which is blocked until all launches have been made
    graph    replayed  the same, around one replay of a graph that holds all calls
    cupti    eagerly   the time in which any kernel or copy ran, by CUPTI's record of each (torch.profiler)

Only the host's clock has in it what launching costs. Events see their own stream only. CUPTI sees all streams
but none of the gaps between kernels.
"""

import gc
import math
from collections.abc import Callable, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import repeat
from typing import TYPE_CHECKING, Any, Protocol

from asynckit.bench.outputs import copy_into
from asynckit.errors import DependencyError, UsageError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from asynckit.bench.devices import Act, Device, Gpu

_LONGEST_BLOCK = 0.2  # seconds; the launch queue of a GPU is full long before
_SPARE_BLOCK = 50e-6
_MOST_CALLS = 10_000
_MOST_PREPARED = 256  # calls whose inputs are all held at the same time, or that one graph holds


@dataclass(frozen=True)
class Work:
    """A function and where its inputs come from.

    Attributes:
        function: what is timed.
        setup: returns fresh inputs of one call: a tuple of them, or the only one; None if it takes none.
    """

    function: Callable[..., Any]
    setup: Callable[[], Any] | None = None

    def inputs(self) -> tuple[Any, ...]:
        """Fresh ones."""
        if self.setup is None:
            return ()
        made = self.setup()
        return made if isinstance(made, tuple) else (made,)


class Running(Protocol):
    """A way to run calls."""

    @property
    def most_calls(self) -> int:
        """In one repetition."""

    def ready(self, calls: int) -> "Act":
        """Prepare inputs for as many calls; what is returned runs them all, once, and nothing else."""


class Eager:
    """Calls the function as anybody would."""

    def __init__(self, work: Work) -> None:
        self._work = work
        self.most_calls = _MOST_PREPARED if work.setup else _MOST_CALLS

    def ready(self, calls: int) -> "Act":
        """Prepare the inputs of each call."""
        function = self._work.function
        if self._work.setup is None:
            return lambda: _call(function, calls)
        prepared = [self._work.inputs() for _ in range(calls)]
        return lambda: _call_with(function, prepared)


def _call(function: "Act", calls: int) -> None:
    for _ in repeat(None, calls):
        function()


def _call_with(function: Callable[..., object], prepared: Sequence[tuple[Any, ...]]) -> None:
    for inputs in prepared:
        function(*inputs)


class Replayed:
    """Captures as many calls as are asked for as one graph, and replays it over fresh inputs.

    The graph reads its inputs where they were when it was captured; fresh ones are copied there beforehand.
    """

    most_calls = _MOST_PREPARED

    def __init__(self, work: Work, device: "Gpu") -> None:
        self._work, self._device = work, device
        self._calls = 0
        self._static: list[tuple[Any, ...]] = []
        self._replay: Act = _nothing

    def ready(self, calls: int) -> "Act":
        """Capture, if the number of calls is new, and copy fresh inputs to where the graph reads them."""
        if calls != self._calls:
            self._static = [self._work.inputs() for _ in range(calls)]
            self._replay = self._device.capture(lambda: _call_with(self._work.function, self._static))
            self._calls = calls
        for static in self._static:
            copy_into(static, self._work.inputs())
        return self._replay


def _nothing() -> None:
    pass


class Watch(Protocol):
    """What reads the time of one repetition."""

    @property
    def resolution(self) -> float:
        """Seconds that it cannot tell from nothing."""

    def seconds(self, act: "Act", *, cold: bool) -> float:
        """Run ``act`` once, caches flushed before it if ``cold``, and say how long it took."""


class HostWatch:
    """The host's clock, from an idle device to an idle device."""

    def __init__(self, device: "Device") -> None:
        self._device = device
        self.resolution = device.host_resolution()

    def seconds(self, act: "Act", *, cold: bool) -> float:
        """Of the host, waiting for the device included."""
        if cold:
            self._device.flush()
        self._device.synchronize()
        with uncollected():
            begin = self._device.now()
            act()
            self._device.synchronize()
            return (self._device.now() - begin) * 1e-9


@contextmanager
def uncollected() -> "Iterator[None]":
    """Keep Python's garbage collector from running inside."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


class EventWatch:
    """Events in the stream, which is blocked while the host launches, so that no gap between launches counts.

    How long it has to be blocked is how long launching took at best before, and some more. So one watch is
    good only for repetitions of as many calls, and the first of them is not blocked yet.

    Attributes:
        taken: repetitions that were timed while blocking.
        outrun: of them, those in which the block had ended before everything was launched.
    """

    def __init__(self, device: "Gpu") -> None:
        self._device = device
        self.resolution = device.event_resolution()
        self._launching = math.inf
        self.taken = self.outrun = 0

    def seconds(self, act: "Act", *, cold: bool) -> float:
        """Of the device, between the events around ``act``."""
        device, blocking = self._device, math.isfinite(self._launching)
        start, end = device.event(), device.event()
        if cold:
            device.flush()
        if blocking:
            device.block(min(2 * self._launching + _SPARE_BLOCK, _LONGEST_BLOCK))
        start.record()
        with uncollected():
            begin = device.now()
            act()
            self._launching = min(self._launching, (device.now() - begin) * 1e-9)
        self.taken += blocking
        self.outrun += blocking and start.done()
        end.record()
        end.wait()
        return end.seconds_since(start)


class CuptiWatch:
    """CUPTI's record of what ran on the device."""

    resolution = 1e-8  # its time stamps are in nanoseconds, in steps of up to 32 on some GPUs

    def __init__(self, device: "Gpu") -> None:
        self._device = device

    def seconds(self, act: "Act", *, cold: bool) -> float:
        """In which at least one kernel or copy ran.

        Raises:
            DependencyError: CUPTI recorded nothing.
        """
        if cold:
            self._device.flush()
        self._device.synchronize()
        spans = self._device.profile(act)
        if not spans:
            raise DependencyError(
                "CUPTI recorded no work on the GPU",
                where="clock=cupti",
                mend="is another profiler attached, or the permission missing "
                "(NVreg_RestrictProfilingToAdminUsers)? Otherwise the function runs nothing there; take "
                "clock=events or clock=host",
            )
        return covered(spans)


def covered(spans: Sequence[tuple[float, float]]) -> float:
    """Seconds that at least one of the spans covers."""
    total, reached = 0.0, -math.inf
    for begin, end in sorted(spans):
        total += max(0.0, end - max(begin, reached))
        reached = max(reached, end)
    return total


def as_gpu(device: "Device", clock: str) -> "Gpu":
    """The device, if it can be timed by such a clock.

    Raises:
        UsageError: it can't.
    """
    from asynckit.bench.devices import Gpu

    if not isinstance(device, Gpu):
        raise UsageError(f"a {device.kind} has no clock {clock!r}", where="clock", mend="take clock=host")
    return device
