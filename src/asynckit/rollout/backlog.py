"""What is still to be generated: handed out in order, and given back when what ran it has died.

A group that was running when its rollouter died may be what killed it, or a bystander. The first time it runs
again among others; if it is there when a rollouter dies once more, it is a suspect and runs alone, so that
the next death has one culprit.
"""

import asyncio
from collections import Counter, deque
from collections.abc import Callable, Iterable
from typing import Protocol

from asynckit.rollout.group import Group


class Admission(Protocol):
    """Says whether a group may start now, and hears of those that do."""

    def may_start(self, group_id: str) -> bool:
        """Whether this one may."""

    def start(self, group_id: str) -> None:
        """It does."""


class Backlog:
    """Groups that wait to run, for several takers on one event loop.

    Args:
        groups: in order.
        admission: what else has to agree before a group runs; who makes it change its mind calls ``wake``.
    """

    def __init__(self, groups: Iterable[Group], admission: Admission | None = None) -> None:
        self._waiting = deque(groups)
        self._suspects: deque[Group] = deque()
        self._out: dict[str, Group] = {}
        self._deaths: Counter[str] = Counter()
        self._ended: set[str] = set()
        self._admission = admission
        self._changed = asyncio.Condition()

    def __len__(self) -> int:
        return len(self._waiting) + len(self._suspects)

    @property
    def out(self) -> list[str]:
        """The groups that were taken and have neither ended nor been given back."""
        return list(self._out)

    @property
    def done(self) -> bool:
        """Whether every group has ended."""
        return not (self._ready_queue() or self._out)

    def deaths(self, group_id: str) -> int:
        """How often what ran this group has died."""
        return self._deaths[group_id]

    def is_suspect(self, group_id: str) -> bool:
        """Whether this group has to run alone."""
        return self._deaths[group_id] > 1

    async def take(self, idle: Callable[[], bool], turn: Callable[[], bool] = lambda: True) -> Group | None:
        """The next group to run; waits while one may come. None when all have ended.

        Args:
            idle: whether the taker runs nothing: only then it gets a suspect.
            turn: whether it is the taker's turn.
        """
        async with self._changed:
            await self._changed.wait_for(lambda: (turn() and self._ready(idle)) or self.done)
            queue = self._ready(idle)
            if not queue:
                return None
            group = queue.popleft()
            self._out[group.id] = group
            if self._admission:
                self._admission.start(group.id)
            self._changed.notify_all()  # now it may be another taker's turn
            return group

    async def until_done(self) -> None:
        """Wait until every group has ended."""
        async with self._changed:
            await self._changed.wait_for(lambda: self.done)

    async def add(self, groups: Iterable[Group]) -> None:
        """Groups that are to run after the others."""
        async with self._changed:
            self._waiting.extend(groups)
            self._changed.notify_all()

    async def end(self, group_ids: Iterable[str]) -> None:
        """These groups have ended for good, wherever they are: one may have been given back just before."""
        async with self._changed:
            for group_id in group_ids:
                if self._out.pop(group_id, None) is None:  # it waits, and is passed over
                    self._ended.add(group_id)
            self._changed.notify_all()

    async def give_back(
        self, group_ids: Iterable[str], *, blamed: bool, most_deaths: int | None = None
    ) -> list[Group]:
        """Groups that ran are to run again, before those that never did; returns them.

        Args:
            group_ids: those that are not out are passed over.
            blamed: whether one of them may have killed what ran them.
            most_deaths: a group with so many is returned and does not run again.
        """
        async with self._changed:
            groups = [self._out.pop(group_id) for group_id in group_ids if group_id in self._out]
            if blamed:
                self._deaths.update(group.id for group in groups)
            for group in reversed(groups):
                if most_deaths is not None and self._deaths[group.id] >= most_deaths:
                    continue
                (self._suspects if self.is_suspect(group.id) else self._waiting).appendleft(group)
            self._changed.notify_all()
        return groups

    async def wake(self) -> None:
        """Let takers look again at whether they are idle, and at the admission."""
        async with self._changed:
            self._changed.notify_all()

    def _ready(self, idle: Callable[[], bool]) -> deque[Group] | None:
        """The queue whose first group may run now."""
        queue = self._ready_queue()
        if queue is self._suspects and not idle():
            queue = self._waiting
        if not queue or (self._admission and not self._admission.may_start(queue[0].id)):
            return None
        return queue

    def _ready_queue(self) -> deque[Group] | None:
        for queue in (self._suspects, self._waiting):
            while queue and queue[0].id in self._ended:
                self._ended.discard(queue.popleft().id)
        return self._suspects or self._waiting or None


def places_for(max_running: int, n: int) -> int:
    """Groups in flight per replica: twice what its engine runs at once.

    A group holds its place until its longest sample has ended, so with fewer an engine would run empty.
    """
    return 2 * -(-max_running // n)
