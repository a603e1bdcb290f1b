"""The one place that words where a record is: ``file:line``, or ``file, row N``."""

from asynckit.models.store import shown
from asynckit.tokenization.inputs.access import ranges_of
from asynckit.tokenization.inputs.names import ROW_FORMATS, STANDARD_INPUT, STANDARD_INPUT_SHOWN
from asynckit.tokenization.inputs.pieces import PIECE_BYTES
from asynckit.tokenization.records import Source, Unit


def place_of(source: Source, start: int, line: int = -1) -> str:
    """Where a record begins, for a person.

    Args:
        source: what it is in.
        start: its first byte, or its row from 0.
        line: its line in the source, from 0; -1 where there are no lines.
    """
    name = shown_name(source)
    if source.format in ROW_FORMATS:
        return f"{name}, row {start + 1}"
    return f"{name}:{line + 1}" if line >= 0 else name


def shown_name(source: Source) -> str:
    """The source, for a person."""
    if source.name == STANDARD_INPUT:
        return STANDARD_INPUT_SHOWN
    return shown(source.name)


def place_in(source: Source, unit: Unit, start: int, line: int) -> str:
    """Where a record begins, given its line in the unit; counts the lines before the unit if it must."""
    if line < 0 or source.format in ROW_FORMATS:
        return place_of(source, start)
    before = unit.lines_before if unit.lines_before >= 0 else _lines_before(source, unit.start)
    return place_of(source, start, before + line)


def _lines_before(source: Source, end: int) -> int:
    with ranges_of(source) as read:
        return sum(
            read(start, min(start + PIECE_BYTES, end)).count(b"\n") for start in range(0, end, PIECE_BYTES)
        )
