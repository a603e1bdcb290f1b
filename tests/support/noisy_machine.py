"""Times as a busy machine takes them: skewed, alike to those before, drifting, with bursts and outliers."""

import numpy as np

from asynckit.bench.statistics import Samples


def noise(generator: np.random.Generator, count: int, scale: float = 1.0) -> Samples:
    """Factors on the true time of ``count`` successive measurements; of 1 at best, about 1.1 by and large.

    A clock that wanders (autoregressive, 5 % of standard deviation), drift (10 % from first to last), delays
    that are exponential (3 %), one outlier in 20 (50 %), and another program that comes and goes (20 %).
    """
    wander = np.zeros(count)
    for at, step in enumerate(generator.normal(0, 0.02, count)):
        wander[at] = 0.9 * wander[at - 1] + step
    drift = np.linspace(0, generator.normal(0, 0.1), count)
    delays = generator.exponential(0.03, count)
    outliers = (generator.random(count) < 0.05) * generator.exponential(0.5, count)
    neighbour = 0.2 * (np.cumsum(generator.random(count) < 0.03) % 2)
    factors: Samples = np.exp(scale * (wander + drift + delays + outliers + neighbour))
    return factors


def take_turns(factors: Samples, ratio: float, second: float = 1.0) -> tuple[Samples, Samples]:
    """Seconds of two sides that take turns, each starting every other round.

    Args:
        factors: of the machine, two for each round.
        ratio: of the side after to the side before.
        second: factor on whatever goes second in a round.
    """
    pairs = factors.reshape(-1, 2) * [1.0, second]
    swapped = (np.arange(len(pairs)) % 2).astype(bool)
    before = np.where(swapped, pairs[:, 1], pairs[:, 0])
    return before, ratio * np.where(swapped, pairs[:, 0], pairs[:, 1])
