"""Streams cut into blocks of whole records, in the memory of one block."""

from collections.abc import Iterable, Iterator

from asynckit.tokenization.inputs.access import faults_named, opened
from asynckit.tokenization.inputs.cutting import Cut, cut_of
from asynckit.tokenization.inputs.decompression import chunks_of
from asynckit.tokenization.inputs.faults import BrokenSource, Unusable
from asynckit.tokenization.inputs.json_lists import is_cut_off
from asynckit.tokenization.inputs.pieces import LONGEST_RECORD
from asynckit.tokenization.inputs.places import shown_name
from asynckit.tokenization.records import Source


def cut_into_blocks(source: Source, block_bytes: int) -> Iterator[tuple[int, bytes]]:
    """Blocks of a source with the place of each in what it decompresses to.

    A block ends at the last end of a record in ``block_bytes``, or is one longer record.
    """
    start, block = 0, b""
    with opened(source) as file, faults_named(source.name):
        blocks = whole_blocks(chunks_of(file, source.compression), cut_of(source), block_bytes)
        try:
            for block in blocks:
                yield start, block
                start += len(block)
        except Unusable as fault:
            where = shown_name(source)
            raise BrokenSource.at(start, fault.reason, where=where, mend=fault.mend) from fault
    if source.format == "json" and is_cut_off(block):
        mend = "fetch or write the file again"
        raise BrokenSource.at(start, "the list is cut off", where=shown_name(source), mend=mend)


def whole_blocks(chunks: Iterable[bytes], cut: Cut, block_bytes: int) -> Iterator[bytes]:
    """The bytes of ``chunks`` again, cut at ends of records; the cuts do not depend on the chunks.

    Raises:
        Unusable: as ``chunks`` does, after the whole records that came before; or a record is too long.
    """
    pending = _Pending(cut, block_bytes)
    try:
        for chunk in chunks:
            pending.add(chunk)
            yield from pending.blocks()
    except Unusable:
        yield from pending.rest(whole=True)
        raise
    yield from pending.rest(whole=False)


class _Pending:
    """Bytes that were read and are not in a block yet.

    They are joined and searched only once there are ``_needed`` of them, which doubles where no record ends:
    a record of any length is searched a bounded number of times.
    """

    def __init__(self, cut: Cut, block_bytes: int) -> None:
        self._cut = cut
        self._block_bytes = block_bytes
        self._needed = block_bytes
        self._parts: list[bytes] = []
        self._size = 0

    def add(self, chunk: bytes) -> None:
        self._parts.append(chunk)
        self._size += len(chunk)

    def blocks(self) -> Iterator[bytes]:
        """Those that are complete."""
        while self._size >= self._needed:
            data = self._joined()
            end = self._cut(data, self._block_bytes)
            if not end:
                self._wait_for_more()
                return
            self._keep(data[end:])
            yield data[:end]

    def rest(self, *, whole: bool) -> Iterator[bytes]:
        """What is left; with ``whole``, only up to the last end of a record."""
        self._needed = self._block_bytes
        yield from self.blocks()
        data = self._joined()
        end = self._cut(data, len(data)) if whole else len(data)
        if end:
            yield data[:end]

    def _joined(self) -> bytes:
        data = b"".join(self._parts)
        self._parts = [data]
        return data

    def _keep(self, data: bytes) -> None:
        self._parts, self._size, self._needed = [data], len(data), self._block_bytes

    def _wait_for_more(self) -> None:
        if self._size > LONGEST_RECORD:
            raise too_long()
        self._needed = min(2 * self._size, LONGEST_RECORD + 1)


def too_long() -> Unusable:
    """That a record has no end in sight."""
    size = f"{LONGEST_RECORD >> 20} MiB"
    return Unusable(
        f"a record is longer than {size}", "split such documents, or check the format of the file"
    )
