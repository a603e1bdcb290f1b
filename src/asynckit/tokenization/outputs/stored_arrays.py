"""One long array that lies on the disk in pieces, such as the row groups of a Parquet file."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from asynckit.tokenization.arrays import offsets_of


class StoredArray:
    """Numbers that are read when they are asked for; a mapped file is one piece, and never copied.

    The piece that was read last is kept, so that neighbours cost one reading of a compressed one.
    """

    def __init__(
        self, lengths: Sequence[int], dtype: np.dtype[Any], read_piece: Callable[[int], NDArray[Any]]
    ) -> None:
        """Take what is known without reading.

        Args:
            lengths: of the pieces.
            dtype: of the numbers.
            read_piece: gives the piece of a number.
        """
        self.dtype = dtype
        self._borders = offsets_of(lengths)
        self._read_piece = read_piece
        self._last: tuple[int, NDArray[Any]] | None = None

    @classmethod
    def of(cls, array: NDArray[Any]) -> "StoredArray":
        """An array that is in memory, or mapped."""
        return cls([len(array)], array.dtype, lambda _: array)

    def __len__(self) -> int:
        return int(self._borders[-1])

    def read(self, start: int, stop: int) -> NDArray[Any]:
        """``[start:stop]`` with ``0 <= start <= stop <= len``: a view within one piece, else a copy."""
        assert 0 <= start <= stop <= len(self)
        first = int(np.searchsorted(self._borders, start, side="right")) - 1
        found = []
        while start < stop:
            begin, end = self._borders[first : first + 2].tolist()
            if begin < end:
                found.append(self._piece(first)[start - begin : min(stop, end) - begin])
            start, first = end, first + 1
        return found[0] if len(found) == 1 else np.concatenate([np.empty(0, self.dtype), *found])

    def pieces(self) -> Iterator[NDArray[Any]]:
        """Yield all of it, a piece at a time."""
        for number in range(len(self._borders) - 1):
            yield self._piece(number)

    def _piece(self, number: int) -> NDArray[Any]:
        if self._last is None or self._last[0] != number:
            self._last = (number, self._read_piece(number))
        return self._last[1]
