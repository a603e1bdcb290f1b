"""Rows of CSV, by the names in its first row."""

import csv
from collections.abc import Sequence

from asynckit.tokenization.inputs.csv_lines import is_unfinished, rows_of_csv
from asynckit.tokenization.inputs.faults import Fault, Unusable
from asynckit.tokenization.inputs.fields import Wanted, missing
from asynckit.tokenization.inputs.names import delimiter_of
from asynckit.tokenization.inputs.pieces import Parsed, Piece, Spans, spans_of_lines
from asynckit.tokenization.inputs.utf8 import NOT_UTF8, is_utf8
from asynckit.tokenization.records import Source, Unit

_MEND = "mend the row, or leave such rows out with --on-error skip"


class CsvDecoder:
    """Takes the wanted columns out of rows of CSV.

    Raises:
        Unusable: the file has no such column.
    """

    def __init__(self, source: Source, unit: Unit, wanted: Sequence[Wanted]) -> None:
        self._delimiter = delimiter_of(source.name)
        self._columns = source.columns
        self._wanted = wanted
        self._places = [self._place(field) for field in wanted]
        self._has_header = unit.start == 0

    def rows(self, piece: Piece) -> Parsed:
        """The rows of a piece; the first of a source is its header, and empty lines are none."""
        lines, valid = spans_of_lines(piece.data), is_utf8(piece.data)
        columns: tuple[list[object], ...] = tuple([] for _ in self._places)
        firsts: list[int] = []
        lasts: list[int] = []
        faults: list[Fault] = []
        begin = 0
        for row, end in rows_of_csv(piece.data, self._delimiter):
            first, begin = begin, end
            if not row or (self._has_header and piece.line + first == 0):
                continue
            try:
                values = self._values(row, valid=valid)
            except Unusable as fault:
                start = piece.start + int(lines.starts[first])
                faults.append(Fault(start, piece.line + first, fault.reason, fault.mend))
                continue
            firsts.append(first)
            lasts.append(end - 1)
            for column, value in zip(columns, values, strict=True):
                column.append(value)
        spans = Spans(lines.starts[firsts], lines.ends[lasts], lines.lines[firsts])
        return Parsed(columns, spans, faults)

    def _place(self, field: Wanted) -> int | None:
        if field.path.root in self._columns:
            return self._columns.index(field.path.root)
        if field.optional:
            return None
        raise missing(field.path.root, self._columns)

    def _values(self, row: list[str] | csv.Error, *, valid: bool) -> list[object]:
        if isinstance(row, csv.Error):
            what = "a quote is never closed" if is_unfinished(row) else str(row)
            raise Unusable(f"not valid CSV: {what}", _MEND)
        if len(row) != len(self._columns):
            reason = f"the row has {len(row)} fields, the first row {len(self._columns)}"
            raise Unusable(reason, f"{_MEND}; fields that hold the delimiter need quotes")
        if not valid and any(NOT_UTF8.search(value) for value in row):
            raise Unusable("holds bytes that are not valid UTF-8", _MEND)
        return [
            field.value(None if place is None else row[place])
            for field, place in zip(self._wanted, self._places, strict=True)
        ]
