"""The order in which sequences are served."""

from hypothesis import given
from hypothesis import strategies as st

from asynckit.engine.ranking import Ranking
from asynckit.engine.request import Request, Sequence


@given(st.lists(st.tuples(st.integers(-2, 2), st.integers(0, 50)), unique=True), st.data())
def test_sequences_stay_sorted_whatever_comes_and_goes(
    ranks: list[tuple[int, int]], data: st.DataObject
) -> None:
    """Lower priority numbers first, then earlier arrivals; membership is by identity."""
    everyone = [Sequence(Request("r", (1,)), 0, [1], rank=rank) for rank in ranks]
    removed = data.draw(st.lists(st.sampled_from(everyone), unique=True)) if everyone else []
    ranking = Ranking()
    for sequence in everyone:
        ranking.add(sequence)
    for sequence in removed:
        ranking.remove(sequence)
    left = sorted((s for s in everyone if s not in removed), key=lambda s: s.rank)
    assert list(ranking) == left
    assert len(ranking) == len(left)
    assert [s in ranking for s in everyone] == [s not in removed for s in everyone]
    if left:
        assert (ranking.first, ranking.last) == (left[0], left[-1])
        assert Sequence(Request("r", (1,)), 0, [1], rank=left[0].rank) not in ranking
