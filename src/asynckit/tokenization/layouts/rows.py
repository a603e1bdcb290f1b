"""Rows in flat arrays: cut, put something around, count; no loop over rows."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from asynckit.tokenization.arrays import Ragged, offsets_of


class Around(NamedTuple):
    """Ids that stand before and after each row."""

    prefix: tuple[int, ...]
    suffix: tuple[int, ...]


def heads_mask(offsets: NDArray[np.int64], lengths: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Marks the first ``lengths[i]`` values of each row: bool ``[values]``."""
    rows = np.diff(offsets)
    runs = np.stack([lengths, rows - lengths], axis=1).ravel()
    return np.repeat(np.resize([True, False], len(runs)), runs)


def surrounded(
    values: NDArray[Any], offsets: NDArray[np.int64], prefix: Sequence[int], suffix: Sequence[int]
) -> NDArray[Any]:
    """The values with the same few before and after each row, in one pass."""
    rows = len(offsets) - 1
    before, after = len(prefix), len(suffix)
    if rows == 0 or before + after == 0:
        return values
    grown = offsets + np.arange(rows + 1) * (before + after)
    result = np.empty(int(grown[-1]), dtype=values.dtype)
    is_old = np.ones(len(result), dtype=np.bool_)
    for index, value in enumerate(prefix):
        is_old[grown[:-1] + index] = False
        result[grown[:-1] + index] = value
    for index, value in enumerate(suffix):
        is_old[grown[1:] - after + index] = False
        result[grown[1:] - after + index] = value
    result[is_old] = values
    return result


def surrounded_rows(ragged: Ragged, prefix: Sequence[int], suffix: Sequence[int]) -> Ragged:
    """The rows with the same few tokens before and after each."""
    added = len(prefix) + len(suffix)
    offsets = ragged.offsets + np.arange(len(ragged.offsets)) * added
    return Ragged(surrounded(ragged.values, ragged.offsets, prefix, suffix), offsets)


def begins_within(ragged: Ragged, ids: Sequence[int]) -> NDArray[np.bool_]:
    """Whether each row's first token is one of these: bool ``[rows]``."""
    return _one_of(ragged, ragged.offsets[:-1], ids)


def ends_within(ragged: Ragged, ids: Sequence[int]) -> NDArray[np.bool_]:
    """Whether each row's last token is one of these: bool ``[rows]``."""
    return _one_of(ragged, ragged.offsets[1:] - 1, ids)


def _one_of(ragged: Ragged, places: NDArray[np.int64], ids: Sequence[int]) -> NDArray[np.bool_]:
    result = ragged.lengths() > 0
    if len(ids) == 0:
        return np.zeros_like(result)
    result[result] = np.isin(ragged.values[places[result]], ids)
    return result


def row_sums(values: NDArray[Any], offsets: NDArray[np.int64]) -> NDArray[np.int64]:
    """Sum of each row's values, 0 for an empty one: int64 ``[rows]``."""
    return np.diff(offsets_of(values)[offsets])
