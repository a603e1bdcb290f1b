"""Counter-based randomness: a number depends on its counters and on all of them."""

from hypothesis import given
from hypothesis import strategies as st

from asynckit.engine.counter import uniform


@given(st.integers(0, 2**63 - 1), st.integers(0, 2**20), st.integers(0, 2**20))
def test_uniform_is_in_range_and_counts_every_argument(seed: int, sample_index: int, position: int) -> None:
    """Neighbouring samples and positions get different numbers in [0, 1)."""
    value = uniform(seed, sample_index, position)
    assert 0 <= value < 1
    others = {uniform(seed, sample_index + 1, position), uniform(seed, sample_index, position + 1)}
    assert value not in others
    assert len(others) == 2
