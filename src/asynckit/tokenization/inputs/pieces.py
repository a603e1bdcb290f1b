"""What travels inside the inputs: bytes that hold whole records, and what was found in them."""

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from asynckit.tokenization.inputs.faults import Fault

PIECE_BYTES = 4 << 20
LONGEST_RECORD = 256 << 20
BYTE_ORDER_MARK = b"\xef\xbb\xbf"


class Piece(NamedTuple):
    """Whole records of a unit.

    Attributes:
        data: their bytes.
        start: of the first byte in the decompressed source.
        line: lines of the unit before it.
    """

    data: bytes
    start: int
    line: int

    def without_mark(self) -> "Piece":
        """Itself, without the byte-order mark that a source may begin with."""
        if self.start or not self.data.startswith(BYTE_ORDER_MARK):
            return self
        size = len(BYTE_ORDER_MARK)
        return Piece(self.data[size:], size, self.line)


class Spans(NamedTuple):
    """Where records lie in a piece, int64 ``[records]`` each.

    Attributes:
        starts: first bytes, from the start of the piece.
        ends: after the last bytes; the end of a line belongs to none.
        lines: line of each in the piece, from 0.
    """

    starts: NDArray[np.int64]
    ends: NDArray[np.int64]
    lines: NDArray[np.int64]

    def kept(self, which: NDArray[np.int64] | NDArray[np.bool_]) -> "Spans":
        """Some of them."""
        return Spans(self.starts[which], self.ends[which], self.lines[which])


class Parsed(NamedTuple):
    """What a piece holds.

    Attributes:
        columns: values of the records that can be used ``[fields][records]``.
        spans: where these lie.
        faults: the others.
    """

    columns: tuple[list[Any], ...]
    spans: Spans
    faults: list[Fault]


def spans_of_lines(data: bytes) -> Spans:
    r"""The lines of ``data``, without ``\n`` and ``\r\n``; nothing comes after a last ``\n``."""
    codes = np.frombuffer(data, np.uint8)
    ends = np.flatnonzero(codes == 10)
    if data and not data.endswith(b"\n"):
        ends = np.append(ends, len(data))
    starts = np.zeros_like(ends)
    starts[1:] = ends[:-1] + 1
    ends = ends - ((ends > starts) & (codes[ends - 1] == 13))
    return Spans(starts, ends, np.arange(len(ends), dtype=np.int64))


def lines_at(data: bytes, positions: NDArray[np.int64]) -> NDArray[np.int64]:
    """The lines, from 0, on which ``positions`` lie."""
    newlines = np.flatnonzero(np.frombuffer(data, np.uint8) == 10)
    return np.searchsorted(newlines, positions)
