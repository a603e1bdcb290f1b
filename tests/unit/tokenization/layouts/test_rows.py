"""What is done to all rows at once is what would be done to each."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from asynckit.tokenization.arrays import Ragged, offsets_of
from asynckit.tokenization.layouts.rows import (
    begins_within,
    ends_within,
    heads_mask,
    row_sums,
    surrounded_rows,
)

ROWS = st.lists(st.lists(st.integers(0, 5), max_size=6), max_size=8)
FEW = st.lists(st.integers(0, 5), max_size=3)


def ragged(rows: list[list[int]]) -> Ragged:
    values = np.array([value for row in rows for value in row], dtype=np.uint32)
    return Ragged(values, offsets_of(np.array([len(row) for row in rows], dtype=np.int64)))


def listed(found: Ragged) -> list[list[int]]:
    return [found.row(index).tolist() for index in range(len(found.offsets) - 1)]


@given(ROWS, FEW, FEW)
def test_the_same_tokens_are_put_around_each_row(
    rows: list[list[int]], prefix: list[int], suffix: list[int]
) -> None:
    """Also around empty rows, and around none."""
    assert listed(surrounded_rows(ragged(rows), prefix, suffix)) == [prefix + row + suffix for row in rows]


@given(ROWS, FEW)
def test_ends_are_looked_at_in_each_row(rows: list[list[int]], ids: list[int]) -> None:
    """An empty row begins with nothing."""
    assert begins_within(ragged(rows), ids).tolist() == [bool(row) and row[0] in ids for row in rows]
    assert ends_within(ragged(rows), ids).tolist() == [bool(row) and row[-1] in ids for row in rows]


@given(ROWS, st.integers(0, 6))
def test_heads_are_the_first_tokens_of_each_row(rows: list[list[int]], length: int) -> None:
    """For cutting all rows in one step."""
    found = ragged(rows)
    chosen = heads_mask(found.offsets, np.minimum(found.lengths(), length))
    assert found.values[chosen].tolist() == [value for row in rows for value in row[:length]]
    assert row_sums(found.values, found.offsets).tolist() == [sum(row) for row in rows]
