"""The report for a terminal."""

from typing import TYPE_CHECKING

from asynckit.bench.formats.cells import PREDICTED, ceiling_facts, cells, facts, predicted
from asynckit.bench.results import Report
from asynckit.readable import readable

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.table import Table

_PROSE = {"case", "trust", "bound by"}  # all other columns are numbers


def render(report: Report) -> list["RenderableType"]:
    """The rows by group, what the doubts are, the ceilings, and the predictions."""
    return [_rows(report), *_ceilings(report), *_predictions(report)]


def render_environment(report: Report) -> "RenderableType":
    """The machine and the settings, one line for each."""
    return _facts("environment", facts(report))


def _rows(report: Report) -> "Table":
    found = cells(report)
    table = _table(f"on {report.device}, {report.begun}", found.header)
    for at, row in enumerate(found.rows):
        group = found.sections[at]
        if at and group != found.sections[at - 1]:
            table.add_section()
        _add(table, row)
        if report.rows[at].doubts or not report.rows[at].trusted:
            table.rows[-1].style = "yellow"
    return table


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
