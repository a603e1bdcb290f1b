"""A process's tie to the supervisor: it says that it is ready and alive, and hears who comes and goes."""

import asyncio
import logging
import time
from collections.abc import Callable
from types import TracebackType
from typing import Self

import msgspec
import zmq

from asynckit.serve.assignment import Assignment
from asynckit.serve.control_messages import Beat, Facts, FromProcess, Ready, ToProcess
from asynckit.serve.messages import decoder, encode
from asynckit.serve.sockets import Sockets

BEAT_SECONDS = 0.5

_logger = logging.getLogger(__name__)


class Member:
    """Beats while it is entered, in the event loop of whoever uses it, so that a blocked loop is noticed.

    Args:
        sockets: of this process.
        assignment: what it was started for.
        stuck: tells for how many seconds its present piece of work has been going on.
    """

    def __init__(
        self, sockets: Sockets, assignment: Assignment, stuck: Callable[[], float] = lambda: 0.0
    ) -> None:
        self._assignment = assignment
        self._stuck = stuck
        self._socket = sockets.dealer(assignment.control, assignment.unique_name)
        self._decoder = decoder(ToProcess)
        self._beating: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        self._beating = asyncio.create_task(self._beat(), name="heartbeat")
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._beating
        self._beating.cancel()
        await asyncio.wait([self._beating])

    async def ready(self, address: str, facts: Facts | None = None) -> None:
        """Say that messages are taken at ``address``."""
        await self._say(Ready(self._assignment.name, self._assignment.generation, address, facts))

    async def hear(self) -> ToProcess:
        """The next thing that the supervisor says; waits for it."""
        while True:
            try:
                heard: ToProcess = self._decoder.decode(await self._socket.recv())
            except msgspec.DecodeError as error:
                _logger.warning("dropped a frame from the supervisor: %s", error)
            else:
                return heard

    async def _say(self, message: FromProcess) -> None:
        await self._socket.send(encode(message))

    async def _beat(self) -> None:
        while True:
            beat = Beat(self._assignment.name, self._assignment.generation, self._stuck())
            try:
                await self._socket.send(encode(beat), zmq.NOBLOCK)
            except zmq.Again:
                _logger.warning("the supervisor is far behind")  # it is stopped or very busy
            await asyncio.sleep(BEAT_SECONDS)


def now() -> float:
    """Seconds on the clock that all processes of this machine share."""
    return time.monotonic()
