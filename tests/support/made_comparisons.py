"""Sides of comparisons that take no time, and functions that processes measure."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path

import numpy as np

from asynckit.bench.side_messages import Opened
from asynckit.bench.statistics import Samples
from asynckit.errors import WorkFailed


@dataclass
class MadeSide:
    """A side whose rounds take what is said beforehand.

    Attributes:
        name: of the side.
        times: of each of its cases, the seconds of a round by its number.
        log: who took a round, in order; shared between sides.
        opened: what each case says when it is opened.
        last_round: after which it fails.
    """

    name: str
    times: dict[str, Callable[[int], float]]
    log: list[str] = field(default_factory=list)
    opened: dict[str, Opened] = field(default_factory=dict)
    last_round: int = 1_000_000
    device: str = "cpu"

    @property
    def keys(self) -> Sequence[str]:
        """Of its cases."""
        return list(self.times)

    def open(self, key: str) -> Opened:
        """Begin with the first round."""
        self._key, self._rounds = key, count()
        return self.opened.get(key, Opened())

    def seconds(self) -> float:
        """What was said beforehand."""
        number = next(self._rounds)
        if number >= self.last_round:
            raise WorkFailed("broke", where=self.name)
        self.log.append(self.name)
        return self.times[self._key](number)

    def close(self) -> None:
        """Hold nothing."""


def listed(seconds: Samples) -> Callable[[int], float]:
    """Rounds that take what is listed."""
    return lambda number: float(seconds[number])


def steady(seconds: float, seed: int = 0, noise: float = 0.01) -> Callable[[int], float]:
    """Rounds that take about as long."""
    factors = np.exp(np.random.default_rng(seed).normal(0, noise, 1000))
    return lambda number: seconds * float(factors[number])


def write_module(folder: Path, work: int = 200, name: str = "hot") -> None:
    """A module whose functions loop, and that does what files beside it tell it to do."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{name}.py").write_text(
        f"""import os
import threading
from pathlib import Path

FOLDER = Path(__file__).parent
print("imported")

def work():
    if (FOLDER / "block").exists():
        threading.Event().wait()
    if (FOLDER / "die").exists():
        os._exit(3)
    if (FOLDER / "raise").exists():
        raise RuntimeError("told to")
    return sum(range({work}))

def shout():
    print("loud")

def lose():
    raise RuntimeError("lost")
"""
    )
