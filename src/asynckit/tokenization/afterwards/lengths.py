"""How long documents are: exact counts by length, their percentiles, and bins that grow with the length."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

PERCENTILES = (1, 10, 25, 50, 75, 90, 99)


@dataclass(frozen=True)
class Bin:
    """Documents of ``low`` to ``high`` tokens, both included."""

    low: int
    high: int
    documents: int

    @property
    def label(self) -> str:
        """The range, as a person reads it."""
        return f"{self.low:,}" if self.low == self.high else f"{self.low:,} to {self.high:,}"


@dataclass(frozen=True)
class Lengths:
    """Of all documents, in tokens.

    Attributes:
        documents: how many there are.
        mean: their mean length; 0 where there are none.
        shortest: the least.
        longest: the most.
        percentiles: the least length that so many percent of the documents don't exceed.
        bins: from the shortest to the longest, without gaps.
    """

    documents: int
    mean: float
    shortest: int
    longest: int
    percentiles: dict[int, int]
    bins: list[Bin]


def summarize(counted: Mapping[int, int]) -> Lengths:
    """Sum up documents that were counted by their length."""
    lengths = np.array(sorted(counted), dtype=np.int64)
    if not lengths.size:
        return Lengths(0, 0.0, 0, 0, {}, [])
    counts = np.array([counted[length] for length in lengths.tolist()], dtype=np.int64)
    upto = np.cumsum(counts)
    documents = int(upto[-1])
    places = np.searchsorted(upto, [-(-documents * percent // 100) for percent in PERCENTILES])
    mean = float(lengths @ counts) / documents
    percentiles = dict(zip(PERCENTILES, lengths[places].tolist(), strict=True))
    return Lengths(
        documents,
        mean,
        int(lengths[0]),
        int(lengths[-1]),
        percentiles,
        _bins(lengths.tolist(), counts.tolist()),
    )


def _bins(lengths: list[int], counts: list[int]) -> list[Bin]:
    found: Counter[int] = Counter()
    for length, count in zip(lengths, counts, strict=True):
        found[_begin(length)] += count
    bins, low = [], _begin(lengths[0])
    while low <= lengths[-1]:
        following = _next(low)
        bins.append(Bin(low, following - 1, found[low]))
        low = following
    return bins


def _begin(length: int) -> int:
    """The first length of a bin: 0, 1, 2, 3, 4, 6, 8, 12, 16, 24 and so on, two to a power of two."""
    if length < 2:
        return length
    power = 1 << (length.bit_length() - 1)
    return power + power // 2 if length >= power + power // 2 else power


def _next(begin: int) -> int:
    """Where the bin after that of ``begin`` begins."""
    if begin < 2:
        return begin + 1
    power = 1 << (begin.bit_length() - 1)
    return 2 * power if begin > power or power == 1 else power + power // 2
