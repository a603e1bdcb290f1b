"""Replacing ids and rows in flat arrays of tokens."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from asynckit.tokenization.arrays import Ragged, offsets_of, ranges


class Expansions:
    """Pseudo ids and what they stand for.

    Args:
        first: the lowest pseudo id; none above the vocabulary is anything else.
        meanings: by pseudo id, the ids it stands for, or None where a text has to be encoded otherwise.
    """

    def __init__(self, first: int, meanings: Sequence[tuple[int, ...] | None]) -> None:
        self._first = first
        self._known = np.array([meaning is not None for meaning in meanings], bool)
        self._lengths = np.array([len(meaning or ()) for meaning in meanings], np.int64)
        self._firsts = np.cumsum(self._lengths) - self._lengths
        self._ids = np.array([id_ for meaning in meanings for id_ in meaning or ()], np.uint32)

    def expand(self, rows: Ragged) -> tuple[Ragged, NDArray[np.int64]]:
        """The rows with true ids, and which rows still have to be encoded otherwise."""
        ids, offsets = rows
        nothing = np.zeros(0, np.int64)
        if not ids.size or ids.max() < self._first:
            return rows, nothing
        at = np.flatnonzero(ids >= self._first)
        pseudo = ids[at].astype(np.int64) - self._first
        in_rows = np.searchsorted(offsets, at, side="right") - 1
        counts = np.ones(ids.size, np.int64)
        counts[at] = self._lengths[pseudo]
        starts = offsets_of(counts)
        expanded = np.repeat(ids, counts)
        expanded[ranges(starts[at], counts[at])] = self._ids[ranges(self._firsts[pseudo], counts[at])]
        return Ragged(expanded, starts[offsets]), np.unique(in_rows[~self._known[pseudo]])


def replace_rows(rows: Ragged, which: NDArray[np.int64], new: Ragged) -> Ragged:
    """Rows with some of them replaced.

    Args:
        rows: all.
        which: indices of those to replace, ascending.
        new: what they become, in that order.
    """
    lengths = rows.lengths()
    lengths[which] = new.lengths()
    offsets = offsets_of(lengths)
    values = np.empty(offsets[-1], np.uint32)
    kept = np.ones(len(lengths), bool)
    kept[which] = False
    kept_rows = np.flatnonzero(kept)
    values[ranges(offsets[kept_rows], lengths[kept_rows])] = rows.values[
        ranges(rows.offsets[kept_rows], lengths[kept_rows])
    ]
    values[ranges(offsets[which], lengths[which])] = new.values
    return Ragged(values, offsets)
