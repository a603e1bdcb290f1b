"""Where bytes can be cut so that no record is: pure functions of the bytes.

Each takes ``data``, which begins where a record or what lies between two begins, and a ``limit``; it gives
the last end of a record in the first ``limit`` bytes, else the first one after them, or 0 if there is none.
What comes after that end in ``data`` never changes it.
"""

import re
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from asynckit.tokenization.inputs.csv_lines import ends_of_csv_records
from asynckit.tokenization.inputs.json_lists import elements_of
from asynckit.tokenization.inputs.names import delimiter_of
from asynckit.tokenization.records import Source

Cut = Callable[[bytes, int], int]

# The look-ahead lets matches overlap: of three newlines in a row, the last two are ends.
_END_OF_BLANK_LINE = re.compile(rb"\n(?=([^\S\n]*\n))")


def cut_of(source: Source) -> Cut:
    """How a source is cut."""
    if source.format == "csv":
        delimiter = delimiter_of(source.name)
        return lambda data, limit: _chosen(ends_of_csv_records(data, delimiter), limit)
    if source.format == "json":
        return lambda data, limit: _chosen(elements_of(data).ends, limit)
    if source.format == "text" and source.text_unit != "line":
        return cut_paragraphs if source.text_unit == "paragraph" else cut_nothing
    return cut_lines


def cut_lines(data: bytes, limit: int) -> int:
    """At ends of lines."""
    inside = data.rfind(b"\n", 0, limit)
    return inside + 1 if inside >= 0 else data.find(b"\n", limit) + 1


def cut_paragraphs(data: bytes, limit: int) -> int:
    """At ends of lines that hold nothing but white space."""
    last = 0
    for found in _END_OF_BLANK_LINE.finditer(data):
        end = found.end(1)
        if end > limit:
            return last or end
        last = end
    return last


def cut_nothing(data: bytes, limit: int) -> int:  # noqa: ARG001
    """Nowhere: all of it is one record."""
    return 0


def _chosen(ends: NDArray[np.int64], limit: int) -> int:
    inside = int(np.searchsorted(ends, limit, side="right"))
    if inside:
        return int(ends[inside - 1])
    return int(ends[0]) if len(ends) else 0
