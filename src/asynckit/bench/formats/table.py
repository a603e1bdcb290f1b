"""The report for a terminal."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from asynckit.bench.formats.cells import PREDICTED, YES, ceiling_facts, cells, facts, notes, predicted
from asynckit.bench.results import Report
from asynckit.readable import readable

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.table import Table

_PROSE = {"case", "trust", "bound by"}  # all other columns are numbers
_LEAST_MISSED = ("p5", "p95", "peak memory", "interval", "tokens/s", "GB/s", "TFLOP/s")
_FRAME = 3  # characters around each cell


def render(report: Report, width: int | None = None) -> list["RenderableType"]:
    """The rows by group, why some are not to be trusted, the ceilings, and the predictions.

    Args:
        report: what is shown.
        width: columns of the terminal. Where they are too few, what is least missed is left out; None leaves
            out nothing.
    """
    notes_shown = [_facts("not trusted, or not measured", notes(report))] if notes(report) else []
    return [_rows(report, width), *notes_shown, *_ceilings(report), *_predictions(report)]


def render_environment(report: Report) -> "RenderableType":
    """The machine and the settings, one line for each."""
    return _facts("environment", facts(report))


def _rows(report: Report, width: int | None) -> "Table":
    found = cells(report)
    shortened = [(*row[:-1], row[-1].partition(":")[0]) for row in found.rows]
    kept = _columns_that_fit([found.header, *shortened], width)
    table = _table(f"on {report.device}, {report.begun}", tuple(found.header[at] for at in kept))
    for at, row in enumerate(shortened):
        if at and found.sections[at] != found.sections[at - 1]:
            table.add_section()
        _add(table, tuple(row[column] for column in kept))
        if row[-1] != YES:
            table.rows[-1].style = "yellow"
    return table


def _columns_that_fit(lines: Sequence[tuple[str, ...]], width: int | None) -> list[int]:
    """Numbers of the columns to show: case, median and trust always, the others as far as there is room."""
    header = lines[0]
    widths = [max(len(line[at]) for line in lines) + _FRAME for at in range(len(header))]
    kept = list(range(len(header)))
    for name in _LEAST_MISSED:
        if width is None or sum(widths[at] for at in kept) < width:
            break
        kept = [at for at in kept if name not in header[at]]
    return kept


def _ceilings(report: Report) -> list["RenderableType"]:
    lines = ceiling_facts(report.ceilings)
    return [_facts("ceilings, as measured", lines)] if lines else []


def _predictions(report: Report) -> list["RenderableType"]:
    if not report.predictions:
        return []
    table = _table("what the ceilings allow", PREDICTED)
    for each in report.predictions:
        _add(table, predicted(each))
    return [table]


def _facts(title: str, lines: list[tuple[str, str]]) -> "Table":
    from rich.table import Table

    table = Table(show_header=False, title=title, title_justify="left")
    for line in lines:
        _add(table, line)
    return table


def _table(title: str, header: tuple[str, ...]) -> "Table":
    from rich.table import Table
    from rich.text import Text

    table = Table(title=Text(readable(title)), title_justify="left")
    for number, name in enumerate(header):
        table.add_column(Text(name), justify="left" if number == 0 or name in _PROSE else "right")
    return table


def _add(table: "Table", row: tuple[str, ...]) -> None:
    from rich.text import Text

    table.add_row(*(Text(readable(cell)) for cell in row))
