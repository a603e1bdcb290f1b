"""Replacing ids and rows in flat arrays gives what doing it in lists gives."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from asynckit.tokenization.encoding.encoder import ragged
from asynckit.tokenization.encoding.splicing import Expansions, replace_rows

_FIRST = 10
_MEANINGS = ((1, 2, 3), (), None, (4,))
_ROWS = st.lists(st.lists(st.integers(0, _FIRST + len(_MEANINGS) - 1), max_size=6), max_size=6)


@given(rows=_ROWS)
def test_pseudo_ids_become_what_they_stand_for(rows: list[list[int]]) -> None:
    """In their row; rows with one that stands for nothing known are named."""
    found, unknown = Expansions(_FIRST, _MEANINGS).expand(ragged([np.array(row, np.uint32) for row in rows]))
    assert unknown.tolist() == [index for index, row in enumerate(rows) if _FIRST + 2 in row]
    for index, row in enumerate(rows):
        plain = [id_ for old in row for id_ in ((old,) if old < _FIRST else _MEANINGS[old - _FIRST] or ())]
        assert found.row(index).tolist() == plain


@given(rows=_ROWS, data=st.data())
def test_rows_are_replaced_where_they_stand(rows: list[list[int]], data: st.DataObject) -> None:
    """By longer and shorter ones; the others stay."""
    which = sorted(data.draw(st.sets(st.integers(0, len(rows) - 1)))) if rows else []
    new = [data.draw(st.lists(st.integers(0, 9), max_size=5)) for _ in which]
    old = ragged([np.array(row, np.uint32) for row in rows])
    found = replace_rows(old, np.array(which, np.int64), ragged([np.array(row, np.uint32) for row in new]))
    expected = list(rows)
    for index, row in zip(which, new, strict=True):
        expected[index] = row
    assert [found.row(index).tolist() for index in range(len(rows))] == expected
