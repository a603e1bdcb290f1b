"""The queue between rollouters and whoever consumes their groups: bounded, acknowledged, never evicting.

``put`` waits while the queue is full, so generation slows down to what the consumer can take (backpressure).
``get`` hands out groups with delivery tags; a group leaves the queue only when its tag is acknowledged, and
counts against the bound until then. After ``close`` puts are refused and ``get`` drains what is left, then
returns nothing.

A queue that dies takes its groups with it. Each has a number of its own, its incarnation, which comes with
every delivery, so that whoever consumes notices that another one has taken its place.
"""

import asyncio
import uuid
from collections import deque
from dataclasses import dataclass
from typing import Any


class QueueClosed(Exception):
    """Put into a queue that has been closed."""


@dataclass(frozen=True)
class QueueStatistics:
    """Items waiting, taken but unacknowledged, put and acknowledged so far, and the most held at once."""

    waiting: int
    unacknowledged: int
    put: int
    acknowledged: int
    peak: int


@dataclass(frozen=True)
class Delivery:
    """Items with the tags to acknowledge them by, and which incarnation of the queue they come from."""

    incarnation: str
    items: list[tuple[int, Any]]


class MessageQueue:
    """A bounded first-in-first-out queue; made to run as a Ray actor, works without one.

    Args:
        capacity: how many items may be held, waiting and unacknowledged together.
    """

    def __init__(self, capacity: int) -> None:
        assert capacity > 0
        self._incarnation = uuid.uuid4().hex
        self._capacity = capacity
        self._waiting: deque[Any] = deque()
        self._unacknowledged: dict[int, Any] = {}
        self._next_tag = 0
        self._acknowledged = self._put = self._peak = 0
        self._closed = False
        self._changed = asyncio.Condition()

    async def incarnation(self) -> str:
        """Which queue this is: one that takes the place of another has another name."""
        return self._incarnation

    async def put(self, item: Any) -> str:
        """Add an item; waits while the queue is full. Returns which incarnation has it.

        Raises:
            QueueClosed: the queue is closed, also while waiting.
        """
        async with self._changed:
            await self._changed.wait_for(lambda: self._closed or self._held() < self._capacity)
            if self._closed:
                raise QueueClosed
            self._waiting.append(item)
            self._put += 1
            self._peak = max(self._peak, self._held())
            self._changed.notify_all()
            return self._incarnation

    async def get(self, most: int, timeout: float | None = None) -> Delivery:  # noqa: ASYNC109 - crosses a process
        """Take up to ``most`` items; waits for the first one.

        Returns nothing when ``timeout`` seconds pass without one, or when the queue is closed and empty.
        """
        async with self._changed:
            try:
                async with asyncio.timeout(timeout):
                    await self._changed.wait_for(lambda: self._closed or self._waiting)
            except TimeoutError:
                return Delivery(self._incarnation, [])
            taken: list[tuple[int, Any]] = []
            while self._waiting and len(taken) < most:
                item = self._waiting.popleft()
                self._unacknowledged[self._next_tag] = item
                taken.append((self._next_tag, item))
                self._next_tag += 1
            return Delivery(self._incarnation, taken)

    async def acknowledge(self, delivery: Delivery) -> None:
        """Forget delivered items: whoever took them is done with them. Another queue's are none of ours."""
        if delivery.incarnation != self._incarnation:
            return
        async with self._changed:
            for tag, _ in delivery.items:
                del self._unacknowledged[tag]
            self._acknowledged += len(delivery.items)
            self._changed.notify_all()

    async def close(self) -> None:
        """Refuse further items; wake everyone who waits."""
        async with self._changed:
            self._closed = True
            self._changed.notify_all()

    async def statistics(self) -> QueueStatistics:
        """Where things stand now."""
        return QueueStatistics(
            len(self._waiting), len(self._unacknowledged), self._put, self._acknowledged, self._peak
        )

    def _held(self) -> int:
        return len(self._waiting) + len(self._unacknowledged)
