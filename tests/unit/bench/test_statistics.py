"""Statistics of times: intervals hold what they promise, and noise is not taken for anything else."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from asynckit.bench.statistics import (
    Interval,
    Samples,
    _expanded,
    drift,
    is_stable,
    median_interval,
    outlier_share,
    ratio_interval,
    repetitions_needed,
)

TIMES = st.lists(st.floats(1e-9, 1e3), min_size=1, max_size=60).map(np.array)


def skewed(generator: np.random.Generator, count: int) -> Samples:
    """Times as machines give them: a floor, small noise above it, and now and then an interruption."""
    noise = generator.lognormal(-3.0, 0.6, count)
    interrupted = generator.random(count) < 0.05
    return 1.0 + noise + interrupted * generator.exponential(1.0, count)


TRUE_MEDIAN = float(np.median(skewed(np.random.default_rng(99), 2_000_000)))


@pytest.mark.parametrize("count", [10, 20, 21, 60, 301])
def test_the_interval_covers_the_median_as_often_as_it_says(count: int) -> None:
    """Of skewed samples with interruptions, 95 % intervals hold the true median in at least 93 %."""
    generator = np.random.default_rng(count)
    covered = [
        (found := median_interval(skewed(generator, count), 0.95, seed)).low <= TRUE_MEDIAN <= found.high
        for seed in range(2000)
    ]
    assert 0.93 <= np.mean(covered) <= 0.99


@pytest.mark.parametrize("count", [7, 8, 50])
def test_medians_of_resamples_are_those_of_whole_resamples(count: int) -> None:
    """Drawing the order statistic gives the quantiles that drawing whole resamples gives."""
    samples = np.linspace(1.0, 2.0, count)
    plain = np.random.default_rng(5).integers(0, count, (40_000, count))
    tail = _expanded(0.05, count)
    expected = np.quantile(np.median(samples[plain], axis=1), [tail, 1 - tail])
    found = [median_interval(samples, 0.9, seed) for seed in range(20)]
    step = 1.0 / (count - 1)
    assert np.mean([each.low for each in found]) == pytest.approx(expected[0], abs=step / 2)
    assert np.mean([each.high for each in found]) == pytest.approx(expected[1], abs=step / 2)


@given(TIMES, st.floats(0.5, 0.999), st.integers(0, 1000))
def test_an_interval_holds_its_estimate_and_stays_within_the_samples(
    samples: Samples, confidence: float, seed: int
) -> None:
    """Whatever the samples: low <= median <= high, between the extremes, and the same with the same seed."""
    found = median_interval(samples, confidence, seed)
    assert found.middle == float(np.median(samples))
    assert samples.min() <= found.low <= found.high <= samples.max()
    if samples.size > 4:
        assert found.low <= found.middle <= found.high
    assert found == median_interval(samples[::-1], confidence, seed)


@given(TIMES, st.floats(0.5, 2.0))
def test_the_ratio_of_proportional_times_is_exact(samples: Samples, factor: float) -> None:
    """Where every pair has the same ratio, nothing is uncertain."""
    found = ratio_interval(samples, samples * factor, 0.95, 0)
    assert [found.low, found.middle, found.high] == pytest.approx([factor] * 3)


def test_pairs_cancel_what_both_sides_share() -> None:
    """A drift that doubles all times leaves the interval of the ratio narrow."""
    generator = np.random.default_rng(3)
    shared = np.linspace(1.0, 2.0, 40)
    before, after = (shared * generator.normal(1.0, 0.01, 40) for _ in range(2))
    found = ratio_interval(before, after * 1.1, 0.95, 0)
    assert found.low > 1.08
    assert found.high < 1.12
    with pytest.raises(ValueError, match="no pairs"):
        ratio_interval(before, after[1:], 0.95, 0)


def test_outliers_are_what_lies_far_beyond_the_quartiles() -> None:
    """Interruptions are counted; the skew of ordinary noise is not; equal samples have none."""
    ordinary = np.linspace(1.0, 1.1, 95)
    assert outlier_share(np.concatenate([ordinary, [9.0] * 5])) == pytest.approx(0.05)
    assert outlier_share(ordinary) == 0
    assert outlier_share(np.ones(10)) == 0


def test_drift_is_the_change_between_thirds() -> None:
    """A machine that slows down by a tenth shows it, with its sign; too few samples show none."""
    assert drift(np.array([1.0] * 10 + [5.0] * 10 + [1.1] * 10)) == pytest.approx(0.1)
    assert drift(np.array([2.0, 2.0, 1.0])) == pytest.approx(-0.5)
    assert drift(np.array([1.0, 9.0])) == 0
    assert drift(np.zeros(9)) == 0
    assert drift(np.array([0.0, 1.0, 1.0])) == math.inf


def test_a_warm_up_ends_when_times_have_settled() -> None:
    """Falling times are not stable, settled ones are, also where they scatter more than the tolerance."""
    falling = np.geomspace(8.0, 1.0, 10)
    assert not is_stable(falling, 0.01)
    assert is_stable(np.concatenate([falling, np.full(10, 1.0)]), 0.01)
    assert not is_stable(np.ones(9), 0.01)
    noisy = np.random.default_rng(0).normal(1.0, 0.05, (500, 10))
    assert np.mean([is_stable(each, 0.001) for each in noisy]) > 0.8


@given(st.floats(0, 100), st.integers(1, 5000), st.floats(1e-4, 1.0))
def test_the_repetitions_needed_never_fall_and_never_explode(error: float, count: int, target: float) -> None:
    """An estimate of what is still needed lies between what there is and ten times that."""
    needed = repetitions_needed(Interval(1 - error, 1.0, 1 + error), count, target)
    assert count <= needed <= 10 * count
    if error <= target:
        assert needed == count


def test_halving_the_error_takes_four_times_as_many() -> None:
    """The estimate follows the square root of the count."""
    assert repetitions_needed(Interval(0.98, 1.0, 1.02), 50, 0.01) == 200
    assert Interval(0.0, 0.0, 0.0).relative_error == 0
    assert Interval(-1.0, 0.0, 1.0).relative_error == math.inf
