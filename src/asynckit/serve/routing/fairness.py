"""Whose request is next: the waiting owner who has been served least.

Every owner has a counter of the tokens served to them: those of prompts, and those generated with twice the
weight, as they cost more. It is the virtual token counter of Sheng et al. 2024, "Fairness in Serving Large
Language Models": whoever is busy all the time gets an equal share, and an owner who comes back after a pause
is lifted to the least counter of those who are active, so that nobody saves up by being silent.
"""

from bisect import insort
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import zip_longest

GENERATED_WEIGHT = 2
MOST_IDLE_OWNERS = 1024


@dataclass(eq=False)
class Owner:
    """Somebody whose requests share.

    Attributes:
        name: label of the API key.
        counter: tokens served, weighted.
        open: requests that have not ended.
        waiting: ids of those that no replica has yet, with (priority, arrival); lowest first.
    """

    name: str
    counter: int = 0
    open: int = 0
    waiting: list[tuple[int, int, str]] = field(default_factory=list)


class FairQueue:
    """The requests that wait, by owner."""

    def __init__(self) -> None:
        self._owners: dict[str, Owner] = {}
        self._floor = 0  # where to begin while nobody is active: the counter of who was last
        self._waiting = 0

    def __len__(self) -> int:
        return self._waiting

    def __iter__(self) -> Iterator[str]:
        """Ids of all that wait, about in the order in which they will be served."""
        owners = sorted((o for o in self._owners.values() if o.waiting), key=lambda o: o.counter)
        for turn in zip_longest(*(owner.waiting for owner in owners)):
            yield from (each[2] for each in turn if each)

    def put(self, name: str, priority: int, arrival: int, id_: str) -> Owner:
        """Let a request wait; ``arrival`` numbers requests in the order in which they came."""
        owner = self._owners.setdefault(name, Owner(name))
        if not owner.open:
            owner.counter = max(owner.counter, self._least_active())
        owner.open += 1
        insort(owner.waiting, (priority, arrival, id_))
        self._waiting += 1
        return owner

    def first(self) -> str | None:
        """The id of the request that is next; None where none waits."""
        if not self._waiting:
            return None
        owner = min((o for o in self._owners.values() if o.waiting), key=lambda o: o.counter)
        return owner.waiting[0][2]

    def remove(self, owner: Owner, priority: int, arrival: int, id_: str) -> None:
        """A request waits no more; it is still open."""
        owner.waiting.remove((priority, arrival, id_))
        self._waiting -= 1

    def ended(self, owner: Owner) -> None:
        """One of the owner's requests, which waits no more, has ended."""
        owner.open -= 1
        if not any(each.open for each in self._owners.values()):
            self._floor = max(self._floor, owner.counter)
        if not owner.open:
            self._forget_idle()

    def _least_active(self) -> int:
        active = [owner.counter for owner in self._owners.values() if owner.open]
        return min(active) if active else self._floor

    def _forget_idle(self) -> None:
        """Drop owners whose counter would be lifted anyway, and the oldest where there are very many."""
        least = self._least_active()
        idle = [owner for owner in self._owners.values() if not owner.open]
        spare = len(idle) - MOST_IDLE_OWNERS
        for place, owner in enumerate(idle):
            if owner.counter <= least or place < spare:
                del self._owners[owner.name]
