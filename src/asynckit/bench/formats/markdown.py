"""The report as Markdown with tables, as issues and pull requests show them."""

import re
from collections.abc import Iterable, Sequence
from html import escape

from asynckit.bench.formats.cells import PREDICTED, ceiling_facts, cells, facts, predicted
from asynckit.bench.results import Report
from asynckit.readable import readable

# What Markdown would act on inside a cell, beside HTML.
_ACTIVE = re.compile(r"([\\`*_{}\[\]#|~@])")


def to_markdown(report: Report) -> str:
    """Rows, ceilings, predictions, and the machine in a fold."""
    found = cells(report)
    parts = [_table(found.header, found.rows, names=1)]
    ceilings = ceiling_facts(report.ceilings)
    if ceilings:
        parts.append(_table(("ceiling, as measured", ""), ceilings, names=1))
    if report.predictions:
        parts.append(_table(PREDICTED, map(predicted, report.predictions), names=1))
    machine = _table(("machine and settings", ""), facts(report), names=2)
    parts.append(f"<details><summary>Machine and settings</summary>\n\n{machine}\n\n</details>")
    return "\n\n".join(parts) + "\n"


def _table(header: Sequence[str], rows: Iterable[Sequence[str]], names: int) -> str:
    """The first ``names`` columns and the last one are prose; those between are numbers."""
    last = len(header) - 1
    rules = ["---" if at < names or at == last else "---:" for at in range(len(header))]
    return "\n".join(map(_line, [list(map(_cell, header)), rules, *(list(map(_cell, row)) for row in rows)]))


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _cell(text: str) -> str:
    return _ACTIVE.sub(r"\\\1", escape(" ".join(readable(text).split()), quote=False))
