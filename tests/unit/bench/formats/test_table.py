"""A person sees every row, its trust and why not, and nothing that a terminal would obey."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from made_reports import made_report, made_row, made_timing
from rich.console import Console

from asynckit.bench.formats.cells import ceiling_facts, cells, facts, seconds, size
from asynckit.bench.formats.table import render, render_environment
from asynckit.bench.results import Report


def shown(report: Report) -> str:
    console = Console(width=240, record=True, file=None, quiet=False, force_terminal=False)
    with console.capture() as captured:
        for part in [*render(report), render_environment(report)]:
            console.print(part)
    return captured.get()


def test_a_report_is_shown() -> None:
    """Rows, ceilings, predictions and the machine."""
    text = shown(made_report())
    for words in (
        "gemm o M=2048 bfloat16",
        "of peak",
        "no: throttled (power cap) for 40% of the time",
        "not measured: needs several GPUs",
        "700.0 TFLOP/s",
        "decode batch=8",
        "73%",
        "NVIDIA H100 80GB HBM3",
        "settings.bench.clock",
        "128.0 GiB",
    ):
        assert words in text


def test_every_row_has_a_cell_for_every_column() -> None:
    """And columns that no row fills are left out."""
    found = cells(made_report())
    assert {len(row) for row in found.rows} == {len(found.header)}
    assert "95% interval" in found.header
    assert "tokens/s" in found.header
    assert "tokens/s" not in cells(made_report(rows=(made_row(),))).header


@pytest.mark.parametrize("width", [40, 80, 100, 120, 160])
def test_a_narrow_terminal_shows_fewer_columns(width: int) -> None:
    """Rather than numbers that are cut; the case, its median and its trust stay."""
    console = Console(width=width)
    with console.capture() as captured:
        console.print(render(made_report(), width)[0])
    text = captured.get()
    assert "trust" in text
    assert width < 80 or "gemm o M=2048 bfloat16 │ 163.6 µs" in text
    assert ("p95" in text) is (width >= 160)


def test_a_row_that_failed_a_check_is_never_trusted() -> None:
    """Even if nobody said why."""
    report = made_report(rows=(made_row(trusted=False), made_row("b", doubts=("d",))))
    assert [row[-1] for row in cells(report).rows] == ["no: a check failed", "no: d"]


def test_escapes_in_a_recorded_report_are_text() -> None:
    """Files come from other machines."""
    hostile = "\x1b[2J[red]x[/red]\u202e"
    text = shown(made_report(rows=(made_row(hostile, doubts=(hostile,)),), begun=hostile))
    assert "\x1b" not in text
    assert "\u202e" not in text
    assert "[red]x[/red]" in text


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (0.0, "0 ns"),
        (3.2e-10, "0.3200 ns"),
        (12.345e-6, "12.35 µs"),
        (9.9999e-4, "1,000 µs"),
        (1.5e-3, "1.500 ms"),
        (75.0, "75.00 s"),
        (12_000.0, "12,000 s"),
    ],
)
def test_times_have_four_digits_and_a_unit(value: float, words: str) -> None:
    """And never an exponent."""
    assert seconds(value) == words


@given(value=st.floats(0, 1e6))
def test_any_time_can_be_shown(value: float) -> None:
    """Short and without an exponent."""
    assert "e" not in seconds(value)
    assert len(seconds(value)) <= 14


def test_sizes_are_in_thousands() -> None:
    """As bandwidths are."""
    assert [size(each) for each in (None, 0, 999, 1500, 85_520_809_984)] == [
        *("", "0 bytes", "999 bytes", "1.500 kB"),
        "85.52 GB",
    ]


def test_interval_and_median_share_a_unit() -> None:
    """Else they cannot be compared at a glance."""
    timing = made_timing(1.001e-3, low=0.99e-3, high=1.01e-3)
    row = cells(made_report(rows=(made_row(timing=timing),))).rows[0]
    assert row[1:3] == ("1.001 ms", "0.9900 to 1.010 ms")


def test_facts_leave_out_what_is_unknown() -> None:
    """And flatten what is nested."""
    report = made_report(environment={"cpu": {"model": "x", "governor": None}, "flags": [], "on": True})
    lines = dict(facts(report))
    assert lines["cpu.model"] == "x"
    assert "cpu.governor" not in lines
    assert (lines["flags"], lines["on"]) == ("none", "yes")
    assert ceiling_facts(report.ceilings)[0] == ("peak bfloat16", "700.0 TFLOP/s")
