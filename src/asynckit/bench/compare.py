"""Is one side slower than the other? A verdict that is seldom wrong, and says when it does not know.

Both sides are timed in rounds, one after the other, the order swapped every time. Two successive rounds are
joined into one ratio: their geometric mean. What the order does, and what drifts steadily, is in it once with
either sign and cancels. What slows both sides for a while, such as another program, cancels within a round.
The median of these ratios has an interval (:func:`asynckit.bench.statistics.ratio_interval`), which is
widened where successive ratios resemble each other, and the verdict follows from where the interval lies::

          1/1.05      1     1.05
        [--------]    |      |          FASTER: all of it below 1, unless it is SAME
             |      [----]   |          SAME: all of it between the outer two
             |        | [-------]       SLOWER: all of it above 1, unless it is SAME
             |    [-------------]       UNSURE

The rounds are looked at a few times, each time after twice as many, until nothing is left open. More looks
are more occasions to err, so each is made at a higher confidence (Bonferroni), such that all of them together
err as seldom as was asked for.
"""

import math
from enum import StrEnum

import numpy as np

from asynckit.bench.statistics import Interval, Samples, ratio_interval

FEWEST_ROUNDS = 20  # ten ratios: the bootstrap of fewer is too sure of itself
SAME_WITHIN = 0.05  # share by which two sides may differ and still be the same
_LOOKS = 5
_MOST_ALIKE = 0.95


class Verdict(StrEnum):
    """What a comparison found, of the side after with regard to the side before."""

    SAME = "SAME"
    FASTER = "FASTER"
    SLOWER = "SLOWER"
    UNSURE = "UNSURE"


def margin(threshold: float) -> float:
    """Share by which two sides may differ and still be the same.

    Args:
        threshold: share by which slower is a regression: what is one is never the same.
    """
    return min(threshold, SAME_WITHIN)


def judge(ratio: Interval, threshold: float) -> Verdict:
    """The verdict that the interval of a ratio allows.

    Args:
        ratio: of the time after to the time before.
        threshold: share by which slower is a regression.
    """
    near = 1 + margin(threshold)
    if 1 / near < ratio.low and ratio.high < near:
        return Verdict.SAME
    if ratio.low > 1:
        return Verdict.SLOWER
    return Verdict.FASTER if ratio.high < 1 else Verdict.UNSURE


def is_regression(ratio: Interval, threshold: float) -> bool:
    """Whether the side after is surely slower by more than the threshold."""
    return judge(ratio, threshold) is Verdict.SLOWER and ratio.low > 1 + threshold


def is_settled(ratio: Interval, threshold: float) -> bool:
    """Whether more rounds could change neither the verdict nor whether it is a regression.

    A ratio that is surely above 1 but not surely beyond what counts as the same is not settled: chance alone
    makes one out of identical sides now and then, and more rounds tell.
    """
    near = 1 + margin(threshold)
    edges = (1 / near, 1.0, near, 1 + threshold)
    return judge(ratio, threshold) is Verdict.SAME or not any(
        ratio.low <= edge <= ratio.high for edge in edges
    )


def looks(rounds: int) -> tuple[int, ...]:
    """After how many rounds to look, in order; the last is where to give up.

    Args:
        rounds: of the first look; rounded up to an even number, and to as many as an interval needs.
    """
    first = max(FEWEST_ROUNDS, rounds + rounds % 2)
    return tuple(first << look for look in range(_LOOKS))


def confidence_of_look(confidence: float) -> float:
    """That each look must have for all of them together to have ``confidence``."""
    return 1 - (1 - confidence) / _LOOKS


def ratio_of_rounds(before: Samples, after: Samples, confidence: float, seed: int) -> Interval:
    """How many times as long the side after takes, and the interval of that.

    Args:
        before: seconds of each round, in order; ``before`` went first in the first of them, then in turn.
        after: as many; an even number.
        confidence: of the interval.
        seed: of the bootstrap.

    Raises:
        ValueError: they are not as many, or not an even number.
    """
    both = _joined(before), _joined(after)
    return widened(ratio_interval(*both, confidence, seed), np.log(both[1] / both[0]))


def _joined(seconds: Samples) -> Samples:
    """Geometric means of two successive rounds. Shape: (half as many,)."""
    if seconds.size % 2:
        raise ValueError(f"{seconds.size} rounds: one has no partner of the other order")
    joined: Samples = np.sqrt(seconds[::2] * seconds[1::2])
    return joined


def widened(interval: Interval, samples: Samples) -> Interval:
    """The interval as wide as samples that resemble those before them deserve.

    Of n samples with a correlation r between neighbours, about n (1 - r) / (1 + r) count, as in the mean of
    an autoregressive process of order 1. r is that of the ranks, which outliers don't move; a negative one
    is taken for none.

    Args:
        interval: positive, from samples taken to be independent.
        samples: in the order in which they were measured.
    """
    wider = math.sqrt(_dependence(samples))
    low = math.log(interval.middle / interval.low) * wider
    high = math.log(interval.high / interval.middle) * wider
    return Interval(interval.middle * math.exp(-low), interval.middle, interval.middle * math.exp(high))


def _dependence(samples: Samples) -> float:
    """How many samples say as much as one independent one."""
    rank = np.unique(samples, return_inverse=True)[1].astype(float)
    rank -= rank.mean()
    scatter = float(rank @ rank)
    alike = float(rank[:-1] @ rank[1:]) / scatter if scatter else 0.0
    alike = min(max(alike, 0.0), _MOST_ALIKE)
    return (1 + alike) / (1 - alike)
