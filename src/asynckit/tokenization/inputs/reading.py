"""One unit as batches of records."""

import hashlib
from collections.abc import Iterator, Sequence

from asynckit.errors import InputError
from asynckit.tokenization.config import TokenizationConfig
from asynckit.tokenization.inputs.access import ranges_of
from asynckit.tokenization.inputs.blocks import whole_blocks
from asynckit.tokenization.inputs.cutting import CUTS
from asynckit.tokenization.inputs.faults import Fault
from asynckit.tokenization.inputs.fields import wanted_fields
from asynckit.tokenization.inputs.json_records import JsonDecoder
from asynckit.tokenization.inputs.line_ranges import LineRange
from asynckit.tokenization.inputs.pieces import PIECE_BYTES, Parsed, Piece
from asynckit.tokenization.inputs.places import place_in
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
        """
        self._source = source
        self._unit = unit
        self._block = block
        self._stops = config.on_error == "stop"
        self._decoder = JsonDecoder(wanted_fields(fields, config.mode))
        self.digest = ""
        self.lines = 0

    def __iter__(self) -> Iterator[Records]:
        """The unit's records, in order.

        Raises:
            InputError: a record cannot be used, and ``on_error`` is stop; or the source cannot be read.
            DependencyError: the source's store cannot be reached.
        """
        for piece in self._pieces():
            yield self._records(piece, self._decoder.lines(piece.without_mark()))

    def _pieces(self) -> Iterator[Piece]:
        return self._pieces_of_range() if self._block is None else self._pieces_of_block(self._block)

    def _pieces_of_range(self) -> Iterator[Piece]:
        assert self._source.bytes is not None
        with ranges_of(self._source) as read:
            lines = LineRange(read, self._unit.start, self._unit.end, self._source.bytes)
            yield from lines.pieces()
            self.digest, self.lines = lines.digest, lines.lines

    def _pieces_of_block(self, block: bytes) -> Iterator[Piece]:
        self.digest, self.lines = hashlib.sha256(block).hexdigest(), block.count(b"\n")
        start, line = self._unit.start, 0
        for data in whole_blocks([block], CUTS[self._source.format], PIECE_BYTES):
            yield Piece(data, start, line)
            start += len(data)
            line += data.count(b"\n")

    def _records(self, piece: Piece, parsed: Parsed) -> Records:
        if parsed.faults and self._stops:
            raise self._refused(parsed.faults[0])
        return Records(
            columns=parsed.columns,
            starts=piece.start + parsed.spans.starts,
            ends=piece.start + parsed.spans.ends,
            lines=piece.line + parsed.spans.lines,
            skipped=[Skipped(fault.start, fault.line, fault.reason) for fault in parsed.faults],
        )

    def _refused(self, fault: Fault) -> InputError:
        where = place_in(self._source, self._unit, fault.start, fault.line)
        return InputError(fault.reason, where=where, mend=fault.mend)
