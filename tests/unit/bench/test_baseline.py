"""A run against a saved one: only on the same kind of device, only where rows are of the same case."""

from typing import Any

import msgspec
import numpy as np
import pytest

from asynckit.bench.baseline import compare_with_baseline
from asynckit.bench.compare import Verdict
from asynckit.bench.comparisons import ComparisonReport
from asynckit.bench.results import Ceilings, Report, Row, Timing
from asynckit.errors import AsynckitError, DependencyError, UsageError

CPU = {"cpu": {"model": "Xeon"}, "gpu": None, "torch": {"version": "2.11"}}
GPU = {"cpu": {"model": "Xeon"}, "gpu": {"name": "H100", "driver": "580.65.06"}}


def timing(seconds: float = 1e-3, seed: int = 0, **more: Any) -> Timing:
    samples = seconds * (1 + np.random.default_rng(seed).exponential(0.03, 200))
    known = {
        "median": float(np.median(samples)),
        "low": float(np.quantile(samples, 0.45)),
        "high": float(np.quantile(samples, 0.55)),
        "p5": float(np.quantile(samples, 0.05)),
        "p95": float(np.quantile(samples, 0.95)),
        "minimum": float(samples.min()),
        "samples": tuple(samples.tolist()),
    }
    usual = {
        "relative_error": 0.01,
        "repetitions": 200,
        "calls": 1,
        "warmup": 10,
        "outliers": 0.0,
        "drift": 0.0,
        "converged": True,
        "clock": "host",
        "cache": "cold",
    }
    return Timing(**{**known, **usual, **more})


def row(variant: str = "qkv", found: Timing | None = None, **more: Any) -> Row:
    return Row(
        case="gemm",
        variant=variant,
        group="gemm",
        device="cpu",
        timing=found,
        reason="" if found else "needs a GPU",
        **more,
    )


def report(
    *rows: Row, device: str = "cpu", environment: dict[str, Any] | None = None, **settings: Any
) -> Report:
    return Report(
        asynckit="1.0",
        begun="2026-01-01T00:00:00Z",
        device=device,
        environment=CPU if environment is None else environment,
        settings=settings,
        rows=rows,
        ceilings=Ceilings(flops_per_second={}, bytes_per_second=None),
    )


def compare(baseline: Report, now: Report) -> ComparisonReport:
    return compare_with_baseline(baseline, now, name="main.json", threshold=0.05, confidence=0.95)


def verdict(before: Row, after: Row) -> tuple[Verdict, str]:
    found = compare(report(before), report(after)).comparisons[0]
    return found.verdict, found.reason


def test_runs_alike_are_the_same() -> None:
    """Over 100 pairs of runs on a machine with skewed noise, at least 95 are SAME."""
    found = [verdict(row(found=timing(seed=2 * n)), row(found=timing(seed=2 * n + 1)))[0] for n in range(100)]
    assert found.count(Verdict.SAME) >= 95


def test_a_tenth_slower_is_a_regression() -> None:
    """And a tenth faster is FASTER."""
    pairs = [(timing(1e-3, seed=2 * n), timing(1.1e-3, seed=2 * n + 1)) for n in range(100)]
    forth = [compare(report(row(found=one)), report(row(found=other))) for one, other in pairs]
    back = [verdict(row(found=other), row(found=one))[0] for one, other in pairs]
    assert sum(bool(each.regressions) for each in forth) >= 95
    assert back.count(Verdict.FASTER) >= 95


def test_a_run_that_drifts_is_not_believed() -> None:
    """Times that climb all along are no 200 independent ones: the interval says so."""
    climbing = tuple(np.linspace(1e-3, 1.5e-3, 200).tolist())
    drifting = timing(median=1.25e-3, low=1.24e-3, high=1.26e-3, samples=climbing)
    assert verdict(row(found=drifting), row(found=drifting))[0] is Verdict.UNSURE


def test_intervals_serve_where_no_samples_were_kept() -> None:
    """A report cut down to its medians can still be compared with."""
    bare = timing(median=1e-3, low=0.99e-3, high=1.01e-3, samples=())
    slower = timing(median=1.2e-3, low=1.19e-3, high=1.21e-3, samples=())
    found = compare(report(row(found=bare)), report(row(found=slower))).comparisons[0]
    assert found.regression
    assert found.low == pytest.approx(1.2 * np.exp(-np.hypot(np.log(1.2 / 1.19), np.log(1.01))))


@pytest.mark.parametrize(
    ("then", "now", "words"),
    [
        ({"gpu": {"name": "A100", "driver": "580.1"}}, {}, "another GPU: A100 then, H100 now"),
        ({"gpu": {"name": "H100", "driver": "570.1"}}, {}, "another driver: 570 then, 580 now"),
        ({"cpu": {"model": "EPYC"}}, {}, "another model of CPU: EPYC then, Xeon now"),
        ({}, {"cpu": {}}, "another model of CPU: Xeon then, unknown now"),
        ({}, {"gpu": None}, "another GPU: H100 then, unknown now"),
    ],
)
def test_other_devices_are_refused(then: dict[str, Any], now: dict[str, Any], words: str) -> None:
    """A ratio across devices says nothing of the code."""
    one = report(row(found=timing()), device="cuda", environment=GPU | then)
    other = report(row(found=timing()), device="cuda", environment=GPU | now)
    with pytest.raises(UsageError, match=words) as caught:
        compare(one, other)
    assert caught.value.where == "--baseline main.json"


@pytest.mark.parametrize(
    ("then", "now", "kind"), [("cuda", "cpu", DependencyError), ("cpu", "cuda", UsageError)]
)
def test_gpu_and_cpu_are_not_compared(then: str, now: str, kind: type[AsynckitError]) -> None:
    """Where the baseline's GPU is missing here that is a missing device; otherwise the wrong file."""
    with pytest.raises(kind):
        compare(report(device=then, environment=GPU), report(device=now, environment=GPU))


def test_a_minor_driver_is_only_told() -> None:
    """As are other versions and settings: they may be what the comparison is about."""
    newer = GPU | {"gpu": {"name": "H100", "driver": "580.99"}, "torch": {"version": "2.12"}}
    found = compare(
        report(row(), device="cuda", environment=GPU, model={"name": "tiny"}),
        report(row(), device="cuda", environment=newer, model={"name": "large"}),
    )
    assert found.differences == (
        "torch.version unknown then, 2.12 now",
        "gpu.driver 580.65.06 then, 580.99 now",
        "setting model.name tiny then, large now",
    )


def test_rows_of_one_run_only_are_named() -> None:
    """Nothing drops out unseen."""
    found = compare(report(row("old"), row("both", timing())), report(row("both", timing()), row("new")))
    assert [each.key for each in found.comparisons] == ["gemm both"]
    assert (found.only_before, found.only_after) == (("gemm old",), ("gemm new",))


@pytest.mark.parametrize(
    ("before", "after", "reason"),
    [
        (row(), row(found=timing()), "not measured before: needs a GPU"),
        (row(found=timing()), row(), "not measured now: needs a GPU"),
        (
            row(found=timing(clock="events")),
            row(found=timing(clock="graph")),
            "measured otherwise: clock events then, graph now",
        ),
        (
            row(found=timing(), parameters={"m": 1}),
            row(found=timing(), parameters={"m": 8, "k": 2}),
            "not the same case: m 1 then, 8 now, k unknown then, 2 now",
        ),
        (row(found=timing(samples=(0.0, 1.0))), row(found=timing()), "has a time of 0 before"),
        (row(found=timing(), trusted=False), row(found=timing()), "its times are not to be trusted"),
    ],
)
def test_rows_that_are_not_alike_have_no_verdict(before: Row, after: Row, reason: str) -> None:
    """UNSURE, with what is in the way."""
    assert verdict(before, after) == (Verdict.UNSURE, reason)


def test_a_saved_run_is_compared_as_it_was() -> None:
    """What JSON can't tell apart (tuples and lists) is no difference."""
    now = report(row(found=timing(), parameters={"shape": (1, 2)}))
    saved = msgspec.json.decode(msgspec.json.encode(now), type=Report)
    assert compare(saved, now).comparisons[0].verdict is Verdict.SAME


def test_runs_without_a_common_case_are_refused() -> None:
    """A comparison of nothing would pass every gate."""
    with pytest.raises(UsageError, match=r"main.json has no case in common with what is judged: gemm new"):
        compare(report(row("old", timing())), report(row("new", timing())))


def test_a_wide_interval_does_not_hide_a_regression() -> None:
    """Three times as slow is a regression, however much wider than was asked for the intervals are."""
    wide: dict[str, Any] = {"converged": False, "relative_error": 0.02}
    told: dict[str, Any] = {"trusted": False, "doubts": ("not converged: ±2.0% after 200 repetitions",)}
    before, after = row(found=timing(**wide), **told), row(found=timing(3e-3, seed=1, **wide), **told)
    assert compare(report(before), report(after)).regressions
    few = row(found=timing(3e-3, seed=1, **wide, repetitions=5), **told)
    assert not compare(report(before), report(few)).regressions
    drifting = row(found=timing(3e-3, seed=1), trusted=False, doubts=("drift: +9.0%",))
    assert not compare(report(before), report(drifting)).regressions
