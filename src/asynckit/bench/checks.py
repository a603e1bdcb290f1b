"""Checks of what is timed: a number is of use only if it is the time of the work that was meant.

Each returns what makes a timing doubtful, in words, or nothing. The checks with fresh inputs need ``setup``:
without it there is nothing that outputs would have to follow.
"""

import math
from collections.abc import Callable
from typing import Any

from asynckit.bench.clocks import Eager, EventWatch, Watch, Work, as_gpu
from asynckit.bench.devices import Act, Device, Gpu, busy_gpu
from asynckit.bench.outputs import buffers, copy_into, identical, same, snapshot
from asynckit.bench.results import Timing

_LONG_ENOUGH = 1e-3  # seconds of calls, next to which what waiting costs is small
_MOST_UNSEEN = 0.25  # share of the wall clock's time that events may miss
_MOST_OUTRUN = 0.1  # share of repetitions
_TRIES = 3
_SLOW = 0.1  # seconds of a call, of which one try tells enough


def before(device: Device, work: Work, clock: str) -> list[str]:
    """What speaks against timing this work on this device by this clock."""
    doubts = [frozen(work)]
    if clock == "events":
        doubts.append(on_another_stream(as_gpu(device, clock), work))
    if clock == "graph":
        doubts.append(missing_from_graph(as_gpu(device, clock), work))
    if device.kind == "cpu" and (gpu := busy_gpu()) is not None:
        doubts.append(goes_on_after_return(gpu, work))
    return [doubt for doubt in doubts if doubt]


def after(watch: Watch, timing: Timing, relative_error: float) -> list[str]:
    """What a timing that was taken shows against itself."""
    doubts = []
    repetition = timing.median * timing.calls
    if watch.resolution > relative_error * repetition:
        doubts.append(
            f"a repetition of {repetition * 1e6:.3g} µs is too short for a clock that resolves "
            f"{watch.resolution * 1e6:.2g} µs" + (" (cache=hot repeats calls)" * (timing.cache == "cold"))
        )
    if isinstance(watch, EventWatch) and watch.outrun > _MOST_OUTRUN * watch.taken:
        doubts.append(
            f"gaps between launches count in {watch.outrun} of {watch.taken} repetitions: it waits for the "
            "device, or launches for longer than the stream can be blocked"
        )
    return doubts


def wrong(work: Work, check: Callable[..., bool] | None, *, after: bool = False) -> list[str]:
    """Whether ``check(output, *inputs)`` refuses the output for fresh inputs."""
    if check is None:
        return []
    inputs = work.inputs()
    if check(work.function(*inputs), *inputs):
        return []
    return [f"the check says that the output is wrong{' after timing' * after}"]


def frozen(work: Work) -> str:
    """Whether outputs stay as they are when inputs change, as those of a cache or of a wrong capture do."""
    if work.setup is None:
        return ""
    first_inputs, first = _inputs_and_output(work)
    if not first:
        return ""
    changed = False
    for _ in range(_TRIES - 1):
        inputs, output = _inputs_and_output(work)
        changed = changed or not identical(inputs, first_inputs)
        if not identical(output, first):
            return ""
    return "the output is the same for other inputs: it may be a cached one" if changed else ""


def _inputs_and_output(work: Work) -> tuple[list[Any], list[Any]]:
    inputs = work.inputs()
    taken = snapshot(inputs)  # before the call, which may change them
    return taken, snapshot(work.function(*inputs))


def on_another_stream(device: Gpu, work: Work) -> str:
    """Whether the device works longer than events in the current stream see.

    The wall clock from an idle device to an idle device has all streams in it; events that see much less are
    in the wrong stream. Where kernels are shorter than their launches, no work is left when the last launch
    has returned, and events see as much; but then events in a blocked stream see no time between them.
    """
    running = Eager(work)
    wall, _ = _both(device, running.ready(1))
    calls = min(running.most_calls, max(1, math.ceil(_LONG_ENOUGH / max(wall, 1e-6))))
    tries = _TRIES if wall < _SLOW else 1
    shares = []
    for _ in range(tries):
        idle, _ = _both(device, _nothing)
        wall, seen = _both(device, running.ready(calls))
        shares.append(seen / max(wall - idle, 1e-9))
    if max(shares) < 1 - _MOST_UNSEEN:
        return (
            f"events see {max(shares):.0%} of the time that the device works: the rest is on another stream "
            "(clock=cupti and clock=host see all of them)"
        )
    if _sees_nothing(device, running, calls=10 if tries > 1 else 1, tries=tries):
        return "events see no work: it runs on another stream, or there is none"
    return ""


def _both(device: Gpu, act: Act) -> tuple[float, float]:
    """Seconds of the wall clock, and those that events see."""
    start, end = device.event(), device.event()
    device.synchronize()
    begin = device.now()
    start.record()
    act()
    end.record()
    device.synchronize()
    return (device.now() - begin) * 1e-9, end.seconds_since(start)


def _sees_nothing(device: Gpu, running: Eager, calls: int, tries: int) -> bool:
    """Whether calls in a blocked stream take no longer than none do."""
    return _blocked(device, lambda: running.ready(calls), tries) <= (
        2 * _blocked(device, lambda: _nothing, tries) + device.event_resolution()
    )


def _blocked(device: Gpu, ready: Callable[[], Act], tries: int) -> float:
    watch = EventWatch(device)
    watch.seconds(ready(), cold=False)  # not blocked yet: learns how long launching takes
    return min(watch.seconds(ready(), cold=False) for _ in range(tries))


def _nothing() -> None:
    pass


def missing_from_graph(device: Gpu, work: Work) -> str:
    """Whether replaying a graph does less than calling the function does.

    What the host computes, and what runs on a stream that was not captured, happens once and never again.
    Then the replayed output does not follow fresh inputs, or fewer kernels run. Of functions that differ from
    call to call over the same inputs, only the kernels can be counted.
    """
    fresh, static, spare = (work.inputs() for _ in range(3))
    replay = device.capture(lambda: work.function(*static))
    copy_into(static, fresh)
    copy_into(spare, fresh)
    eager = snapshot((work.function(*fresh), buffers(fresh)))
    again = snapshot((work.function(*spare), buffers(spare)))
    replayed = replay()
    device.synchronize()
    if same(eager, again) and not same(eager, snapshot((replayed, buffers(static)))):
        return "a replayed graph returns something else than the function: part of it was not captured"
    inputs = work.inputs()
    runs = len(device.profile(lambda: work.function(*inputs)))
    held = len(device.profile(replay))
    if held < runs:
        return f"the graph runs {held} kernels where the function runs {runs}: part of it was not captured"
    return ""


def goes_on_after_return(gpu: Gpu, work: Work) -> str:
    """Whether a GPU goes on working when the function has returned, which the CPU's clock does not see."""
    shares, waiting = [], gpu.host_resolution()
    for _ in range(_TRIES):
        act = Eager(work).ready(1)
        gpu.synchronize()
        begin = gpu.now()
        act()
        returned = gpu.now()
        gpu.synchronize()
        rest = (gpu.now() - returned) * 1e-9
        whole = (gpu.now() - begin) * 1e-9
        shares.append((rest - waiting) / max(whole, 1e-9))
    if min(shares) > _MOST_UNSEEN:
        return (
            f"a GPU works for {min(shares):.0%} of the time after the function has returned, and the CPU's "
            "clock does not wait for it (take device=cuda)"
        )
    return ""
