"""How many steps of an engine lie between the times in its records.

A record's first and last token came at the ends of steps, and its tokens say how many steps apart: that
counts steps between two times. Times that are equal are one step's, and a sample that starts after another
ended, with nothing in between, starts in the next step. Put together, nearly all times of a run are counted.
"""

from bisect import bisect_left
from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

from asynckit.rollout.planning.workload import RecordedSample


class Interval(NamedTuple):
    """Two times with none in between, and the steps that end after the first and up to the second."""

    begin: float
    end: float
    steps: int


def count_steps(samples: Sequence[RecordedSample]) -> list[Interval]:
    """The intervals between the times of one engine's samples, where their steps can be counted.

    Wrong where samples were preempted: their tokens are fewer than the steps then.
    """
    counts = _Counts()
    for sample in samples:
        counts.relate(sample.first_token, sample.end, sample.tokens - 1)
    for before, after in _admissions(samples):
        counts.relate(before, after, 1)
    times = sorted({time for sample in samples for time in (sample.first_token, sample.end)})
    found = [(begin, end, counts.between(begin, end)) for begin, end in pairwise(times)]
    return [Interval(begin, end, steps) for begin, end, steps in found if steps is not None and steps > 0]


def _admissions(samples: Sequence[RecordedSample]) -> list[tuple[float, float]]:
    """Begin and end of steps that start a sample in the place of one that has just ended."""
    firsts = sorted({sample.first_token for sample in samples})
    ends = sorted({sample.end for sample in samples})
    found = []
    for before, first in pairwise(firsts):
        place = bisect_left(ends, first) - 1
        if place >= 0 and ends[place] >= before:
            found.append((ends[place], first))
    return found


class _Counts:
    """Differences between numbers that are not known themselves (a union-find with offsets)."""

    def __init__(self) -> None:
        self._above: dict[float, tuple[float, int]] = {}  # another one, and how much larger this one is

    def relate(self, one: float, other: float, steps: int) -> None:
        """``other`` is so many steps after ``one``; what is known already stays."""
        (root, offset), (other_root, other_offset) = self._find(one), self._find(other)
        if root != other_root:
            self._above[other_root] = (root, offset + steps - other_offset)

    def between(self, one: float, other: float) -> int | None:
        """Steps from ``one`` to ``other``; None where that is unknown."""
        (root, offset), (other_root, other_offset) = self._find(one), self._find(other)
        return other_offset - offset if root == other_root else None

    def _find(self, time: float) -> tuple[float, int]:
        path = []
        while (above := self._above.get(time, (time, 0)))[0] != time:
            path.append((time, above[1]))
            time = above[0]
        total = 0
        for each, offset in reversed(path):
            total += offset
            self._above[each] = (time, total)
        return time, total
