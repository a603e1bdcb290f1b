"""What comparisons look like: as an error for CI, a table, and JSON."""

import io

import msgspec
import pytest
from rich.console import Console

from asynckit.bench.compare import Verdict
from asynckit.bench.comparison_table import cells, remarks, render, to_json, why
from asynckit.bench.comparisons import (
    Comparison,
    ComparisonReport,
    judged,
    raise_on_regression,
    unjudged,
)
from asynckit.bench.statistics import Interval
from asynckit.errors import RegressionFound

THRESHOLD = 0.05


def comparison(low: float, high: float, key: str = "gemm qkv", **more: object) -> Comparison:
    ratio = Interval(low, (low * high) ** 0.5, high)
    return judged(key, ratio, [1e-3, 1e-3], [1e-3 * ratio.middle] * 2, THRESHOLD, rounds=2, **more)  # type: ignore[arg-type]


def report(*comparisons: Comparison) -> ComparisonReport:
    return ComparisonReport(
        before="main (0123abcd)",
        after="the files as they are",
        device="cpu",
        threshold=THRESHOLD,
        confidence=0.95,
        comparisons=comparisons,
        only_before=("gone",),
        only_after=("new",),
        differences=("torch.version 2.11 then, 2.12 now",),
    )


def test_only_a_sure_regression_ends_with_exit_code_6() -> None:
    """SAME, FASTER, UNSURE and what is slower by less than the threshold do not fail CI."""
    tolerated = report(
        comparison(0.99, 1.01), comparison(0.8, 0.9), comparison(0.9, 1.2), comparison(1.01, 1.06)
    )
    raise_on_regression(tolerated)
    with pytest.raises(RegressionFound) as caught:
        raise_on_regression(report(comparison(1.08, 1.12), comparison(0.99, 1.01)))
    assert caught.value.exit_code == 6
    assert str(caught.value) == (
        "--threshold 0.05: 1 case is slower than main (0123abcd) by more than 5 %: gemm qkv (1.100 times as "
        "long, 1.080 to 1.120) (see the intervals above; a higher --threshold tolerates more)"
    )


@pytest.mark.parametrize(
    ("low", "high", "words"),
    [
        (0.99, 1.02, "less than 5 % apart"),
        (1.08, 1.12, "by 8.0 % to 12.0 %: a regression"),
        (1.02, 1.12, "by 2.0 % to 12.0 %: a regression perhaps"),
        (0.8, 0.9, "by 11.1 % to 25.0 %"),
        (0.9, 1.12, "anything from 11.1 % faster to 12.0 % slower"),
    ],
)
def test_verdicts_are_explained(low: float, high: float, words: str) -> None:
    """A person who doesn't know the rules can tell what a verdict means."""
    assert why(comparison(low, high), THRESHOLD) == words


def test_slower_by_less_than_a_high_threshold() -> None:
    """SLOWER is no regression where more is tolerated, and the row says so."""
    assert why(comparison(1.08, 1.12), 0.2) == "by 8.0 % to 12.0 %: less than 20 %"


def test_a_case_without_times_says_why() -> None:
    """Its numbers are empty, not zero."""
    found = cells(unjudged("launch graph", "needs a GPU"), THRESHOLD)
    assert found == ("launch graph", "", "", "", "", "", "UNSURE", "needs a GPU")


def test_a_pair_of_two_names_shows_both() -> None:
    """The row says what was compared with what."""
    assert cells(unjudged("m:new", "broke", partner="m:old"), THRESHOLD)[0] == "m:new against m:old"


def test_doubts_are_told() -> None:
    """And leave no verdict."""
    doubtful = comparison(1.5, 1.6, doubts=["throttled"])
    assert (doubtful.verdict, doubtful.regression) == (Verdict.UNSURE, False)
    assert why(doubtful, THRESHOLD) == "its times are not to be trusted: throttled"


def test_the_table_shows_all_there_is() -> None:
    """Names of both sides, cases of one side, and differences; what others wrote cannot move the cursor."""
    shown = io.StringIO()
    console = Console(file=shown, width=200, color_system=None)
    for part in render(report(comparison(0.99, 1.02, key="evil\x1b[2J[bold]"), comparison(1.08, 1.12))):
        console.print(part)
    text = shown.getvalue()
    for expected in (
        "the files as they are against main (0123abcd), on cpu",
        "SAME",
        "SLOWER",
        "1.080 to 1.120",
    ):
        assert expected in text
    for line in remarks(report()):
        assert line in text
    assert "evil\\x1b[2J[bold]" in text


def test_json_is_read_back() -> None:
    """The document is the report."""
    original = report(comparison(0.99, 1.02), unjudged("launch", "needs a GPU"))
    assert msgspec.json.decode(to_json(original), type=ComparisonReport) == original
