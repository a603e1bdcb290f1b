"""Which lines of CSV belong together: quoted fields may hold line breaks.

The rules are those of Python's ``csv`` in its strict form: a field is quoted if it begins with a quote, and a
quote inside is doubled. Lines end with a line feed.
"""

import csv
import io
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

_QUOTE, _NEWLINE, _RETURN = 34, 10, 13
_UNFINISHED = "unexpected end of data"


def rows_of_csv(data: bytes, delimiter: str) -> Iterator[tuple[list[str] | csv.Error, int]]:
    """Each row, or what is wrong with it, and how many lines there are up to its end.

    What is no UTF-8 comes as ``surrogateescape`` has it.
    """
    csv.field_size_limit(1 << 30)
    # Only \n ends a line: the reader sees the others.
    lines = io.TextIOWrapper(io.BytesIO(data), "utf-8", "surrogateescape", newline="\n")
    reader = csv.reader(lines, delimiter=delimiter, strict=True)
    while True:
        try:
            row: list[str] | csv.Error = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            row = error
        yield row, reader.line_num


def is_unfinished(error: csv.Error) -> bool:
    """Whether the row would go on, and the data does not."""
    return str(error) == _UNFINISHED


def ends_of_csv_records(data: bytes, delimiter: str) -> NDArray[np.int64]:
    """After which bytes a record is complete, ascending."""
    codes = np.frombuffer(data, np.uint8)
    newlines = np.flatnonzero(codes == _NEWLINE)
    quotes = np.flatnonzero(codes == _QUOTE)
    if not len(quotes):
        last = newlines
    elif _has_no_bare_return(data) and _pairs_are_plain(codes, quotes, ord(delimiter)):
        last = newlines[np.searchsorted(quotes, newlines) % 2 == 0]
    else:
        last = newlines[_lines_by_reading(data, delimiter, len(newlines))]
    ends: NDArray[np.int64] = last + 1
    return ends


def _has_no_bare_return(data: bytes) -> bool:
    """Outside quotes a carriage return alone is an error, after which the reader begins anew."""
    return b"\r" not in data or data.count(b"\r") == data.count(b"\r\n")


def _pairs_are_plain(codes: NDArray[np.uint8], quotes: NDArray[np.int64], delimiter: int) -> bool:
    """Whether each first quote of a pair begins a field or follows a quote, and each second one ends one.

    Then an even number of quotes before a newline means that no field is open there.
    """
    before = np.where(quotes > 0, codes[quotes - 1], _NEWLINE)[0::2]
    after = np.where(quotes + 1 < len(codes), codes[np.minimum(quotes + 1, len(codes) - 1)], _NEWLINE)[1::2]
    opens = (before == delimiter) | (before == _NEWLINE) | (before == _QUOTE)
    closes = (after == delimiter) | (after == _NEWLINE) | (after == _RETURN) | (after == _QUOTE)
    return bool(opens.all() and closes.all())


def _lines_by_reading(data: bytes, delimiter: str, lines: int) -> list[int]:
    """The last lines of records; ``lines`` of them have a newline."""
    ended = [
        line
        for row, line in rows_of_csv(data, delimiter)
        if not (isinstance(row, csv.Error) and is_unfinished(row))
    ]
    return [line - 1 for line in ended if line <= lines]
