"""Reading inputs to the end, unit by unit, as the pipeline does."""

from collections.abc import Iterator
from typing import Any, NamedTuple

from asynckit.tokenization.config import TokenizationConfig
from asynckit.tokenization.inputs.faults import BrokenSource
from asynckit.tokenization.inputs.listing import list_sources
from asynckit.tokenization.inputs.reading import UnitReader
from asynckit.tokenization.inputs.units import blocks_of, is_stream, units_of
from asynckit.tokenization.records import Skipped, Source, Unit


class Read(NamedTuple):
    """What was read of some inputs.

    Attributes:
        rows: values of the fields that were asked for, of each record.
        starts: where each begins.
        ends: after where each ends.
        lines: line of each in its source; -1 where there are none.
        skipped: what was left out, with lines of the source.
        units: in order.
        digests: of the units.
    """

    rows: list[tuple[Any, ...]]
    starts: list[int]
    ends: list[int]
    lines: list[int]
    skipped: list[Skipped]
    units: list[Unit]
    digests: list[str]


def units_with_blocks(source: Source, config: TokenizationConfig) -> Iterator[tuple[Unit, bytes | None]]:
    """The units of a source, streams or not."""
    if is_stream(source):
        yield from blocks_of(source, 0, config.unit_bytes)
    else:
        yield from ((unit, None) for unit in units_of(source, 0, config.unit_bytes))


def read_source(source: Source, config: TokenizationConfig, fields: tuple[str, ...], read: Read) -> None:
    """All records of one source, added to ``read``."""
    lines = 0
    for unit, block in units_with_blocks(source, config):
        reader = UnitReader(source, unit, block, fields or ("text",), config)
        for records in reader:
            read.rows.extend(zip(*records.columns, strict=True))
            read.starts.extend(records.starts.tolist())
            read.ends.extend(records.ends.tolist())
            read.lines.extend((lines + records.lines).tolist())
            for skipped in records.skipped:
                line = skipped.line if skipped.line < 0 else lines + skipped.line
                read.skipped.append(Skipped(skipped.start, line, skipped.reason))
        lines += reader.lines
        read.units.append(unit)
        read.digests.append(reader.digest)


def read_inputs(*inputs: Any, fields: tuple[str, ...] = (), **settings: Any) -> Read:
    """All records of some inputs."""
    config = TokenizationConfig(**settings)
    read = Read([], [], [], [], [], [], [])
    for source in list_sources(list(map(str, inputs)), config):
        try:
            read_source(source, config, fields, read)
        except BrokenSource as broken:
            if config.on_error == "stop":
                raise
            read.skipped.append(Skipped(broken.start, -1, broken.message))
    return read
