"""Typed ends of the ZeroMQ sockets that join the server's processes.

An :class:`Inbox` is bound by the one who reads, an :class:`Outbox` connects to one. Addresses are used once:
a process that is started anew binds a new one, so nothing that was meant for its predecessor reaches it.
Sockets are files in a folder that only this user can enter or, between machines, TCP with CURVE, where both
sides must hold the ring's key pair.
"""

import asyncio
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, Self, TypeVar

import msgspec
import zmq
import zmq.asyncio
from zmq.auth.asyncio import AsyncioAuthenticator
from zmq.auth.thread import ThreadAuthenticator

from asynckit.errors import WorkFailed
from asynckit.serve.messages import MOST_FRAME_BYTES, decoder, encode

MOST_WAITING_FRAMES = 10_000
SEND_SECONDS = 15.0

_logger = logging.getLogger(__name__)
Kind = TypeVar("Kind")


class RingKeys(msgspec.Struct, frozen=True):
    """The key pair, in Z85, that every process of one server holds."""

    public: str
    secret: str

    @classmethod
    def make(cls) -> "RingKeys":
        """A fresh pair."""
        public, secret = zmq.curve_keypair()
        return cls(public.decode(), secret.decode())


class Place(msgspec.Struct, frozen=True):
    """Where a server's sockets are: files in ``folder``, or with ``keys`` TCP ports of ``host``."""

    folder: str
    host: str = "127.0.0.1"
    keys: RingKeys | None = None

    def address(self, name: str) -> str:
        """What a socket of this name binds; with TCP the system chooses the port."""
        return f"tcp://{self.host}:*" if self.keys else f"ipc://{Path(self.folder) / name}"


def configure(socket: "zmq.Socket[Any]", place: Place, *, server: bool) -> None:
    """Bound what a socket holds and takes, forget it on closing, and encrypt what leaves the machine."""
    socket.linger = 0
    socket.set_hwm(MOST_WAITING_FRAMES)
    socket.setsockopt(zmq.MAXMSGSIZE, MOST_FRAME_BYTES)
    if place.keys:
        socket.curve_publickey = place.keys.public.encode()
        socket.curve_secretkey = place.keys.secret.encode()
        if server:
            socket.curve_server = True
            socket.zap_domain = b"ring"
            socket.setsockopt(zmq.ZAP_ENFORCE_DOMAIN, 1)  # without somebody who checks keys, nobody gets in
        else:
            socket.curve_serverkey = place.keys.public.encode()


def bind(socket: "zmq.Socket[Any]", place: Place, name: str) -> str:
    """Configure and bind a socket; returns the address that others connect to."""
    configure(socket, place, server=True)
    socket.bind(place.address(name))
    return str(bytes(socket.getsockopt(zmq.LAST_ENDPOINT)).rstrip(b"\0"), "ascii")


@dataclass
class SocketStatistics:
    """Frames taken, and those that were no message of the direction and were dropped."""

    received: int = 0
    dropped: int = 0


class Inbox(Generic[Kind]):
    """Reads the messages of one direction; frames that are none of them are counted, logged and dropped."""

    def __init__(self, socket: zmq.asyncio.Socket, address: str, union: Any) -> None:
        self._socket = socket
        self._decoder = decoder(union)
        self.address = address
        self.statistics = SocketStatistics()

    async def receive(self) -> Kind:
        """The next message; waits for it."""
        while True:
            parts = await self._socket.recv_multipart(copy=True)
            self.statistics.received += 1
            try:
                message: Kind = self._decoder.decode(b"".join(parts))
            except (msgspec.DecodeError, UnicodeDecodeError) as error:
                self.statistics.dropped += 1
                if self.statistics.dropped.bit_count() == 1:  # the 1st, 2nd, 4th, 8th, …
                    _logger.warning("dropped frame %d: %s", self.statistics.dropped, error)
            else:
                return message


class FrameTooLarge(WorkFailed):
    """No peer takes a message of this size; it was not sent."""


class Outbox:
    """Sends messages to one inbox."""

    def __init__(self, socket: zmq.asyncio.Socket, address: str) -> None:
        self._socket = socket
        self.address = address

    async def send(self, message: Any) -> None:
        """Hand a message over; waits while the other side is far behind.

        Raises:
            FrameTooLarge: the other side would drop it unseen.
            WorkFailed: it stays far behind.
        """
        frame = encode(message)
        if len(frame) > MOST_FRAME_BYTES:
            raise FrameTooLarge(
                f"a message of {len(frame)} bytes is too large: the most is {MOST_FRAME_BYTES}", where="serve"
            )
        try:
            async with asyncio.timeout(SEND_SECONDS):
                await self._socket.send(frame)
        except TimeoutError:
            raise WorkFailed(f"nobody reads {self.address}", where="serve") from None

    def close(self) -> None:
        """Drop what was not taken yet."""
        self._socket.close()


class Sockets:
    """The sockets of one process. Create it inside the event loop; leave it to close them all."""

    def __init__(self, place: Place) -> None:
        self.place = place
        self._context = zmq.asyncio.Context()
        self._context.max_sockets = 4096
        self._authenticator: AsyncioAuthenticator | None = None
        self._open: list[zmq.asyncio.Socket] = []

    async def __aenter__(self) -> Self:
        if self.place.keys:
            self._authenticator = AsyncioAuthenticator(self._context)
            self._authenticator.start()
            self._authenticator.configure_curve_callback(
                "ring", credentials_provider=_OnlyRing(self.place.keys)
            )
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._authenticator:
            self._authenticator.stop()
        for socket in self._open:
            socket.close()
        self._context.destroy(linger=0)

    def inbox(self, name: str, union: Any) -> Inbox[Any]:
        """Bind an inbox for the messages of ``union``."""
        socket = self._new(zmq.PULL)
        return Inbox(socket, bind(socket, self.place, name), union)

    def outbox(self, address: str) -> Outbox:
        """Connect to an inbox, which need not be there yet."""
        socket = self._new(zmq.PUSH)
        configure(socket, self.place, server=False)
        socket.connect(address)
        return Outbox(socket, address)

    def dealer(self, address: str, identity: str = "") -> zmq.asyncio.Socket:
        """Connect a two-way socket."""
        socket = self._new(zmq.DEALER)
        configure(socket, self.place, server=False)
        if identity:
            socket.routing_id = identity.encode()
        socket.connect(address)
        return socket

    def router(self, name: str) -> tuple[zmq.asyncio.Socket, str]:
        """Bind a socket that talks to many dealers; returns it with its address."""
        socket = self._new(zmq.ROUTER)
        return socket, bind(socket, self.place, name)

    def _new(self, kind: int) -> zmq.asyncio.Socket:
        self._open = [socket for socket in self._open if not socket.closed]
        self._open.append(self._context.socket(kind))
        return self._open[-1]


@contextmanager
def ring_only(context: "zmq.Context[Any]", place: Place) -> Iterator[None]:
    """Let nobody but the ring connect to the sockets of a context that no event loop serves."""
    if place.keys is None:
        yield
        return
    authenticator = ThreadAuthenticator(context)
    authenticator.start()
    authenticator.configure_curve_callback("ring", credentials_provider=_OnlyRing(place.keys))
    try:
        yield
    finally:
        authenticator.stop()


class _OnlyRing:
    """Lets in whoever holds the ring's own key."""

    def __init__(self, keys: RingKeys) -> None:
        self._key = keys.public.encode()

    def callback(self, domain: str, key: bytes) -> bool:  # noqa: ARG002 - the signature is pyzmq's
        """Whether this client may connect; ``key`` is its public key in Z85."""
        return key == self._key
