"""Long series in little room."""

import math

from hypothesis import given
from hypothesis import strategies as st

from asynckit.rollout.observing.series import Series


@given(values=st.lists(st.none() | st.floats(-1e3, 1e3), max_size=300), half=st.integers(1, 8))
def test_stretches_are_even_few_and_lose_nothing(values: list[float | None], half: int) -> None:
    """However long the series, each value is in the mean of its own stretch."""
    series = Series(limit=2 * half)
    for value in values:
        series.add(value)
    assert len(series.means) <= 2 * half
    assert len(series.means) == math.ceil(len(values) / series.width)
    for at, mean in enumerate(series.means):
        known = [each for each in values[at * series.width : (at + 1) * series.width] if each is not None]
        assert (mean is None) == (not known)
        assert mean is None or math.isclose(mean, sum(known) / len(known), abs_tol=1e-6)
