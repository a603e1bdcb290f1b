"""The records of a byte range of a file that has one per line."""

import hashlib
from collections.abc import Iterator

from asynckit.tokenization.inputs.access import ReadRange
from asynckit.tokenization.inputs.blocks import too_long
from asynckit.tokenization.inputs.pieces import LONGEST_RECORD, PIECE_BYTES, Piece

_FIRST_LOOK = 64 << 10


class LineRange:
    """Reads the bytes ``[start, end)`` once, and past the end to the end of their last line.

    Attributes:
        lines: newlines in ``[start, end)``, as far as it was read.
        begun: the line that goes on past the end, as far as it lies in the range.
    """

    def __init__(self, read: ReadRange, start: int, end: int, size: int) -> None:
        self._read = read
        self._start, self._end, self._size = start, end, size
        self._hash = hashlib.sha256()
        self.lines = 0
        self.begun = Piece(b"", start, 0)

    @property
    def digest(self) -> str:
        """SHA-256 of what was read of ``[start, end)``, in hex."""
        return self._hash.hexdigest()

    def pieces(self) -> Iterator[Piece]:
        """The lines that begin in the range, whole, some 4 MiB at a time.

        Raises:
            Unusable: the last line is too long; all of the range was read then.
        """
        pending = self.begun
        # A line that began earlier belongs to the range before: it is passed over up to its end.
        passing = self._start > 0 and self._read(self._start - 1, self._start) != b"\n"
        for position in range(self._start, self._end, PIECE_BYTES):
            data = self._own(position, min(position + PIECE_BYTES, self._end))
            if passing:
                begin = data.find(b"\n") + 1
                if not begin:
                    continue
                passing = False
                pending, data = Piece(b"", position + begin, 1), data[begin:]
            lines, pending = _split(pending, data)
            if lines.data:
                yield lines
        self.begun = pending
        if pending.data:
            yield Piece(self._to_the_end_of_line(pending.data), pending.start, pending.line)

    def _own(self, start: int, end: int) -> bytes:
        data = self._read(start, end)
        self._hash.update(data)
        self.lines += data.count(b"\n")
        return data

    def _to_the_end_of_line(self, beginning: bytes) -> bytes:
        parts, position, step = [beginning], self._end, _FIRST_LOOK
        while position < self._size:
            more = self._read(position, min(position + step, self._size))
            end = more.find(b"\n") + 1
            parts.append(more[: end or None])
            if end:
                break
            position += len(more)
            step = min(2 * step, PIECE_BYTES)
            if position - self._end + len(beginning) > LONGEST_RECORD:
                raise too_long()
        return b"".join(parts)


def _split(pending: Piece, data: bytes) -> tuple[Piece, Piece]:
    """The whole lines of ``pending`` and ``data``, and what comes after them."""
    data = pending.data + data
    cut = data.rfind(b"\n") + 1
    line = pending.line + data.count(b"\n", 0, cut)
    return Piece(data[:cut], pending.start, pending.line), Piece(data[cut:], pending.start + cut, line)
