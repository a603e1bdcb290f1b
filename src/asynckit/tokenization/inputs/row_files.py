"""Parquet and Arrow files as ranges of rows."""

import contextlib
import itertools
from collections.abc import Iterator, Sequence
from typing import Any

from asynckit.errors import AsynckitError
from asynckit.tokenization.inputs import arrow_file, parquet_file
from asynckit.tokenization.inputs.access import faults_named
from asynckit.tokenization.inputs.faults import BrokenSource, is_damage
from asynckit.tokenization.inputs.places import place_of, shown_name
from asynckit.tokenization.records import Source

_FETCH = "fetch or write the file again"


def row_ranges(source: Source, unit_bytes: int) -> list[tuple[int, int]]:
    """Rows ``[start, end)`` of units of about ``unit_bytes`` uncompressed, in order.

    Raises:
        BrokenSource: the file does not say what it holds.
        InputError: it cannot be read.
    """
    with damage_named(source, 0):
        if source.format == "parquet":
            return parquet_file.row_ranges(source, unit_bytes)
        rows = arrow_file.opened(source).rows
        count = max(1, -(-(source.bytes or 0) // unit_bytes))
        edges = [rows * number // count for number in range(count + 1)]
        return [(start, end) for start, end in itertools.pairwise(edges) if start < end]


def check_to_the_end(source: Source) -> None:
    """Raise BrokenSource where rows come after those of ``row_ranges`` that cannot be read."""
    if source.format == "arrow":
        file = arrow_file.opened(source)
        with damage_named(source, file.rows):
            if file.damage is not None:
                raise file.damage


def columns_of(source: Source) -> list[str]:
    """The names of the top columns."""
    with damage_named(source, 0):
        if source.format == "parquet":
            return parquet_file.columns(source)
        return arrow_file.opened(source).columns


def batches_of(source: Source, start: int, end: int, columns: Sequence[str]) -> Iterator[Any]:
    """Record batches of the rows ``[start, end)``, in order, with the columns asked for.

    Raises:
        pyarrow.ArrowException, OSError: the file is damaged.
    """
    if source.format == "parquet":
        return parquet_file.batches(source, start, end, tuple(columns))
    return arrow_file.opened(source).batches(start, end, columns)


@contextlib.contextmanager
def damage_named(source: Source, row: int) -> Iterator[None]:
    """Turn what pyarrow raises into an error that names the row from which on the file can't be read."""
    import pyarrow as pa

    with faults_named(source.name):
        try:
            yield
        except AsynckitError:
            raise
        except (pa.ArrowException, OSError, EOFError) as error:
            if not is_damage(error):
                raise
            raise _damaged(source, row, error) from error


def _damaged(source: Source, row: int, error: Exception) -> BrokenSource:
    reason = (str(error).splitlines() or [type(error).__name__])[0]
    where = place_of(source, row) if row else shown_name(source)
    message = f"is damaged, or no {source.format.capitalize()}: {reason}"
    return BrokenSource.at(row, message, where=where, mend=_FETCH)
