"""Sides that take turns: in which order, for how long, and what is said of those that can't."""

import numpy as np
import pytest
from made_comparisons import MadeSide, listed, steady
from noisy_machine import noise, take_turns

from asynckit.bench.compare import Verdict
from asynckit.bench.comparisons import ComparisonReport
from asynckit.bench.config import BenchConfig
from asynckit.bench.pairs import compare_sides
from asynckit.bench.side_messages import Opened
from asynckit.errors import UsageError


def compare(before: MadeSide, after: MadeSide) -> ComparisonReport:
    return compare_sides(before, after, BenchConfig())


def test_the_order_is_swapped_every_round() -> None:
    """Whatever going second does, it does to both sides."""
    log: list[str] = []
    compare(MadeSide("a", {"x": steady(1.0)}, log), MadeSide("b", {"x": steady(1.0, seed=1)}, log))
    assert log[:8] == ["a", "b", "b", "a", "a", "b", "b", "a"]
    assert log.count("a") == log.count("b") == 20


def test_what_is_settled_is_not_measured_any_longer() -> None:
    """Quiet sides need the first look only; noisy ones get more rounds, up to a bound."""
    quiet = compare(MadeSide("a", {"x": steady(1.0)}), MadeSide("b", {"x": steady(1.2, seed=1)}))
    assert (quiet.comparisons[0].verdict, quiet.comparisons[0].rounds) == (Verdict.SLOWER, 20)
    assert quiet.comparisons[0].regression
    wild = compare(
        MadeSide("a", {"x": steady(1.0, noise=1.0)}), MadeSide("b", {"x": steady(1.0, seed=1, noise=1.0)})
    )
    assert (wild.comparisons[0].verdict, wild.comparisons[0].rounds) == (Verdict.UNSURE, 320)
    assert not wild.comparisons[0].regression


def test_a_noisy_machine_is_seen_through() -> None:
    """The rounds of a simulated busy machine give the verdict that its ratio deserves."""
    before, after = take_turns(noise(np.random.default_rng(3), 640), ratio=1.1)
    report = compare(MadeSide("a", {"x": listed(before)}), MadeSide("b", {"x": listed(after)}))
    assert report.comparisons[0].verdict is Verdict.SLOWER
    assert report.comparisons[0].before_seconds == tuple(before[: report.comparisons[0].rounds])


def test_each_round_is_told() -> None:
    """Progress can be shown."""
    told: list[tuple[str, int]] = []
    sides = [MadeSide(name, {"x": steady(1.0)}) for name in "ab"]
    compare_sides(sides[0], sides[1], BenchConfig(), lambda key, rounds: told.append((key, rounds)))
    assert told == [("x", number) for number in range(1, 21)]


def test_cases_are_matched_by_key() -> None:
    """Cases of one side only are named, not guessed at."""
    one = MadeSide("a", {"x": steady(1.0), "gone": steady(1.0)})
    other = MadeSide("b", {"new": steady(1.0), "x": steady(1.0)})
    report = compare(one, other)
    assert [each.key for each in report.comparisons] == ["x"]
    assert (report.only_before, report.only_after) == (("gone",), ("new",))


def test_cases_are_matched_by_place() -> None:
    """Two functions, or the same cases in two dtypes, are pairs whatever their names; rows have both."""
    one = MadeSide("a", {"gemm float32": steady(1.0), "launch": steady(1.0)})
    other = MadeSide("b", {"gemm bfloat16": steady(1.0), "launch": steady(1.0)})
    report = compare_sides(one, other, BenchConfig(), by_place=True)
    found = [(each.key, each.partner) for each in report.comparisons]
    assert found == [("gemm bfloat16", "gemm float32"), ("launch", "")]
    assert not report.only_before
    assert not report.only_after


def test_other_numbers_of_cases_are_matched_by_key() -> None:
    """A place says nothing where one side has more cases."""
    one = MadeSide("a", {"x": steady(1.0), "y": steady(1.0)})
    report = compare_sides(one, MadeSide("b", {"y": steady(1.0)}), BenchConfig(), by_place=True)
    assert [(each.key, each.partner) for each in report.comparisons] == [("y", "")]
    assert report.only_before == ("x",)


def test_a_case_that_cannot_be_timed_has_a_reason() -> None:
    """It costs its own verdict and no other."""
    times = {"x": steady(1.0), "y": steady(1.0)}
    report = compare(MadeSide("a", times, opened={"x": Opened(reason="needs a GPU")}), MadeSide("b", times))
    assert [(each.verdict, each.reason) for each in report.comparisons] == [
        (Verdict.UNSURE, "a: needs a GPU"),
        (Verdict.SAME, ""),
    ]
    assert report.failures == []


def test_doubtful_times_give_no_verdict() -> None:
    """A regression is never claimed from times that the checks doubt."""
    after = MadeSide("b", {"x": steady(2.0)}, opened={"x": Opened(doubts=("works on another stream",))})
    found = compare(MadeSide("a", {"x": steady(1.0)}), after).comparisons[0]
    assert (found.verdict, found.regression) == (Verdict.UNSURE, False)
    assert found.doubts == ("b: works on another stream",)


def test_a_side_that_breaks_off_costs_its_case() -> None:
    """An error in a later round is told; nothing is judged from half of the rounds."""
    found = compare(MadeSide("a", {"x": steady(1.0)}, last_round=7), MadeSide("b", {"x": steady(1.0)}))
    assert found.comparisons[0].verdict is Verdict.UNSURE
    assert found.comparisons[0].reason == "a: broke"
    assert found.failures == list(found.comparisons)


@pytest.mark.parametrize("seconds", [0.0, float("nan"), float("inf"), -1.0])
def test_impossible_times_are_refused(seconds: float) -> None:
    """A clock that can't tell makes no ratio."""
    found = compare(MadeSide("a", {"x": lambda _: seconds}), MadeSide("b", {"x": steady(1.0)}))
    assert "the clock can't tell" in found.comparisons[0].reason


def test_sides_on_different_devices_are_refused() -> None:
    """A ratio of a GPU to a CPU says nothing of the code, also where two configurations ask for it."""
    one, other = MadeSide("a", {"x": steady(1.0)}, device="cuda"), MadeSide("b", {"x": steady(1.0)})
    with pytest.raises(UsageError, match="a runs on cuda, and b on cpu"):
        compare(one, other)


def test_sides_without_a_common_case_are_refused() -> None:
    """A comparison of nothing would pass every gate."""
    with pytest.raises(UsageError, match="a has no case in common with what is judged: y"):
        compare(MadeSide("a", {"x": steady(1.0)}), MadeSide("b", {"y": steady(1.0)}))
