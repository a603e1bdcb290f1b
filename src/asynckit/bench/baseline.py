"""A run compared with one that was saved before, on the same kind of device.

Both runs are over, so what changed between them other than the code (temperature, neighbours, where memory
came to lie) is in the ratio, and no statistics can take it out: the intervals are those of two medians,
widened where successive times resemble each other. Sides that take turns (:mod:`asynckit.bench.pairs`) don't
have that problem.
"""

import math
from collections.abc import Iterator
from typing import Any

import msgspec
import numpy as np

from asynckit.bench.compare import widened
from asynckit.bench.comparisons import (
    Comparison,
    ComparisonReport,
    judged,
    nothing_in_common,
    unjudged,
)
from asynckit.bench.results import Report, Row, Timing
from asynckit.bench.statistics import Interval, median_interval
from asynckit.bench.trust import NOT_CONVERGED
from asynckit.errors import DependencyError, UsageError

_FLAG = "--baseline"
# Settings that change what a row measures.
_SETTINGS = ("clock", "cache")
_ENOUGH = 10  # repetitions; the bootstrap of fewer is too sure of itself
# Facts of the machine that may differ, and are told.
_TOLD = ("torch.version", "torch.cuda", "torch.threads", "gpu.driver", "cpu.usable_cores", "cpu.governor")


def compare_with_baseline(
    baseline: Report, report: Report, *, name: str, threshold: float, confidence: float, seed: int = 0
) -> ComparisonReport:
    """Compare a run with a saved one, row by row.

    Args:
        baseline: the saved run.
        report: the run that is judged.
        name: of the saved run: its file.
        threshold: share by which slower is a regression.
        confidence: of the intervals.
        seed: of the bootstrap.

    Raises:
        DependencyError: the baseline was measured on a GPU, and this run was not.
        UsageError: it was measured on another device: GPU, driver (its major version) or model of CPU; or the
            runs have no case in common.
    """
    refuse_other_device(baseline, report, name)
    before = {row.key: row for row in baseline.rows}
    after = {row.key: row for row in report.rows}
    both = [key for key in after if key in before]
    if not both:
        raise nothing_in_common(name, list(after), where=_FLAG)
    return ComparisonReport(
        before=name,
        after="this run",
        device=report.device,
        threshold=threshold,
        confidence=confidence,
        comparisons=tuple(compare_rows(before[key], after[key], threshold, confidence, seed) for key in both),
        only_before=tuple(key for key in before if key not in after),
        only_after=tuple(key for key in after if key not in before),
        differences=tuple(_differences(baseline, report)),
    )


def refuse_other_device(baseline: Report, report: Report, name: str) -> None:
    """Raise unless both were measured on the same kind of device.

    Raises:
        DependencyError: the baseline was measured on a GPU, and the other was not.
        UsageError: another GPU, driver (its major version) or model of CPU.
    """
    where = f"{_FLAG} {name}"
    if (baseline.device, report.device) == ("cuda", "cpu"):
        raise DependencyError(
            "was measured on a GPU, and this run on the CPU",
            where=where,
            mend="run on a machine with that GPU, or name a baseline of this CPU",
        )
    for what, then, now in _identity(baseline, report):
        if then != now:
            raise UsageError(
                f"was measured on another {what}: {then or 'unknown'} then, {now or 'unknown'} now",
                where=where,
                mend="measure a baseline on this device with --out",
            )


def _identity(baseline: Report, report: Report) -> Iterator[tuple[str, Any, Any]]:
    """What has to be equal: its name, then, now."""
    yield "device", baseline.device, report.device
    if report.device == "cuda":
        yield "GPU", _fact(baseline, "gpu.name"), _fact(report, "gpu.name")
        yield "driver", _major(_fact(baseline, "gpu.driver")), _major(_fact(report, "gpu.driver"))
    yield "model of CPU", _fact(baseline, "cpu.model"), _fact(report, "cpu.model")


def _major(version: Any) -> str:
    return str(version or "").partition(".")[0]


def _fact(report: Report, path: str) -> Any:
    """A fact of the environment, such as ``gpu.name``; None where it is not known."""
    found: Any = report.environment
    for name in path.split("."):
        found = found.get(name) if isinstance(found, dict) else None
    return found


def _differences(baseline: Report, report: Report) -> Iterator[str]:
    """What else could make a difference, in words."""
    if baseline.asynckit != report.asynckit:
        yield f"asynckit {baseline.asynckit} then, {report.asynckit} now"
    environment = [(path, _fact(baseline, path), _fact(report, path)) for path in _TOLD]
    settings = _changed(_flat(baseline.settings), _flat(report.settings))
    yield from (
        f"{path} {_told(then)} then, {_told(now)} now" for path, then, now in environment if then != now
    )
    yield from (f"setting {each}" for each in settings)


def _flat(settings: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Settings by their dotted names."""
    found = {}
    for name, value in settings.items():
        nested = isinstance(value, dict)
        found.update(_flat(value, f"{prefix}{name}.") if nested else {f"{prefix}{name}": value})
    return found


def _told(value: Any) -> str:
    return "unknown" if value is None else str(value)


def compare_rows(before: Row, after: Row, threshold: float, confidence: float, seed: int) -> Comparison:
    """Compare a case of one run with the same of another.

    Args:
        before: its row in the saved run.
        after: its row in the run that is judged.
        threshold: share by which slower is a regression.
        confidence: of the interval.
        seed: of the bootstrap.
    """
    reason = _not_comparable(before, after)
    if reason or before.timing is None or after.timing is None:
        return unjudged(after.key, reason)
    ratio = ratio_of_runs(before.timing, after.timing, confidence, seed)
    return judged(
        after.key,
        ratio,
        [before.timing.median],
        [after.timing.median],
        threshold,
        doubts=[*_doubts(before, "before"), *_doubts(after, "now")],
    )


def _not_comparable(before: Row, after: Row) -> str:
    for row, when in ((before, "before"), (after, "now")):
        if row.timing is None:
            return f"not measured {when}: {row.reason}"
        if min((row.timing.low, *row.timing.samples)) <= 0:
            return f"has a time of 0 {when}"
    if changed := list(_changed(before.parameters, after.parameters)):
        return "not the same case: " + ", ".join(changed)
    for setting in _SETTINGS:
        then, now = getattr(before.timing, setting), getattr(after.timing, setting)
        if then != now:
            return f"measured otherwise: {setting} {then} then, {now} now"
    return ""


def _changed(before: dict[str, Any], after: dict[str, Any]) -> Iterator[str]:
    """What differs, as JSON would have it: a saved run has lists where this one may have tuples."""
    for name in dict.fromkeys((*before, *after)):
        then, now = (msgspec.json.decode(msgspec.json.encode(each.get(name))) for each in (before, after))
        if then != now:
            yield f"{name} {_told(then)} then, {_told(now)} now"


def _doubts(row: Row, when: str) -> list[str]:
    """What speaks against a verdict; not that a median is known less well than was asked for.

    The interval of the ratio is as much wider. Of too few repetitions none can be made.
    """
    if row.trusted or row.timing is None:
        return []
    counted = row.timing.repetitions >= _ENOUGH
    doubts = row.doubts or ("a check failed",)
    return [f"{when}: {doubt}" for doubt in doubts if not (counted and doubt.startswith(NOT_CONVERGED))]


def ratio_of_runs(before: Timing, after: Timing, confidence: float, seed: int) -> Interval:
    """The ratio of two medians from different runs, and its interval.

    The ends of the medians' intervals are combined as independent errors of the logarithms, each end by
    itself (Zou and Donner, "Construction of confidence limits about effect measures", 2008).

    Args:
        before: positive times.
        after: likewise.
        confidence: of the interval.
        seed: of the bootstrap.
    """
    one, other = _median(before, confidence, seed), _median(after, confidence, seed + 1)
    middle = after.median / before.median
    low = math.hypot(math.log(other.middle / other.low), math.log(one.high / one.middle))
    high = math.hypot(math.log(other.high / other.middle), math.log(one.middle / one.low))
    return Interval(middle * math.exp(-low), middle, middle * math.exp(high))


def _median(timing: Timing, confidence: float, seed: int) -> Interval:
    """Of a run by itself: wider than the interval that was saved where times depend on each other."""
    if not timing.samples:
        return Interval(timing.low, timing.median, timing.high)
    samples = np.array(timing.samples)
    return widened(median_interval(samples, confidence, seed), samples)
