"""Many token sequences in two flat arrays, without a Python object per token."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray


class Ragged(NamedTuple):
    """Rows of different lengths, one after another.

    Attributes:
        values: uint32 ``[tokens]``.
        offsets: int64 ``[rows + 1]``: row ``i`` is ``values[offsets[i]:offsets[i + 1]]``.
    """

    values: NDArray[np.uint32]
    offsets: NDArray[np.int64]

    def row(self, index: int) -> NDArray[np.uint32]:
        """One row, without a copy."""
        return self.values[self.offsets[index] : self.offsets[index + 1]]

    def lengths(self) -> NDArray[np.int64]:
        """How many tokens each row has ``[rows]``."""
        return np.diff(self.offsets)


def offsets_of(lengths: Sequence[int] | NDArray[Any]) -> NDArray[np.int64]:
    """Where rows of these lengths begin, and the end of the last: int64 ``[rows + 1]``."""
    offsets = np.zeros(len(lengths) + 1, np.int64)
    np.cumsum(lengths, out=offsets[1:])
    return offsets


def ranges(starts: NDArray[np.int64], lengths: NDArray[np.int64]) -> NDArray[np.int64]:
    """The numbers of several ranges, one after another: int64 ``[sum of lengths]``."""
    ends = np.cumsum(lengths)
    before = np.repeat(starts - (ends - lengths), lengths)
    return before + np.arange(before.size)


Encode = Callable[[list[str]], Ragged]
"""Ids of texts, a row each, without special tokens around them."""
