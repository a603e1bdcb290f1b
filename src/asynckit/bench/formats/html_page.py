"""The report as one page of HTML that needs nothing else."""

from collections.abc import Sequence
from itertools import groupby

from asynckit.bench.formats.cells import PREDICTED, ceiling_facts, cells, facts, predicted, seconds, trust
from asynckit.bench.formats.plots import bandwidth, distribution, roofline, spreads
from asynckit.bench.results import Report, Row
from asynckit.charts import ROWS
from asynckit.page import page, table, visible
from asynckit.readable import readable


def to_html(report: Report) -> str:
    """Tables, plots, the machine, and for each row its distribution, parameters and doubts."""
    found = cells(report)
    body = [
        f"<h1>{visible(_title(report))}</h1>",
        _rows(found.header, found.rows),
        "<h2>Ceilings</h2>",
        table((), ceiling_facts(report.ceilings)),
        roofline(report),
        *bandwidth(report),
    ]
    if report.predictions:
        body += [
            "<h2>What the ceilings allow</h2>",
            _rows(PREDICTED, list(map(predicted, report.predictions))),
        ]
    body += ["<h2>Repetitions</h2>", *_groups(report)]
    body += ["<h2>Machine and settings</h2>", table((), facts(report))]
    return page(_title(report), body)


def _title(report: Report) -> str:
    gpu = report.environment.get("gpu")
    cpu = report.environment.get("cpu")
    machine = gpu if report.device == "cuda" else cpu
    name = machine.get("name") or machine.get("model") if isinstance(machine, dict) else None
    return f"bench-cuda on {name or report.device}, {report.begun}"


def _rows(header: Sequence[str], rows: Sequence[tuple[str, ...]]) -> str:
    """A table of numbers between a name and some words."""
    return f'<div class="rows">{table(header, rows)}</div>'


def _groups(report: Report) -> list[str]:
    body = []
    for group, same in groupby(report.rows, key=lambda row: row.group):
        rows = [row for row in same if row.timing is not None]
        body += [
            spreads(f"Spread: {readable(group)}", rows[at : at + ROWS]) for at in range(0, len(rows), ROWS)
        ]
        body += map(_details, rows)
    return body


def _details(row: Row) -> str:
    """What is known of one row, to be opened."""
    assert row.timing is not None
    timing = row.timing
    known = [
        ("trust", trust(row)),
        ("repetitions", f"{timing.repetitions:,}, after {timing.warmup:,} to warm up"),
        ("calls in each", f"{timing.calls:,}"),
        ("clock", f"{timing.clock}, caches {timing.cache}"),
        ("shortest", seconds(timing.minimum)),
        ("relative error", f"{timing.relative_error:.2%}"),
        ("drift", f"{timing.drift:+.2%}"),
        ("outliers", f"{timing.outliers:.1%}"),
        *((str(name), str(value)) for name, value in row.parameters.items()),
    ]
    return f"<details><summary>{visible(row.key)}</summary>{distribution(row)}{table((), known)}</details>"
