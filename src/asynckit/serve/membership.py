"""A process's tie to the supervisor in a thread of its own, for one whose main thread computes."""

import asyncio
import socket
import threading
from contextlib import suppress
from types import TracebackType
from typing import Self

from asynckit.serve.assignment import Assignment
from asynckit.serve.control_messages import Facts, Stop
from asynckit.serve.member import Member, now
from asynckit.serve.sockets import Sockets

_END_SECONDS = 5.0


class Membership:
    """Beats, and becomes readable when the process is to end. Enter it in the thread that computes.

    Args:
        assignment: of this process.
    """

    def __init__(self, assignment: Assignment) -> None:
        self._assignment = assignment
        self._busy_since: float | None = None
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._live, name="membership", daemon=True)
        self._ours, self._theirs = socket.socketpair()
        self._ready: asyncio.Future[tuple[str, Facts]] = self._loop.create_future()
        self._leaving = asyncio.Event()
        self._error: BaseException | None = None

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with suppress(RuntimeError):  # the loop is closed: the thread has ended by itself
            self._loop.call_soon_threadsafe(self._leaving.set)
        self._thread.join(_END_SECONDS)
        self._ours.close()
        if error is None and self._error is not None:
            raise self._error

    def fileno(self) -> int:
        """Readable as soon as the supervisor says stop, or nobody can tell any more."""
        return self._ours.fileno()

    def ready(self, address: str, facts: Facts) -> None:
        """Say that messages are taken at ``address``."""
        with suppress(RuntimeError):  # the loop is closed: we were told to stop while we loaded
            self._loop.call_soon_threadsafe(self._ready.set_result, (address, facts))

    def begin(self) -> None:
        """A piece of work begins, which must not take too long."""
        self._busy_since = now()

    def end(self) -> None:
        """It is over."""
        self._busy_since = None

    def _stuck(self) -> float:
        since = self._busy_since
        return now() - since if since is not None else 0.0

    # What follows runs in the thread.

    def _live(self) -> None:
        try:
            self._loop.run_until_complete(self._belong())
        except BaseException as error:  # noqa: BLE001 - raised in the thread that computes
            self._error = error
        finally:
            self._loop.close()
            self._theirs.close()

    async def _belong(self) -> None:
        async with (
            Sockets(self._assignment.place) as sockets,
            Member(sockets, self._assignment, self._stuck) as member,
        ):
            announcing = asyncio.create_task(self._announce(member))
            ends = [asyncio.create_task(self._hear(member)), asyncio.create_task(self._leave())]
            await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
            tasks = [announcing, *ends]
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks)
            for task in tasks:
                if not task.cancelled():
                    task.result()

    async def _announce(self, member: Member) -> None:
        await member.ready(*await self._ready)

    async def _leave(self) -> None:
        await self._leaving.wait()

    async def _hear(self, member: Member) -> None:
        while not isinstance(await member.hear(), Stop):
            pass  # the router alone tells a worker what to do
