"""One unit as batches of records."""

import hashlib
from collections.abc import Callable, Iterator, Sequence
from functools import partial

import numpy as np

from asynckit.errors import InputError
from asynckit.tokenization.config import TokenizationConfig
from asynckit.tokenization.inputs.access import ranges_of
from asynckit.tokenization.inputs.blocks import too_long, whole_blocks
from asynckit.tokenization.inputs.csv_records import CsvDecoder
from asynckit.tokenization.inputs.cutting import cut_of
from asynckit.tokenization.inputs.faults import BrokenSource, Fault, Unusable
from asynckit.tokenization.inputs.fields import Wanted, missing, wanted_fields
from asynckit.tokenization.inputs.json_documents import parse_list
from asynckit.tokenization.inputs.json_records import JsonDecoder
from asynckit.tokenization.inputs.line_ranges import LineRange
from asynckit.tokenization.inputs.names import ROW_FORMATS
from asynckit.tokenization.inputs.pieces import LONGEST_RECORD, PIECE_BYTES, Parsed, Piece, Spans
from asynckit.tokenization.inputs.places import place_in, shown_name
from asynckit.tokenization.inputs.row_files import batches_of, columns_of, damage_named
from asynckit.tokenization.inputs.row_records import parse_rows, small_batches
from asynckit.tokenization.inputs.text_records import text_parser
from asynckit.tokenization.records import Records, Skipped, Source, Unit


class UnitReader:
    """Iterates over the records of one unit, in batches of at most about 4 MiB of text or one larger record.

    Attributes:
        digest: after the iteration, the SHA-256 in hex of the unit's own bytes ``[start, end)``; for Parquet
            and Arrow of its share of the file's bytes.
        lines: after the iteration, the newlines in ``[start, end)``; 0 where there are no lines.
    """

    def __init__(
        self,
        source: Source,
        unit: Unit,
        block: bytes | None,
        fields: Sequence[str],
        config: TokenizationConfig,
    ) -> None:
        """Args are what ``units_of`` or ``blocks_of`` gave, and the fields that are asked for.

        Raises:
            ConfigError: a field is no path.
            InputError: the source has no such column, or is plain text and has no fields at all.
        """
        self._source = source
        self._unit = unit
        self._block = block
        self._stops = config.on_error == "stop"
        self._wanted = wanted_fields(fields, config.mode)
        self._unread: Fault | None = None
        self.digest = ""
        self.lines = 0
        try:
            if source.format in ROW_FORMATS:
                _check_columns(source, self._wanted)
            else:
                self._parse = _parser(source, unit, self._wanted)
        except Unusable as fault:
            raise InputError(fault.reason, where=shown_name(source), mend=fault.mend) from fault

    def __iter__(self) -> Iterator[Records]:
        """The unit's records, in order.

        Raises:
            InputError: a record cannot be used, and ``on_error`` is stop; or the source cannot be read.
            DependencyError: the source's store cannot be reached.
        """
        if self._source.format in ROW_FORMATS:
            yield from self._rows()
            return
        for piece in self._pieces():
            unmarked = piece.without_mark()
            yield self._records(self._parse(unmarked), unmarked.start, unmarked.line)
        if self._unread is not None:
            yield self._nothing_but(self._unread)

    def _pieces(self) -> Iterator[Piece]:
        if self._block is not None:
            return self._pieces_of_block(self._block)
        if self._source.format == "text" and self._source.text_unit == "file":
            return self._whole_file()
        return self._pieces_of_range()

    def _pieces_of_range(self) -> Iterator[Piece]:
        assert self._source.bytes is not None
        with ranges_of(self._source) as read:
            lines = LineRange(read, self._unit.start, self._unit.end, self._source.bytes)
            try:
                yield from lines.pieces()
            except Unusable as fault:
                begun = lines.begun
                self._unread = Fault(begun.start, begun.line, fault.reason, fault.mend)
            self.digest, self.lines = lines.digest, lines.lines

    def _whole_file(self) -> Iterator[Piece]:
        if self._unit.end > LONGEST_RECORD:
            mend = f"{too_long().mend}, or make each line a document: --set tokenization.text_unit=line"
            raise self._refused(Fault(0, -1, too_long().reason, mend))
        with ranges_of(self._source) as read:
            data = read(self._unit.start, self._unit.end)
        self.digest, self.lines = hashlib.sha256(data).hexdigest(), data.count(b"\n")
        yield Piece(data, 0, 0)

    def _pieces_of_block(self, block: bytes) -> Iterator[Piece]:
        self.digest, self.lines = hashlib.sha256(block).hexdigest(), block.count(b"\n")
        start, line = self._unit.start, 0
        for data in whole_blocks([block], cut_of(self._source), PIECE_BYTES):
            yield Piece(data, start, line)
            start += len(data)
            line += data.count(b"\n")

    def _rows(self) -> Iterator[Records]:
        row = self._unit.start
        columns = list(dict.fromkeys(field.path.root for field in self._wanted))
        there = [name for name in columns if name in columns_of(self._source)]
        batches = batches_of(self._source, self._unit.start, self._unit.end, there)
        try:
            while row < self._unit.end:
                with damage_named(self._source, row):
                    batch = next(batches)
                for part in small_batches(batch, self._wanted):
                    yield self._records(parse_rows(part, row, self._wanted), 0, 0)
                    row += part.num_rows
        except BrokenSource as fault:
            if self._stops:
                raise
            yield self._nothing_but(Fault(row, -1, fault.message, fault.mend))
        self.digest = self._digest_of_share()

    def _digest_of_share(self) -> str:
        share, count = self._unit.share
        size = self._source.bytes or 0
        start, end = size * share // count, size * (share + 1) // count
        digest = hashlib.sha256()
        with ranges_of(self._source) as read:
            for position in range(start, end, PIECE_BYTES):
                digest.update(read(position, min(position + PIECE_BYTES, end)))
        return digest.hexdigest()

    def _records(self, parsed: Parsed, start: int, line: int) -> Records:
        if parsed.faults and self._stops:
            raise self._refused(parsed.faults[0])
        return Records(
            columns=parsed.columns,
            starts=start + parsed.spans.starts,
            ends=start + parsed.spans.ends,
            lines=line + parsed.spans.lines,
            skipped=[Skipped(fault.start, fault.line, fault.reason) for fault in parsed.faults],
        )

    def _nothing_but(self, fault: Fault) -> Records:
        nothing = np.zeros(0, np.int64)
        columns: tuple[list[object], ...] = tuple([] for _ in self._wanted)
        return self._records(Parsed(columns, Spans(nothing, nothing, nothing), [fault]), 0, 0)

    def _refused(self, fault: Fault) -> InputError:
        where = place_in(self._source, self._unit, fault.start, fault.line)
        return InputError(fault.reason, where=where, mend=fault.mend)


def _parser(source: Source, unit: Unit, wanted: Sequence[Wanted]) -> Callable[[Piece], Parsed]:
    """What takes the records out of the source's bytes."""
    if source.format == "csv":
        return CsvDecoder(source, unit, wanted).rows
    if source.format == "json":
        return partial(parse_list, JsonDecoder(wanted))
    if source.format == "text":
        if len(wanted) > 1 or wanted[0].kind != "text":
            mend = "chats and pairs are read from JSON Lines, JSON, Parquet, Arrow and CSV"
            raise Unusable("plain text has no fields", mend)
        return text_parser(source.text_unit)
    return JsonDecoder(wanted).lines


def _check_columns(source: Source, wanted: Sequence[Wanted]) -> None:
    there = columns_of(source)
    for field in wanted:
        if field.path.root not in there and not field.optional:
            raise missing(field.path.root, there)
