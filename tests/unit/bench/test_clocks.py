"""Clocks: what they add up, and that they leave things as they were."""

import gc

import pytest
from hypothesis import given
from hypothesis import strategies as st

from asynckit.bench.clocks import CuptiWatch, EventWatch, HostWatch, Replayed, Work, covered, uncollected
from asynckit.bench.simulated_device import SimulatedGpu
from asynckit.errors import DependencyError

SPANS = st.lists(st.tuples(st.integers(0, 50), st.integers(0, 10)).map(lambda each: (each[0], sum(each))))


@given(SPANS)
def test_time_in_which_anything_ran_is_counted_once(spans: list[tuple[int, int]]) -> None:
    """Kernels on two streams at the same time count once, gaps not at all."""
    ticks = {tick for begin, end in spans for tick in range(begin, end)}
    assert covered(spans) == len(ticks)


def test_kernels_side_by_side_count_once_by_cupti() -> None:
    """Two streams that work at the same time take as long as the longer one."""
    gpu = SimulatedGpu(launch=0.0)

    def both() -> None:
        gpu.kernel(1e-3)
        gpu.kernel(2e-3, stream=1)

    assert CuptiWatch(gpu).seconds(both, cold=True) == pytest.approx(2e-3)


def test_cupti_that_saw_nothing_is_no_number() -> None:
    """Zero seconds would be the best result of all; it is an error."""
    gpu = SimulatedGpu()
    with pytest.raises(DependencyError, match="recorded no work"):
        CuptiWatch(gpu).seconds(lambda: None, cold=False)


def test_the_first_repetition_teaches_how_long_launching_takes() -> None:
    """Gaps count in the first repetition, and no longer when the stream is blocked for the launches."""
    gpu = SimulatedGpu(launch=4e-6)
    watch = EventWatch(gpu)

    def many() -> None:
        for _ in range(50):
            gpu.kernel(1e-6)

    assert watch.seconds(many, cold=False) > 150e-6
    assert watch.seconds(many, cold=False) == pytest.approx(50e-6, rel=0.01)
    assert (watch.taken, watch.outrun) == (1, 0)


def test_the_host_clock_waits_for_earlier_work_first() -> None:
    """What was launched before a repetition, the flush included, is not part of it."""
    gpu = SimulatedGpu()
    gpu.kernel(1.0)
    assert HostWatch(gpu).seconds(lambda: gpu.kernel(1e-3), cold=True) < 1.1e-3


def test_a_graph_is_captured_once_for_a_number_of_calls() -> None:
    """Repetitions replay; another number of calls is captured anew."""
    gpu, captures = SimulatedGpu(), list[int]()

    def function() -> None:
        captures.append(1)
        gpu.kernel(1e-3)

    running = Replayed(Work(function), gpu)
    for calls in (2, 2, 3):
        assert len(gpu.profile(running.ready(calls))) == calls
    assert len(captures) == 2 * (2 + 3)  # each is run to warm up, and then captured


def test_garbage_is_collected_again_afterwards() -> None:
    """The collector stays as the caller had it, on or off."""
    with uncollected():
        assert not gc.isenabled()
    assert gc.isenabled()
    gc.disable()
    try:
        with uncollected():
            pass
        assert not gc.isenabled()
    finally:
        gc.enable()
