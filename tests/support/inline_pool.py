"""A pool without processes, which ends tasks in any order and loses workers when a test says so."""

import random
from collections.abc import Callable
from typing import Any

from asynckit.errors import AsynckitError
from asynckit.tokenization.pool import Outcome


class Killed(Exception):
    """What stands for ``kill -9`` of everything."""


class InlinePool:
    """Does tasks in this process, late and in random order.

    Args:
        do: what a worker does with a task.
        workers: how many there seem to be.
        chance: decides on the order and on who dies.
        deaths: share of tasks whose worker dies.
        tasks: after so many tasks everything is killed.
    """

    def __init__(
        self,
        do: Callable[[Any], Any],
        workers: int,
        chance: random.Random,
        *,
        deaths: float = 0.0,
        tasks: int | None = None,
    ) -> None:
        self._do, self._workers, self._chance = do, workers, chance
        self._deaths, self._left = deaths, tasks
        self._given: list[Any] = []
        self.done = 0

    @property
    def idle(self) -> int:
        """As of :class:`~asynckit.tokenization.pipeline.Pool`; likewise the rest."""
        return self._workers - len(self._given)

    @property
    def busy(self) -> int:
        """Tasks that were given and have not ended."""
        return len(self._given)

    def give(self, task: Any) -> None:
        """Take a task."""
        assert self.idle > 0
        self._given.append(task)

    def wait(self, seconds: float) -> list[Outcome]:
        """End some of the tasks, or none."""
        assert seconds >= 0
        count = self._chance.randint(0, len(self._given))
        return [self._ended(self._given.pop(self._chance.randrange(len(self._given)))) for _ in range(count)]

    def close(self) -> None:
        """Forget what is left."""
        self._given.clear()

    def _ended(self, task: Any) -> Outcome:
        if self._left is not None:
            self._left -= 1
            if self._left < 0:
                raise Killed
        if self._chance.random() < self._deaths:
            return Outcome(task, died=True)
        self.done += 1
        try:
            return Outcome(task, self._do(task))
        except AsynckitError as error:
            return Outcome(task, error=error)
