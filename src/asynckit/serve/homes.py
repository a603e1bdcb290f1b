"""The HTTP servers that a detokenizer writes to, each with a queue and a task of its own."""

import asyncio
import logging
from collections.abc import Mapping
from dataclasses import dataclass

from asynckit.errors import WorkFailed
from asynckit.serve.messages import ToHttp
from asynckit.serve.smaller import smaller_for_http
from asynckit.serve.sockets import FrameTooLarge, Outbox, Sockets

_PREFIX = "http-"
_MOST_WAITING = 10_000  # messages for one server
_MOST_UNNAMED = 64  # servers whose address is not known yet

_logger = logging.getLogger(__name__)


@dataclass(eq=False)
class _Home:
    waiting: asyncio.Queue[ToHttp]
    address: str = ""
    delivering: asyncio.Task[None] | None = None


class Homes:
    """Sends without waiting: a server that reads slowly holds up itself alone.

    Servers go by their unique names: what is for one that is gone is never given to its successor. One that
    is far behind counts as gone. What comes for a server that was not named yet waits for its address: the
    supervisor tells everybody at nearly the same time.

    Args:
        sockets: of this process.
        tasks: in which messages are delivered.

    Attributes:
        dropped: messages for servers that are gone.
    """

    def __init__(self, sockets: Sockets, tasks: asyncio.TaskGroup) -> None:
        self._sockets = sockets
        self._tasks = tasks
        self._homes: dict[str, _Home] = {}
        self._gone: set[str] = set()  # they never come back
        self.dropped = 0

    def connect(self, addresses: Mapping[str, str]) -> None:
        """Deliver to the HTTP servers among these processes."""
        for name, address in addresses.items():
            known = self._homes.get(name)
            if not name.startswith(_PREFIX) or name in self._gone or (known and known.address):
                continue
            home = self._homes.setdefault(name, _Home(asyncio.Queue(_MOST_WAITING)))
            home.address = address
            outbox = self._sockets.outbox(address)
            home.delivering = self._tasks.create_task(self._deliver(name, home, outbox), name=f"to {name}")

    def lose(self, name: str) -> None:
        """Drop what waits for a server that has ended, and what comes for it later."""
        if name.startswith(_PREFIX):
            self._gone.add(name)
            self._forget(name)

    def send(self, name: str, message: ToHttp) -> None:
        """Have a message delivered, after those before it."""
        home = self._homes.get(name) or self._unnamed(name)
        if home is None:
            self._drop(1)
            return
        try:
            home.waiting.put_nowait(message)
        except asyncio.QueueFull:
            self._drop(1)
            self._give_up(name, "it reads nothing")

    def _unnamed(self, name: str) -> _Home | None:
        unnamed = sum(not home.address for home in self._homes.values())
        if name in self._gone or unnamed >= _MOST_UNNAMED:
            return None
        return self._homes.setdefault(name, _Home(asyncio.Queue(_MOST_WAITING)))

    def _give_up(self, name: str, reason: str) -> None:
        _logger.warning("the requests of %s are lost: %s", name, reason)
        self.lose(name)

    def _forget(self, name: str) -> None:
        home = self._homes.pop(name, None)
        if home:
            self._drop(home.waiting.qsize())
            if home.delivering:
                home.delivering.cancel()

    async def _deliver(self, name: str, home: _Home, outbox: Outbox) -> None:
        try:
            while True:
                await _send(outbox, await home.waiting.get(), name)
        except WorkFailed as error:
            home.delivering = None  # this task ends by itself
            self._give_up(name, error.message)
        finally:
            outbox.close()

    def _drop(self, count: int) -> None:
        before, self.dropped = self.dropped, self.dropped + count
        if before.bit_length() != self.dropped.bit_length():  # at 1, 2, 4, 8, …
            _logger.info("%d messages for HTTP servers that are gone were dropped", self.dropped)


async def _send(outbox: Outbox, message: ToHttp, name: str) -> None:
    """Send a message, in parts if it is too large; a request whose single piece is too large ends with it."""
    try:
        await outbox.send(message)
    except FrameTooLarge:
        for part in smaller_for_http(message, name):
            await _send(outbox, part, name)
