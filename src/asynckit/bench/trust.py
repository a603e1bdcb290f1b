"""Whether a row can be trusted, and if not, why: from its times and what the machine did meanwhile. Pure.

What :func:`asynckit.bench.timing.measure` finds by itself (wrong streams, frozen outputs, repetitions that
are too short for their clock) comes on top.
"""

from collections.abc import Iterator

from asynckit.bench.conditions import CHOSEN, IDLE, Conditions, GpuState
from asynckit.bench.results import Timing

MOST_DRIFT = 0.02
DRIFT_BY_CHANCE = 4  # times the relative error: medians of thirds differ by as much only once in a thousand
MOST_OUTLIERS = 0.1
MOST_THROTTLED = 0.01  # of the time a row took
MOST_CLOCK_CHANGE = 0.03
MOST_OTHER_WORK = 0.1  # of all cores' time
SHORTEST_WATCH = 0.2  # seconds; Linux counts work in hundredths
NOT_CONVERGED = "not converged"  # how that doubt begins
_HARMLESS = {IDLE, CHOSEN}


def doubts(timing: Timing, before: Conditions, after: Conditions) -> tuple[str, ...]:
    """What makes a row untrustworthy, in words; empty where nothing does.

    Args:
        timing: of the row.
        before: what the machine did just before it.
        after: and just after.
    """
    found = [*timing_doubts(timing), *gpu_doubts(before, after)]
    if timing.clock == "host":  # on a GPU's own clock, the host only decides how soon work is queued
        found += cpu_doubts(before, after)
    return tuple(dict.fromkeys(found))


def timing_doubts(timing: Timing) -> Iterator[str]:
    """Doubts that the times raise by themselves."""
    if not timing.converged:
        yield f"{NOT_CONVERGED}: ±{timing.relative_error:.1%} after {timing.repetitions} repetitions"
    if abs(timing.drift) > max(MOST_DRIFT, DRIFT_BY_CHANCE * timing.relative_error):
        yield f"drift: {timing.drift:+.1%} from the first to the last third"
    if timing.outliers > MOST_OUTLIERS:
        yield f"outliers: {timing.outliers:.0%} of the repetitions"


def gpu_doubts(before: Conditions, after: Conditions) -> Iterator[str]:
    """Doubts that the GPU's sensors raise; that there are none is one, where a GPU is used."""
    if after.blind:
        yield f"throttling cannot be seen: {after.blind}"
    if before.gpu is None or after.gpu is None:
        return
    yield from _throttled(before.gpu, after.gpu, after.at - before.at)
    yield from _clocks_moved(before.gpu, after.gpu)
    yield from _others_on_gpu(after.gpu, after.process)
    if "throttling" in after.gpu.unreadable and not after.gpu.held_down:
        yield f"throttling cannot be seen: {after.gpu.unreadable['throttling']}"


def cpu_doubts(before: Conditions, after: Conditions) -> Iterator[str]:
    """Doubts that the CPU's counters raise."""
    if after.fixed_low:
        yield "the governor powersave holds the CPU at its lowest frequency"
    elapsed = after.at - before.at
    if before.cpu is None or after.cpu is None or elapsed < SHORTEST_WATCH:
        return
    capacity = elapsed * after.cores
    own = after.cpu.own - before.cpu.own
    others = (after.cpu.busy - before.cpu.busy - own) / capacity
    stolen = (after.cpu.stolen - before.cpu.stolen) / capacity
    if others > MOST_OTHER_WORK:
        yield f"busy CPU: other processes took {others * after.cores:.1f} of {after.cores} cores"
    if stolen > MOST_OTHER_WORK / 2:
        yield f"busy host: the hypervisor gave {stolen:.0%} of the CPU to others"


def _throttled(before: GpuState, after: GpuState, elapsed: float) -> Iterator[str]:
    counted = {
        reason: seconds - before.held_down.get(reason, seconds) for reason, seconds in after.held_down.items()
    }
    for reason, seconds in counted.items():
        if elapsed > 0 and seconds > MOST_THROTTLED * elapsed:
            yield f"throttled ({reason}) for {min(1.0, seconds / elapsed):.0%} of the time"
    seen = [each for each in (*before.reasons, *after.reasons) if each not in _HARMLESS]
    for reason in dict.fromkeys(seen):
        if reason not in counted:  # else the counter knows better than two glances
            yield f"throttled ({reason})"


def _clocks_moved(before: GpuState, after: GpuState) -> Iterator[str]:
    """An idle GPU lowers its clocks; that says nothing of the row."""
    if IDLE in (*before.reasons, *after.reasons) or not before.sm_clock or not after.sm_clock:
        return
    change = after.sm_clock / before.sm_clock - 1
    if abs(change) > MOST_CLOCK_CHANGE:
        yield f"clocks moved: {before.sm_clock} to {after.sm_clock} MHz"


def _others_on_gpu(after: GpuState, process: int) -> Iterator[str]:
    """In a container, this process may be listed under a number that it does not know: one of them is it."""
    listed = after.processes or ()
    others = len(listed) - 1
    if others > 0:
        whose = "" if process in listed else ", if one of those listed is this one"
        yield f"{others} other process{'es' if others > 1 else ''} on the GPU{whose}"
