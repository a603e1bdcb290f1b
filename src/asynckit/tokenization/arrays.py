"""Many token sequences in two flat arrays, without a Python object per token."""

from collections.abc import Callable
from typing import NamedTuple

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


Encode = Callable[[list[str]], Ragged]
"""Ids of texts, a row each, without special tokens around them."""
