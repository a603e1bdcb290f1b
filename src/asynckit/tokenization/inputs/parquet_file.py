"""A Parquet file as ranges of rows.

A worker takes ranges of the same file one after another, so what it opened last stays open: a row group,
which can only be read from its start, goes on where the last range ended.
"""

import itertools
import os
from collections.abc import Iterator
from functools import lru_cache
from typing import Any, NamedTuple

from asynckit.tokenization.inputs.access import named_faults, opened
from asynckit.tokenization.inputs.names import is_url
from asynckit.tokenization.inputs.pieces import PIECE_BYTES
from asynckit.tokenization.records import Source

_MOST_ROWS = 65_536


class _Group(NamedTuple):
    """A row group: its number, its rows ``[start, end)``, and how many bytes these are uncompressed."""

    number: int
    start: int
    end: int
    size: int


def columns(source: Source) -> list[str]:
    """The names of the top columns."""
    return list(map(str, _opened(source).file.schema_arrow.names))


def batches(source: Source, start: int, end: int, columns: tuple[str, ...]) -> Iterator[Any]:
    """Record batches of the rows ``[start, end)``, in order."""
    for group in _opened(source).groups:
        first, last = max(start, group.start), min(end, group.end)
        if first < last:
            yield from _rows_of_group(source, group, first, last, columns)


def _groups(file: Any) -> list[_Group]:
    groups: list[_Group] = []
    for index in range(file.metadata.num_row_groups):
        described = file.metadata.row_group(index)
        start = groups[-1].end if groups else 0
        groups.append(_Group(index, start, start + described.num_rows, described.total_byte_size))
    return groups


def row_ranges(source: Source, unit_bytes: int) -> list[tuple[int, int]]:
    """Rows of units: small groups together, large ones in parts."""
    ranges: list[tuple[int, int]] = []
    room = 0
    for group in _opened(source).groups:
        rows = group.end - group.start
        if not rows:
            continue
        if group.size <= room:
            ranges[-1] = (ranges[-1][0], group.end)
            room -= group.size
            continue
        parts = min(rows, max(1, -(-group.size // unit_bytes)))
        edges = [group.start + rows * part // parts for part in range(parts + 1)]
        ranges += itertools.pairwise(edges)
        room = unit_bytes - group.size if parts == 1 else 0
    return ranges


class _Open(NamedTuple):
    """A file and its row groups."""

    file: Any
    groups: list[_Group]


def _opened(source: Source) -> _Open:
    # A process that was forked opens files of its own: places in files, and connections, cannot be shared.
    return _opened_by(source, os.getpid())


@lru_cache(maxsize=1)
def _opened_by(source: Source, process: int) -> _Open:  # noqa: ARG001
    import pyarrow as pa
    import pyarrow.parquet as pq

    if is_url(source.name):
        file: Any = opened(source)
    else:
        with named_faults(source.name):
            file = pa.OSFile(source.name)
    # Without buffers of its own it would hold a column's whole chunk of a row group in memory.
    parquet = pq.ParquetFile(file, pre_buffer=False, buffer_size=1 << 20)
    return _Open(parquet, _groups(parquet))


class _Cursor:
    """A row group that is being read, from its start on."""

    def __init__(self, source: Source, group: _Group, columns: tuple[str, ...]) -> None:
        mean = max(1, group.size // (group.end - group.start))
        self._batches = _opened(source).file.iter_batches(
            batch_size=min(max(1, PIECE_BYTES // mean), _MOST_ROWS),
            row_groups=[group.number],
            columns=list(columns),
            use_threads=False,
        )
        self._rest: Any = None
        self.row = group.start

    def take(self, start: int, end: int) -> Iterator[Any]:
        """The rows ``[start, end)``; what comes before them is passed over."""
        while self.row < end:
            batch = self._rest if self._rest is not None else next(self._batches, None)
            if batch is None:
                raise OSError("a row group has fewer rows than the file says")
            wanted = end if self.row >= start else start
            taken = batch.slice(0, wanted - self.row)
            self._rest = batch.slice(taken.num_rows) if taken.num_rows < batch.num_rows else None
            self.row += taken.num_rows
            if wanted == end:
                yield taken


_cursors: dict[tuple[Source, int, tuple[str, ...], int], _Cursor] = {}  # at most one


def _rows_of_group(
    source: Source, group: _Group, start: int, end: int, columns: tuple[str, ...]
) -> Iterator[Any]:
    key = (source, group.number, columns, os.getpid())
    cursor = _cursors.pop(key, None)
    _cursors.clear()
    if cursor is None or cursor.row > start:
        cursor = _Cursor(source, group, columns)
    yield from cursor.take(start, end)
    _cursors[key] = cursor  # unless it failed: then the next range begins anew, and fails by itself
