"""What samples of times say: their median and how sure it is, outliers, drift, and how many more are needed.

Medians, because times are skewed: the scheduler, interrupts and other programs only ever make a repetition
longer. Intervals come from the percentile bootstrap, expanded for small samples, for which it is known to be
too narrow (Hesterberg, "What Teachers Should Know About the Bootstrap", 2015). The median of a resample is an
order statistic of it, and order statistics of uniform draws have a beta distribution, so medians of resamples
are drawn directly: the same distribution as drawing whole resamples, without drawing them. Draws come from a
counter-based generator (Philox), so the same samples and seed give the same interval everywhere.

All of it is for samples that don't depend on each other. Drift breaks that, and is reported beside intervals.
"""

import math
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
import numpy.typing as npt

Samples = npt.NDArray[np.float64]

RESAMPLES = 2000
FAR_OUT = 3.0  # interquartile ranges beyond the quartiles, as Tukey calls them
WINDOW = 5  # repetitions whose median is compared with that of as many before, to end the warm-up
_SURE = 2.0  # standard errors within which two medians count as the same


@dataclass(frozen=True)
class Interval:
    """An estimate and where the truth is with the confidence that was asked for.

    Attributes:
        low: lower end.
        middle: the estimate.
        high: upper end.
    """

    low: float
    middle: float
    high: float

    @property
    def relative_error(self) -> float:
        """Half the width over the estimate; 0 where both are 0, infinite where only the estimate is."""
        half = (self.high - self.low) / 2
        if not self.middle:
            return math.inf if half else 0.0
        return half / abs(self.middle)


def median_interval(samples: Samples, confidence: float, seed: int) -> Interval:
    """The median and its interval by the percentile bootstrap.

    Args:
        samples: at least one, finite.
        confidence: between 0 and 1, both excluded.
        seed: of the resamples.
    """
    ordered = np.sort(samples)
    medians = _resampled_medians(ordered, np.random.Generator(np.random.Philox(seed)))
    tail = _expanded((1 - confidence) / 2, samples.size)
    low, high = np.quantile(medians, [tail, 1 - tail])
    return Interval(float(low), float(np.median(ordered)), float(high))


def ratio_interval(before: Samples, after: Samples, confidence: float, seed: int) -> Interval:
    """The median of ``after / before`` over pairs, and its interval.

    Args:
        before: seconds, positive.
        after: as many; each was measured beside the one at its place in ``before``.
        confidence: between 0 and 1, both excluded.
        seed: of the resamples.

    Raises:
        ValueError: they are not as many.
    """
    if before.shape != after.shape:
        raise ValueError(f"{before.size} samples have no pairs among {after.size}")
    logarithms = median_interval(np.log(after / before), confidence, seed)
    return Interval(math.exp(logarithms.low), math.exp(logarithms.middle), math.exp(logarithms.high))


def _expanded(tail: float, count: int) -> float:
    """The share of resamples to leave out at either end, so that the truth is there as seldom as ``tail``.

    As wide as Student's t makes an interval of the mean (Hesterberg's section 5.3); t by its expansion in z.
    """
    z, freedom = NormalDist().inv_cdf(tail), max(count - 1, 1)
    student = z + (z**3 + z) / (4 * freedom) + (5 * z**5 + 16 * z**3 + 3 * z) / (96 * freedom**2)
    return NormalDist().cdf(student * math.sqrt(count / freedom))


def _resampled_medians(ordered: Samples, generator: np.random.Generator) -> Samples:
    """Medians of resamples of ``ordered`` with replacement. Shape: (RESAMPLES,)."""
    count = ordered.size
    lower = (count + 1) // 2  # rank of the lower of the two in the middle, counted from 1
    rank = generator.beta(lower, count + 1 - lower, RESAMPLES)
    medians = ordered[_place(rank, count)]
    if count % 2:
        return medians
    # The next of the remaining draws, which lie above ``rank``, is the smallest of count - lower.
    smallest = -np.expm1(np.log1p(-generator.random(RESAMPLES)) / (count - lower))
    return (medians + ordered[_place(rank + (1 - rank) * smallest, count)]) / 2


def _place(rank: Samples, count: int) -> npt.NDArray[np.int64]:
    return np.minimum((rank * count).astype(np.int64), count - 1)


def outlier_share(samples: Samples) -> float:
    """Share of samples further than 3 interquartile ranges beyond the quartiles."""
    low, high = np.quantile(samples, [0.25, 0.75])
    reach = FAR_OUT * (high - low)
    return float(np.mean((samples < low - reach) | (samples > high + reach)))


def drift(samples: Samples) -> float:
    """Change of the median from the first to the last third, as a share of the first's; 0 of fewer than 3."""
    third = samples.size // 3
    if not third:
        return 0.0
    first, last = float(np.median(samples[:third])), float(np.median(samples[-third:]))
    if not first:
        return math.inf if last else 0.0
    return last / first - 1


def is_stable(samples: Samples, tolerance: float) -> bool:
    """Whether a warm-up is over: the last repetitions take as long as those before them.

    The medians of the last two windows are equal within ``tolerance`` (a share of them), or differ by no more
    than their scatter explains.
    """
    if samples.size < 2 * WINDOW:
        return False
    before, now = samples[-2 * WINDOW : -WINDOW], samples[-WINDOW:]
    middle = float(np.median(now))
    apart = abs(float(np.median(before)) - middle)
    scatter = max(_standard_error(before), _standard_error(now))
    return bool(apart <= max(tolerance * abs(middle), _SURE * scatter))


def _standard_error(samples: Samples) -> float:
    """Of the median, were the samples normal; from the median deviation, which outliers don't move."""
    deviation = float(np.median(np.abs(samples - np.median(samples)))) * 1.4826
    return 1.2533 * deviation / math.sqrt(samples.size)


def repetitions_needed(interval: Interval, count: int, target: float) -> int:
    """How many repetitions reach a relative error of ``target``, judged by the ``count`` so far.

    Intervals shrink with the square root of the count. Never fewer than ``count``, and at most ten times as
    many: a judgement from a few samples says little about many.
    """
    share = min(interval.relative_error / target, 4.0)
    return max(count, min(round(count * share**2), 10 * count))
