"""A comparison for a terminal, and as JSON."""

from typing import TYPE_CHECKING

import msgspec

from asynckit.bench.compare import Verdict, margin
from asynckit.bench.comparisons import Comparison, ComparisonReport
from asynckit.bench.timing import in_words
from asynckit.readable import readable

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.table import Table

_STYLES = {Verdict.SLOWER: "yellow", Verdict.FASTER: "green", Verdict.UNSURE: "dim", Verdict.SAME: ""}
_REGRESSION = "red"
_NUMBERS = ("before", "after", "ratio", "interval", "rounds")


def to_json(report: ComparisonReport) -> str:
    """The document, indented."""
    return msgspec.json.format(msgspec.json.encode(report), indent=2).decode() + "\n"


def render(report: ComparisonReport) -> list["RenderableType"]:
    """A row for each case, then what else is to be known."""
    from rich.text import Text

    return [_table(report), *(Text(readable(line)) for line in remarks(report))]


def remarks(report: ComparisonReport) -> list[str]:
    """What the rows don't say: cases that only one side has, and what else differs between the sides."""
    lines = [f"only in {report.before}: {key}" for key in report.only_before]
    lines += [f"only in {report.after}: {key}" for key in report.only_after]
    return lines + [f"differs: {difference}" for difference in report.differences]


def _table(report: ComparisonReport) -> "Table":
    from rich.table import Table
    from rich.text import Text

    title = f"{report.after} against {report.before}, on {report.device}"
    table = Table(title=Text(readable(title)), title_justify="left")
    for name in ("case", *_NUMBERS, "verdict", "why"):
        table.add_column(name, justify="right" if name in _NUMBERS else "left")
    for each in report.comparisons:
        style = _REGRESSION if each.regression else _STYLES[each.verdict]
        table.add_row(*(Text(readable(cell)) for cell in cells(each, report.threshold)), style=style)
    return table


def cells(comparison: Comparison, threshold: float) -> tuple[str, ...]:
    """Case, times of both sides, ratio, its interval, rounds, verdict and why."""
    numbers = ("", "", "", "")
    if comparison.ratio is not None:
        assert comparison.before is not None
        assert comparison.after is not None
        numbers = (
            in_words(comparison.before),
            in_words(comparison.after),
            f"{comparison.ratio:.3f}",
            f"{comparison.low:.3f} to {comparison.high:.3f}",
        )
    rounds = str(comparison.rounds) if comparison.rounds else ""
    case = f"{comparison.key} against {comparison.partner}" if comparison.partner else comparison.key
    return (case, *numbers, rounds, str(comparison.verdict), why(comparison, threshold))


def why(comparison: Comparison, threshold: float) -> str:
    """What the verdict means, in words.

    Args:
        comparison: of a case.
        threshold: share by which slower is a regression.
    """
    if comparison.reason:
        return ": ".join((comparison.reason, *filter(None, ["; ".join(comparison.doubts)])))
    assert comparison.low is not None
    assert comparison.high is not None
    if comparison.verdict is Verdict.SAME:
        return f"less than {_percent(margin(threshold))} apart"
    if comparison.verdict is Verdict.SLOWER:
        return _slower(comparison.low, comparison.high, threshold)
    if comparison.verdict is Verdict.FASTER:
        return f"by {_share(1 / comparison.high)} to {_share(1 / comparison.low)}"
    return f"anything from {_way(comparison.low)} to {_way(comparison.high)}"


def _slower(low: float, high: float, threshold: float) -> str:
    by = f"by {_share(low)} to {_share(high)}"
    if low > 1 + threshold:
        return f"{by}: a regression"
    return (
        f"{by}: less than {_percent(threshold)}" if high <= 1 + threshold else f"{by}: a regression perhaps"
    )


def _share(ratio: float) -> str:
    return f"{100 * (ratio - 1):.1f} %"


def _percent(share: float) -> str:
    return f"{100 * share:.3g} %"


def _way(ratio: float) -> str:
    return f"{_share(ratio)} slower" if ratio >= 1 else f"{_share(1 / ratio)} faster"
