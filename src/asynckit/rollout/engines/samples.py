"""The samples that a generator has under way elsewhere: their tasks, their version, the time they take."""

import asyncio
from collections.abc import Coroutine, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

from asynckit.engine.clock import Clock
from asynckit.engine.completion import Completion
from asynckit.engine.request import Finish, OnUpdate
from asynckit.errors import DependencyError, InputError

Answer = TypeVar("Answer")


class Samples:
    """What is under way, one task per sample.

    Args:
        clock: tells the times of completions.

    Attributes:
        version: that samples get which are sent now.
        busy_seconds: how long anything was being generated.
    """

    def __init__(self, clock: Clock) -> None:
        self.version = 0
        self.busy_seconds = 0.0
        self.under_way: set[asyncio.Task[Completion]] = set()
        self._clock = clock
        self._busy = 0
        self._since = 0.0

    async def run(self, samples: Iterable[Coroutine[Any, Any, Completion]]) -> list[Completion]:
        """Run the samples of a request; those that :meth:`relabel` or :meth:`close` ended are aborted."""
        tasks = await all_of(samples, self.under_way)
        aborted = Completion(finish=Finish.ABORT, end=self._clock.now())
        return [aborted if task.cancelled() else task.result() for task in tasks]

    @contextmanager
    def busy(self) -> Iterator[None]:
        """Count the time inside as generating."""
        self._pass_time()
        self._busy += 1
        try:
            yield
        finally:
            self._pass_time()
            self._busy -= 1

    def _pass_time(self) -> None:
        now = self._clock.now()
        self.busy_seconds += (now - self._since) if self._busy else 0.0
        self._since = now

    def relabel(
        self, version: int, new: Path | str | Mapping[str, Any] | None, on_update: OnUpdate | str
    ) -> None:
        """Give what is sent from now on another version; what is under way keeps its own, or ends.

        Raises:
            InputError: there are new weights, the version doesn't grow, or ``on_update`` is no
                :class:`OnUpdate`.
        """
        where = "update_weights"
        if new is not None:
            raise InputError(
                "this engine can't be sent weights",
                where=where,
                mend="train with --engine torch, or with learner.change_weights=false",
            )
        if type(version) is not int or version <= self.version:
            raise InputError(
                f"the version must be an integer above the present {self.version}, not {version!r}",
                where=where,
            )
        if on_update not in tuple(OnUpdate):
            raise InputError(
                f"on_update must be one of {', '.join(OnUpdate)}, not {on_update!r}", where=where
            )
        if on_update == OnUpdate.ABORT:
            for task in self.under_way:
                task.cancel()
        self.version = version

    async def close(self) -> None:
        """End what is under way, and return when it has ended."""
        await cancel(self.under_way)


async def all_of(
    jobs: Iterable[Coroutine[Any, Any, Answer]], under_way: set[asyncio.Task[Answer]]
) -> list[asyncio.Task[Answer]]:
    """Run jobs side by side, listed as under way, to their ends; the first that fails ends the others."""
    try:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(job) for job in jobs]
            for task in tasks:
                under_way.add(task)
                task.add_done_callback(under_way.discard)
    except ExceptionGroup as errors:
        lasting = [error for error in errors.exceptions if isinstance(error, DependencyError)]
        raise (lasting or errors.exceptions)[0] from None
    return tasks


async def cancel(tasks: Iterable[asyncio.Task[Any]]) -> None:
    """Cancel tasks and wait until they have ended."""
    ending = list(tasks)
    for task in ending:
        task.cancel()
    if ending:
        await asyncio.wait(ending)
