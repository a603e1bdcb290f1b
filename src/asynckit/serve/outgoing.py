"""What the router has to say to the detokenizer, in order; the detokenizer may go and come anew."""

import asyncio
from collections import deque

from asynckit.serve.messages import Answered, Refused, ToDetokenizer
from asynckit.serve.smaller import smaller_for_detokenizer
from asynckit.serve.sockets import FrameTooLarge, Outbox, Sockets

MOST_UNSENT = 1000


class Outgoing:
    """Messages are posted at once and sent by a task of their own.

    Args:
        sockets: of this process.
        tasks: takes the task that sends.
    """

    def __init__(self, sockets: Sockets, tasks: asyncio.TaskGroup) -> None:
        self._sockets = sockets
        self._tasks = tasks
        self._unsent: deque[ToDetokenizer] = deque()
        self._more = asyncio.Event()
        self._less = asyncio.Event()
        self._less.set()
        self._outbox: Outbox | None = None
        self._sending: asyncio.Task[None] | None = None

    @property
    def address(self) -> str:
        """Of the detokenizer; empty while there is none."""
        return self._outbox.address if self._outbox else ""

    def post(self, message: ToDetokenizer) -> None:
        """Send a message when those before it are sent and somebody is there."""
        self._unsent.append(message)
        self._more.set()
        if len(self._unsent) > MOST_UNSENT:
            self._less.clear()

    async def room(self) -> None:
        """Wait until not too much is unsent; engines stand still meanwhile."""
        if not self._less.is_set():
            await self._less.wait()

    def connect(self, address: str) -> None:
        """Send to this detokenizer from now on."""
        self._hang_up()
        self._outbox = self._sockets.outbox(address)
        self._sending = self._tasks.create_task(self._send(self._outbox), name="send to the detokenizer")

    def disconnect(self) -> None:
        """The detokenizer is gone; of what it was to hear its successor can use whatever needs no more."""
        self._hang_up()
        self._unsent = deque(each for each in self._unsent if isinstance(each, Refused | Answered))
        self._less.set()

    def _hang_up(self) -> None:
        if self._sending and self._outbox:
            self._sending.cancel()  # before its socket goes
            self._outbox.close()
            self._sending = self._outbox = None

    async def _send(self, outbox: Outbox) -> None:
        while True:
            while self._unsent:
                try:
                    await outbox.send(self._unsent[0])
                except FrameTooLarge:
                    self._unsent.extendleft(reversed(smaller_for_detokenizer(self._unsent.popleft())))
                    continue
                self._unsent.popleft()
                if len(self._unsent) <= MOST_UNSENT:
                    self._less.set()
            self._more.clear()
            await self._more.wait()
