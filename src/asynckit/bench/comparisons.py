"""What a comparison found: the schema of its JSON.

Times are seconds. Ratios are of the side after to the side before: above 1 is slower.
"""

import statistics
from collections.abc import Sequence

import msgspec

from asynckit.bench.compare import Verdict, is_regression, judge
from asynckit.bench.statistics import Interval
from asynckit.errors import RegressionFound, UsageError

SCHEMA = "asynckit.bench.comparison/1"


class Comparison(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """One case, on both sides.

    Attributes:
        key: of the case, on the side after.
        partner: key on the side before; empty where it is the same.
        verdict: UNSURE too where there was nothing to judge, with a reason.
        regression: whether it is surely slower by more than the threshold.
        ratio: of the medians, as measured; None where there is none.
        low: lower end of its interval.
        high: upper end.
        before: median seconds of one call.
        after: likewise.
        rounds: that were measured; 0 in a comparison with a file.
        reason: why the verdict is UNSURE; empty where the interval says it.
        failed: whether that is an error of the case or its side, rather than something that is missing.
        doubts: what speaks against the times of either side.
        before_seconds: of each round.
        after_seconds: likewise.
    """

    key: str
    partner: str = ""
    verdict: Verdict
    regression: bool = False
    ratio: float | None = None
    low: float | None = None
    high: float | None = None
    before: float | None = None
    after: float | None = None
    rounds: int = 0
    reason: str = ""
    failed: bool = False
    doubts: tuple[str, ...] = ()
    before_seconds: tuple[float, ...] = ()
    after_seconds: tuple[float, ...] = ()


class ComparisonReport(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """All cases of a comparison.

    Attributes:
        schema: of this document.
        before: name of the side that is compared with: a revision, function, configuration or file.
        after: name of the side that is judged.
        device: ``cuda`` or ``cpu``.
        threshold: share by which slower is a regression.
        confidence: of the intervals, and that all looks at a case together keep.
        comparisons: in the order in which they are shown.
        only_before: keys of cases that the side after doesn't have.
        only_after: the other way round.
        differences: of machine, software and settings, in words; empty between sides measured in one run.
    """

    schema: str = SCHEMA
    before: str
    after: str
    device: str
    threshold: float
    confidence: float
    comparisons: tuple[Comparison, ...]
    only_before: tuple[str, ...] = ()
    only_after: tuple[str, ...] = ()
    differences: tuple[str, ...] = ()

    @property
    def regressions(self) -> list[Comparison]:
        """Those for which CI should fail."""
        return [each for each in self.comparisons if each.regression]

    @property
    def failures(self) -> list[Comparison]:
        """Those that ended with an error."""
        return [each for each in self.comparisons if each.failed]


def judged(
    key: str,
    ratio: Interval,
    before: Sequence[float],
    after: Sequence[float],
    threshold: float,
    *,
    rounds: int = 0,
    doubts: Sequence[str] = (),
    partner: str = "",
) -> Comparison:
    """What is found where both sides were measured.

    Args:
        key: of the case.
        ratio: with its interval.
        before: seconds, of each round or as they were kept.
        after: likewise.
        threshold: share by which slower is a regression.
        rounds: that were measured; 0 for none, and then no seconds are kept.
        doubts: with any of them there is no verdict.
        partner: key on the side before.
    """
    kept = (tuple(before), tuple(after)) if rounds else ((), ())
    return Comparison(
        key=key,
        partner=_other(key, partner),
        verdict=Verdict.UNSURE if doubts else judge(ratio, threshold),
        regression=not doubts and is_regression(ratio, threshold),
        ratio=ratio.middle,
        low=ratio.low,
        high=ratio.high,
        before=statistics.median(before),
        after=statistics.median(after),
        rounds=rounds,
        reason="its times are not to be trusted" if doubts else "",
        doubts=tuple(doubts),
        before_seconds=kept[0],
        after_seconds=kept[1],
    )


def unjudged(key: str, reason: str, partner: str = "", *, failed: bool = False) -> Comparison:
    """What is found where at least one side has no times.

    Args:
        key: of the case.
        reason: why not.
        partner: key on the side before.
        failed: whether that is an error.
    """
    return Comparison(
        key=key, partner=_other(key, partner), verdict=Verdict.UNSURE, reason=reason, failed=failed
    )


def _other(key: str, partner: str) -> str:
    return "" if partner == key else partner


def nothing_in_common(before: str, keys: Sequence[str], where: str) -> UsageError:
    """The error for sides without a common case: a comparison of nothing must not look like a good one.

    Args:
        before: name of the side that is compared with.
        keys: of the cases of the side after.
        where: the flag that names the side before.
    """
    named = ", ".join(keys[:3]) + ", ..." * (len(keys) > 3)
    return UsageError(
        f"{before} has no case in common with what is judged: {named or 'nothing'}",
        where=where,
        mend="compare the same --case and --model",
    )


def raise_on_regression(report: ComparisonReport) -> None:
    """End a command with exit code 6 if a case is surely slower by more than the threshold.

    Raises:
        RegressionFound: names the cases and how much slower they are.
    """
    found = report.regressions
    if found:
        named = ", ".join(f"{each.key} ({_slower(each)})" for each in found)
        count = "1 case is" if len(found) == 1 else f"{len(found)} cases are"
        raise RegressionFound(
            f"{count} slower than {report.before} by more than {100 * report.threshold:.4g} %: {named}",
            where=f"--threshold {report.threshold:g}",
            mend="see the intervals above; a higher --threshold tolerates more",
        )


def _slower(each: Comparison) -> str:
    assert each.ratio is not None
    assert each.low is not None
    assert each.high is not None
    return f"{each.ratio:.3f} times as long, {each.low:.3f} to {each.high:.3f}"
