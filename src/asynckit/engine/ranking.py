"""Sequences in the order in which they are served: by priority, then by arrival."""

from bisect import bisect_left, insort
from collections.abc import Iterator
from operator import attrgetter

from asynckit.engine.request import Sequence

_rank = attrgetter("rank")


class Ranking:
    """A set of sequences kept sorted by ``rank``, which no two share; all operations find by bisection."""

    def __init__(self) -> None:
        self._sequences: list[Sequence] = []

    def __len__(self) -> int:
        return len(self._sequences)

    def __iter__(self) -> Iterator[Sequence]:
        return iter(self._sequences)

    def __contains__(self, sequence: Sequence) -> bool:
        index = bisect_left(self._sequences, sequence.rank, key=_rank)
        return index < len(self._sequences) and self._sequences[index] is sequence

    @property
    def first(self) -> Sequence:
        """The one to serve first."""
        return self._sequences[0]

    @property
    def last(self) -> Sequence:
        """The one to serve last."""
        return self._sequences[-1]

    def add(self, sequence: Sequence) -> None:
        """Put a sequence where its rank belongs."""
        insort(self._sequences, sequence, key=_rank)

    def remove(self, sequence: Sequence) -> None:
        """Take out a sequence, which must be there."""
        assert sequence in self
        del self._sequences[bisect_left(self._sequences, sequence.rank, key=_rank)]
