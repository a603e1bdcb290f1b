"""Verdicts: right as often as is claimed, over simulated machines as noisy as real ones."""

import math
from collections import Counter
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from noisy_machine import noise, take_turns

from asynckit.bench.compare import (
    Verdict,
    confidence_of_look,
    is_regression,
    is_settled,
    judge,
    looks,
    margin,
    ratio_of_rounds,
    widened,
)
from asynckit.bench.statistics import Interval

CONFIDENCE = 0.95
THRESHOLD = 0.05
RUNS = 200

edges = st.floats(0.5, 2.0)


def interval(low: float, high: float) -> Interval:
    return Interval(low, math.sqrt(low * high), high)


def found(generator: np.random.Generator, ratio: float, scale: float = 1.0) -> Interval:
    """What a comparison ends with, on a machine that is new each time."""
    before, after = take_turns(noise(generator, 2 * looks(20)[-1], scale), ratio, second=1.02)
    for rounds in looks(20):
        seen = ratio_of_rounds(before[:rounds], after[:rounds], confidence_of_look(CONFIDENCE), seed=0)
        if is_settled(seen, THRESHOLD):
            break
    return seen


def verdicts(ratio: float, scale: float = 1.0) -> Counter[Verdict]:
    generator = np.random.default_rng(7)
    return Counter(judge(found(generator, ratio, scale), THRESHOLD) for _ in range(RUNS))


@pytest.mark.parametrize("scale", [0.3, 1.0, 1.5])
def test_identical_sides_are_the_same(scale: float) -> None:
    """Two identical builds come out SAME in at least 95 of 100 runs, on quiet and on noisy machines."""
    assert verdicts(1.0, scale)[Verdict.SAME] >= 0.95 * RUNS


@pytest.mark.parametrize("scale", [0.3, 1.0, 1.5])
def test_a_tenth_slower_is_found(scale: float) -> None:
    """A planted slow-down of 10 % is SLOWER in at least 95 of 100 runs."""
    assert verdicts(1.1, scale)[Verdict.SLOWER] >= 0.95 * RUNS


def test_a_tenth_slower_is_a_regression() -> None:
    """CI fails on it: the slow-down is surely beyond the threshold too."""
    generator = np.random.default_rng(8)
    assert sum(is_regression(found(generator, 1.1), THRESHOLD) for _ in range(RUNS)) >= 0.95 * RUNS


def test_a_tenth_faster_is_found() -> None:
    """Verdicts know no favourite: the same holds the other way round."""
    assert verdicts(1 / 1.1)[Verdict.FASTER] >= 0.95 * RUNS


def test_what_is_at_the_threshold_is_seldom_beyond_it() -> None:
    """Looking again doesn't raise the share of false alarms: 2.5 % at most where they are likeliest."""
    generator = np.random.default_rng(9)
    alarms = sum(is_regression(found(generator, 1 + THRESHOLD, 0.5), THRESHOLD) for _ in range(2 * RUNS))
    assert alarms <= 0.025 * 2 * RUNS


def test_the_interval_holds_the_ratio() -> None:
    """The interval in which a comparison ends covers the truth as often as the confidence says."""
    generator, truth = np.random.default_rng(10), 1.03
    covered = [found(generator, truth) for _ in range(RUNS)]
    assert sum(each.low <= truth <= each.high for each in covered) >= 0.93 * RUNS


@pytest.mark.parametrize(
    ("low", "high", "verdict"),
    [
        (0.97, 1.03, Verdict.SAME),
        (1.01, 1.04, Verdict.SAME),
        (0.94, 1.03, Verdict.UNSURE),
        (0.98, 1.06, Verdict.UNSURE),
        (1.01, 1.06, Verdict.SLOWER),
        (1.07, 1.20, Verdict.SLOWER),
        (0.90, 0.99, Verdict.FASTER),
        (0.80, 0.90, Verdict.FASTER),
    ],
)
def test_where_the_interval_lies_is_the_verdict(low: float, high: float, verdict: Verdict) -> None:
    """The picture in the module's docstring."""
    assert judge(interval(low, high), THRESHOLD) is verdict


def test_a_high_threshold_calls_nothing_the_same_that_is_not() -> None:
    """A tenth slower is SLOWER where 20 % are tolerated, and no regression."""
    seen = interval(1.08, 1.12)
    assert judge(seen, 0.2) is Verdict.SLOWER
    assert not is_regression(seen, 0.2)


def test_a_low_threshold_narrows_what_is_the_same() -> None:
    """What is a regression can't be the same."""
    seen = interval(1.015, 1.025)
    assert judge(seen, 0.01) is Verdict.SLOWER
    assert is_regression(seen, 0.01)


def test_surely_slower_but_not_surely_beyond_is_not_settled() -> None:
    """More rounds are taken before CI is told."""
    assert not is_settled(interval(1.02, 1.09), THRESHOLD)
    assert is_settled(interval(1.06, 1.2), THRESHOLD)


@given(edges, edges, st.floats(0, 0.5))
def test_claims_follow_from_the_interval(one: float, other: float, threshold: float) -> None:
    """Whatever is claimed is true of every ratio in the interval."""
    seen = interval(min(one, other), max(one, other))
    verdict = judge(seen, threshold)
    assert verdict is not Verdict.SAME or seen.high < 1 + margin(threshold)
    assert verdict is not Verdict.SLOWER or seen.low > 1
    assert verdict is not Verdict.FASTER or seen.high < 1
    assert not is_regression(seen, threshold) or seen.low > 1 + threshold


@given(edges, edges, st.floats(0.001, 0.5))
def test_sides_can_be_swapped(one: float, other: float, threshold: float) -> None:
    """What is SLOWER from here is FASTER from there."""
    low, high = min(one, other), max(one, other)
    mirror = {Verdict.SLOWER: Verdict.FASTER, Verdict.FASTER: Verdict.SLOWER}
    forth, back = judge(interval(low, high), threshold), judge(interval(1 / high, 1 / low), threshold)
    assert mirror.get(forth, forth) is back


def test_order_and_steady_drift_cancel() -> None:
    """Going second costs 30 % and the machine slows down threefold: identical sides are still alike."""
    before, after = take_turns(np.geomspace(1, 3, 40), ratio=1.0, second=1.3)
    seen = ratio_of_rounds(before, after, CONFIDENCE, seed=0)
    assert seen.low == pytest.approx(1) == seen.high


def test_what_is_alike_counts_less() -> None:
    """Times in long runs of the same make the interval wider; independent ones hardly do, ties not at all."""
    seen, generator = interval(0.99, 1.01), np.random.default_rng(0)
    runs = np.repeat(generator.normal(size=20), 10)
    assert widened(seen, runs).high > 1.03
    assert widened(seen, generator.normal(size=2000)).high < 1.011
    assert widened(seen, np.ones(20)) == seen


def test_an_odd_round_has_no_partner() -> None:
    """A round without its mirror would let the order back in."""
    with pytest.raises(ValueError, match="one has no partner"):
        ratio_of_rounds(np.ones(21), np.ones(21), CONFIDENCE, seed=0)


@given(st.integers(1, 1000))
def test_looks_are_even_and_double(rounds: int) -> None:
    """Every look can be joined in pairs, and has enough of them for an interval."""
    planned = looks(rounds)
    assert planned[0] >= max(20, rounds)
    assert all(count % 2 == 0 for count in planned)
    assert all(later == 2 * earlier for earlier, later in pairwise(planned))
