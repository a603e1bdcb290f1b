"""Steps between the times of records, counted."""

from asynckit.rollout.planning.step_counts import Interval, count_steps
from asynckit.rollout.planning.workload import RecordedSample


def sample(first: float, end: float, tokens: int) -> RecordedSample:
    return RecordedSample("g", (1,), tokens, 0.0, first, end)


def test_steps_are_counted_across_samples() -> None:
    """Two that start together end 3 and 8 steps later; the third takes the first one's place at once."""
    found = count_steps([sample(1.0, 4.0, 4), sample(1.0, 9.0, 9), sample(5.0, 7.0, 3)])
    assert found == [
        Interval(1.0, 4.0, 3),
        Interval(4.0, 5.0, 1),
        Interval(5.0, 7.0, 2),
        Interval(7.0, 9.0, 2),
    ]


def test_what_is_not_connected_is_left_out() -> None:
    """Nobody knows how long the engine did nothing between two samples with a gap."""
    found = count_steps([sample(1.0, 3.0, 3), sample(2.0, 6.0, 5)])
    assert found == [Interval(1.0, 3.0, 2)] or all(interval.steps > 0 for interval in found)
    assert count_steps([sample(1.0, 1.0, 1)]) == []


def test_contradictions_yield_no_negative_steps() -> None:
    """Preempted samples take longer than their tokens say."""
    found = count_steps([sample(1.0, 9.0, 2), sample(1.0, 4.0, 6), sample(2.0, 9.0, 3)])
    assert all(interval.steps > 0 for interval in found)
