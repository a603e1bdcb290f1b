"""A process's tasks, which end when its main one does."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager


class _Stopped(Exception):
    """The main task is done."""


@asynccontextmanager
async def tasks_beside() -> AsyncIterator[asyncio.TaskGroup]:
    """A task group that cancels what still runs in it when the block is left.

    Raises:
        ExceptionGroup: of what the tasks or the block raised.
    """
    try:
        async with asyncio.TaskGroup() as tasks:
            yield tasks
            raise _Stopped  # noqa: TRY301 - a group has no other way to end its tasks
    except* _Stopped:
        pass
