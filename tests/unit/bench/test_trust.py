"""Every way in which a row can be spoilt has its words, and a good row has none."""

from dataclasses import replace

import pytest
from made_reports import made_timing

from asynckit.bench.conditions import Conditions, CpuState, GpuState
from asynckit.bench.trust import doubts

QUIET = Conditions(at=100.0, process=11, cores=4, cpu=CpuState(busy=50.0, stolen=1.0, own=20.0))
FAST = GpuState(sm_clock=1980, held_down={"power cap": 5.0}, processes=(11,))
HOST = made_timing(clock="host")
EVENTS = made_timing(clock="events")


def later(state: Conditions, seconds: float = 2.0, own: float = 2.0) -> Conditions:
    """The state after this process alone has worked."""
    assert state.cpu
    cpu = replace(state.cpu, busy=state.cpu.busy + own, own=state.cpu.own + own)
    return replace(state, at=state.at + seconds, cpu=cpu)


def on_gpu(before: GpuState, after: GpuState) -> tuple[str, ...]:
    return doubts(EVENTS, replace(QUIET, gpu=before), replace(later(QUIET), gpu=after))


def test_a_good_row_is_not_doubted() -> None:
    """On a quiet CPU and on a GPU at full speed."""
    assert doubts(HOST, QUIET, later(QUIET)) == ()
    assert on_gpu(FAST, FAST) == ()


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"converged": False, "relative_error": 0.08}, "not converged: ±8.0% after 41 repetitions"),
        ({"drift": -0.06}, "drift: -6.0% from the first to the last third"),
        ({"outliers": 0.2}, "outliers: 20% of the repetitions"),
    ],
)
def test_times_that_cannot_be_trusted_say_why(changes: dict[str, float | bool], words: str) -> None:
    """Whatever the machine did."""
    assert doubts(made_timing(**changes), QUIET, later(QUIET)) == (words,)


def test_a_drift_within_the_error_is_none() -> None:
    """Noise moves a third's median by more than the whole's."""
    assert doubts(made_timing(drift=0.03, relative_error=0.02), QUIET, later(QUIET)) == ()


def test_throttling_is_counted_by_the_driver() -> None:
    """A glance before and after would miss what came and went in between."""
    after = replace(FAST, held_down={"power cap": 5.8})
    assert on_gpu(FAST, after) == ("throttled (power cap) for 40% of the time",)


def test_a_reason_that_nobody_counts_is_seen_at_a_glance() -> None:
    """Older drivers have no counters; clocks set by a person are what that person wants."""
    old = replace(FAST, held_down={})
    assert on_gpu(old, replace(old, reasons=("heat", "clocks set by a person"))) == ("throttled (heat)",)


def test_the_counter_beats_the_glance() -> None:
    """The last row's power cap, still shown when this one begins, is not this one's."""
    assert on_gpu(replace(FAST, reasons=("power cap",)), FAST) == ()


def test_clocks_that_moved_are_told_apart_from_a_gpu_that_slept() -> None:
    """An idle GPU lowers its clocks by design."""
    slow = replace(FAST, sm_clock=1410)
    assert on_gpu(FAST, slow) == ("clocks moved: 1980 to 1410 MHz",)
    assert on_gpu(replace(slow, reasons=("idle",)), FAST) == ()


@pytest.mark.parametrize(
    ("processes", "words"),
    [
        ((11, 12), ("1 other process on the GPU",)),
        ((12, 13, 14), ("2 other processes on the GPU, if one of those listed is this one",)),
        ((12,), ()),
        (None, ()),
    ],
)
def test_others_on_the_gpu_are_counted(processes: tuple[int, ...] | None, words: tuple[str, ...]) -> None:
    """In a container the numbers may be the host's, and one of them is this process."""
    assert on_gpu(FAST, replace(FAST, processes=processes)) == words


def test_not_seeing_is_a_doubt() -> None:
    """A GPU whose throttling nobody can see has passed no check."""
    blind = replace(later(QUIET), blind="nvidia-ml-py is not installed")
    assert doubts(EVENTS, QUIET, blind) == ("throttling cannot be seen: nvidia-ml-py is not installed",)
    refused = replace(FAST, held_down={}, unreadable={"throttling": "Not Supported"})
    assert on_gpu(refused, refused) == ("throttling cannot be seen: Not Supported",)


def test_a_busy_cpu_spoils_what_the_host_timed() -> None:
    """By others on it, or by the hypervisor; the GPU's own clock does not mind."""
    after = later(QUIET)
    assert after.cpu
    busy = replace(after, cpu=replace(after.cpu, busy=after.cpu.busy + 4.0))
    stolen = replace(after, cpu=replace(after.cpu, stolen=after.cpu.stolen + 0.8))
    assert doubts(HOST, QUIET, busy) == ("busy CPU: other processes took 2.0 of 4 cores",)
    assert doubts(HOST, QUIET, stolen) == ("busy host: the hypervisor gave 10% of the CPU to others",)
    assert doubts(EVENTS, QUIET, busy) == ()


def test_a_short_row_is_not_judged_by_counters_of_hundredths() -> None:
    """Rounding alone would look like a busy machine."""
    after = later(QUIET, seconds=0.05, own=0.0)
    assert after.cpu
    assert doubts(HOST, QUIET, replace(after, cpu=replace(after.cpu, busy=after.cpu.busy + 0.05))) == ()


def test_a_governor_that_holds_the_lowest_frequency_is_named() -> None:
    """It is the mend that matters."""
    (found,) = doubts(HOST, QUIET, replace(later(QUIET), fixed_low=True))
    assert "powersave" in found
