"""Every format holds every row, and what a name or a doubt says stays text."""

import csv
import io
from html.parser import HTMLParser
from pathlib import Path

import pytest
from made_reports import made_report, made_row, made_timing

from asynckit.bench.formats import FORMATS, check_format, load_report, write_report
from asynckit.bench.formats.csv_file import HEADER, to_csv
from asynckit.bench.formats.html_page import to_html
from asynckit.bench.formats.markdown import to_markdown
from asynckit.bench.formats.plots import bandwidth, distribution, roofline, spreads
from asynckit.bench.results import Ceilings, Report, Row
from asynckit.errors import UsageError

HOSTILE = "</td><script>alert(1)</script>|`*_\x1b[2J\u202e\n& é"


def hostile_report() -> Report:
    """A report from somebody else's machine, whose every text is an attack."""
    rows = tuple(
        made_row(
            HOSTILE,
            str(at),
            median=10.0**-at,
            group=HOSTILE,
            bytes=10.0 ** (at + 3),
            doubts=(HOSTILE,),
            parameters={HOSTILE: HOSTILE},
        )
        for at in range(4)
    )
    return made_report(
        rows=rows,
        begun=HOSTILE,
        environment={HOSTILE: HOSTILE},
        ceilings=Ceilings(flops_per_second={HOSTILE: 1.0}, bytes_per_second=1.0),
    )


class Tags(HTMLParser):
    """Collects tags and checks that they are closed in order."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self._open: list[str] = []
        self.feed(text)
        assert self._open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:  # noqa: ARG002
        """Note the tag."""
        self.tags.add(tag)
        if tag != "meta":
            self._open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        """Refuse the end of anything but the innermost."""
        assert self._open.pop() == tag


@pytest.mark.parametrize("suffix", FORMATS)
@pytest.mark.parametrize("report", [made_report(), hostile_report(), made_report(rows=())])
def test_every_format_is_written(report: Report, suffix: str, tmp_path: Path) -> None:
    """Also for a run without rows; no file holds what a terminal would obey."""
    path = tmp_path / f"report{suffix.upper()}"
    write_report(report, path)
    text = path.read_text(encoding="utf-8")
    assert list(tmp_path.iterdir()) == [path]
    assert "\x1b" not in text
    assert "\u202e" not in text
    if suffix == ".json":
        assert load_report(path) == report


@pytest.mark.parametrize("name", ["report", "report.txt", ".json"])
def test_a_name_without_a_format_is_refused(name: str, tmp_path: Path) -> None:
    """Before an hour of measuring."""
    with pytest.raises(UsageError, match=r"\.json, \.csv, \.md, \.html"):
        check_format(tmp_path / name)


def test_csv_has_a_line_for_each_row() -> None:
    """In plain numbers that read back as they were."""
    report = made_report()
    lines = list(csv.DictReader(io.StringIO(to_csv(report))))
    assert [line["case"] for line in lines] == [row.case for row in report.rows]
    assert all(None not in line and tuple(line) == HEADER for line in lines)
    timing = report.rows[0].timing
    assert timing is not None
    assert float(lines[0]["median"]) == timing.median
    assert float(lines[0]["share_of_peak"]) == pytest.approx(0.6)
    assert lines[-1]["median"] == ""
    assert lines[-1]["reason"] == "needs several GPUs"


def test_markdown_has_tables_of_one_width() -> None:
    """A bar in a name would shift every cell after it."""
    for report in (made_report(), hostile_report()):
        for table in to_markdown(report).split("\n\n"):
            lines = [line.replace("\\|", "") for line in table.splitlines() if line.startswith("|")]
            assert len({line.count("|") for line in lines}) <= 1
    assert "<script" not in to_markdown(hostile_report())


def test_the_page_is_whole_and_harmless() -> None:
    """With plots of everything, no script and no connection."""
    page = Tags(to_html(made_report()))
    assert {"svg", "table", "details", "circle", "rect"} <= page.tags
    hostile = Tags(to_html(hostile_report()))
    assert not {"script", "img", "link", "a"} & (page.tags | hostile.tags)


def test_the_roofline_tells_doubted_rows_apart() -> None:
    """And has a roof for each dtype."""
    good = made_row("a", flops=1e12, bytes=1e9, parameters={"dtype": "bfloat16"})
    bad = made_row("b", flops=1e12, bytes=1e9, doubts=("d",))
    plot = roofline(made_report(rows=(good, bad)))
    assert plot.count("<circle") == 2
    assert "doubted" in plot
    assert ">bfloat16</text>" in plot
    assert "doubted" not in roofline(made_report(rows=(good,)))
    assert "nothing to draw" in roofline(made_report(rows=(made_row(),)))


def test_bandwidth_is_drawn_over_size() -> None:
    """A curve for each case that was measured at three sizes or more, four to a plot."""
    rows = [
        made_row(f"copy{case}", str(at), bytes=1e3 * 10**at, group="bandwidth")
        for case in range(5)
        for at in range(3)
    ]
    rows.append(made_row("lonely", bytes=1e6, group="bandwidth"))
    plots = bandwidth(made_report(rows=tuple(rows)))
    assert [plot.count("<circle") for plot in plots] == [12, 3]
    assert "1 kB</text>" in plots[0]


def test_spreads_have_a_bar_for_each_row_inside_the_plot() -> None:
    """A row with a wild tail does not squeeze the others."""
    rows = [made_row("a"), made_row("b", timing=made_timing(p95=1.0)), made_row("c")]
    missing = Row(case="d", variant="", group="g", device="cpu", timing=None, reason="needs a GPU")
    plot = spreads("t", [*rows, missing])
    assert plot.count('class="bar c1"') == 3
    assert "p95 +99900.0%" in plot


@pytest.mark.parametrize("samples", [(1e-3,), (1e-3,) * 5, (0.0, 5e-324, 1e300), tuple(range(1, 2001))])
def test_any_repetitions_can_be_counted(samples: tuple[float, ...]) -> None:
    """Every one is in a bar."""
    plot = distribution(made_row(timing=made_timing(samples=samples)))
    assert f"{len(samples):,} in 31 bars" in plot
