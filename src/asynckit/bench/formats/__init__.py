"""A report in the forms that people and programs read."""

from collections.abc import Callable
from pathlib import Path

from asynckit.bench.formats.csv_file import to_csv
from asynckit.bench.formats.html_page import to_html
from asynckit.bench.formats.json_file import load_report, to_json
from asynckit.bench.formats.markdown import to_markdown
from asynckit.bench.formats.table import render, render_environment
from asynckit.bench.results import Report
from asynckit.disk import whole_file
from asynckit.errors import UsageError

__all__ = ["FORMATS", "check_format", "load_report", "render", "render_environment", "write_report"]

FORMATS: dict[str, Callable[[Report], str]] = {
    ".json": to_json,
    ".csv": to_csv,
    ".md": to_markdown,
    ".html": to_html,
}


def check_format(path: Path, flag: str = "--out") -> None:
    """Refuse a name from whose end no format follows, before anything is measured.

    Raises:
        UsageError: as said.
    """
    if path.suffix.lower() not in FORMATS:
        known = ", ".join(FORMATS)
        raise UsageError(
            f"{path.name!r} ends with none of {known}", where=flag, mend=f"name it such as {path.stem}.json"
        )


def write_report(report: Report, path: Path) -> None:
    """Write a report as the end of the name says: ``.json``, ``.csv``, ``.md`` or ``.html``.

    The file appears whole, in the place of an earlier one.

    Raises:
        UsageError: no format follows from the name.
        WorkFailed: the disk refuses, or a number is not finite.
    """
    check_format(path)
    text = FORMATS[path.suffix.lower()](report)
    with whole_file(path) as file:
        file.write(text.encode(errors="backslashreplace"))
