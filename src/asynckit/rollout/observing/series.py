"""Long series in little room."""

from dataclasses import dataclass, field


@dataclass
class Mean:
    """A mean that grows."""

    total: float = 0.0
    count: int = 0

    def add(self, value: float) -> None:
        """One value more."""
        self.total += value
        self.count += 1

    @property
    def value(self) -> float | None:
        """The mean; None of nothing."""
        return self.total / self.count if self.count else None


@dataclass
class Series:
    """Means of a long series in at most ``limit`` stretches of equal length, whose number is not known first.

    When the stretches are too many, neighbours are joined and each holds twice as much from then on.
    """

    limit: int = 160
    width: int = 1
    totals: list[float] = field(default_factory=list)
    counts: list[int] = field(default_factory=list)
    seen: int = 0

    def add(self, value: float | None) -> None:
        """One more place of the series; None where it has no value."""
        if self.seen == self.limit * self.width:
            self.totals = [sum(self.totals[at : at + 2]) for at in range(0, self.limit, 2)]
            self.counts = [sum(self.counts[at : at + 2]) for at in range(0, self.limit, 2)]
            self.width *= 2
        if self.seen % self.width == 0:
            self.totals.append(0.0)
            self.counts.append(0)
        self.seen += 1
        if value is not None:
            self.totals[-1] += value
            self.counts[-1] += 1

    @property
    def means(self) -> list[float | None]:
        """The mean of each stretch; None where it has no value."""
        pairs = zip(self.totals, self.counts, strict=True)
        return [total / count if count else None for total, count in pairs]
