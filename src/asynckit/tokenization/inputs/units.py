"""What a worker does at a time: byte ranges, rows, or blocks that the main process has read."""

from collections.abc import Iterator

from asynckit.tokenization.inputs.blocks import cut_into_blocks
from asynckit.tokenization.inputs.names import ROW_FORMATS, STANDARD_INPUT
from asynckit.tokenization.inputs.row_files import check_to_the_end, row_ranges
from asynckit.tokenization.records import Source, Unit


def is_stream(source: Source) -> bool:
    """Whether a source can only be read from its start: standard input, compressed, CSV, JSON, paragraphs."""
    if source.name == STANDARD_INPUT or source.compression or source.format in {"csv", "json"}:
        return True
    return source.format == "text" and source.text_unit == "paragraph"


def units_of(source: Source, index: int, unit_bytes: int) -> Iterator[Unit]:
    """The units of a source that can be read in ranges, in order.

    Args:
        source: no stream.
        index: of the source among the sources.
        unit_bytes: of a unit, about.

    Raises:
        BrokenSource: a file of rows does not say what it holds; or is cut off, after the units before.
        InputError: it cannot be read.
    """
    assert not is_stream(source)
    assert source.bytes is not None
    if source.format in ROW_FORMATS:
        ranges = row_ranges(source, unit_bytes)
        yield from (Unit(index, *rows, (number, len(ranges))) for number, rows in enumerate(ranges))
        check_to_the_end(source)
        return
    if not source.bytes:
        return
    whole = source.format == "text" and source.text_unit == "file"
    count = 1 if whole else -(-source.bytes // unit_bytes)
    step = source.bytes if whole else unit_bytes
    for number in range(count):
        end = min((number + 1) * step, source.bytes)
        yield Unit(index, number * step, end, (number, count))


def blocks_of(source: Source, index: int, unit_bytes: int) -> Iterator[tuple[Unit, bytes]]:
    """The units of a stream with their bytes, in order: whole records, cut at the same places every time.

    Raises:
        BrokenSource: the rest is cut off or damaged; after the blocks of what could be read.
        InputError: it cannot be read, or a record is longer than 256 MiB.
        DependencyError: its store cannot be reached.
    """
    assert is_stream(source)
    lines = 0
    for start, block in cut_into_blocks(source, unit_bytes):
        yield Unit(index, start, start + len(block), lines_before=lines), block
        lines += block.count(b"\n")
