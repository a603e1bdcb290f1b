"""An HTTP server of the ring: takes requests on a shared listening socket, and waits for the answers.

::

    clients ⇄ uvicorn ⇄ routes ── send_to_router ──> router
                          ↑
                       Streams <── recv_from_detokenization ── detokenizer

===========================  ============================  ==================================
task                         consumes                      ends with
===========================  ============================  ==================================
``send_to_router``           what routes post              the process
``recv_from_detokenization`` the inbox                     the process
``hear``                     the supervisor                the process
uvicorn                      connections                   ``Drain``, when all are answered; ``Stop``
===========================  ============================  ==================================
"""

import asyncio
import contextlib
import math
import socket
from collections.abc import Generator
from pathlib import Path
from typing import Any

import uvicorn

from asynckit.errors import ConfigError, WorkFailed
from asynckit.models.config import ModelConfig
from asynckit.serve.adapters import adapter_roots, given_adapters, weights_roots
from asynckit.serve.api.access_log import LineWriter
from asynckit.serve.api.app import build_app
from asynckit.serve.api.errors import AsgiApp, unavailable
from asynckit.serve.api.service import Service
from asynckit.serve.assignment import Assignment
from asynckit.serve.config import ServeConfig
from asynckit.serve.connections import (
    ACCEPTED_AT_ONCE,
    QUEUED_BY_THE_SYSTEM,
    AcceptFailures,
    allow_many_files,
)
from asynckit.serve.control_messages import Drain, Lost, Peers, Stop
from asynckit.serve.http_protocol import BoundedProtocol
from asynckit.serve.member import Member
from asynckit.serve.messages import Abort, Generate, Served, ToHttp, ToRouter
from asynckit.serve.preparation.pool import Preparers
from asynckit.serve.sockets import Inbox, Outbox, Sockets
from asynckit.serve.streams import Streams
from asynckit.serve.tracing import Tracer

ROUTER, DETOKENIZER = "router", "detokenizer"
MOST_UNSENT = 4096  # messages; the router takes them at once unless it hangs
CLOSE_SECONDS = 5  # for answers that are being written when the server stops
IDLE_SECONDS = 75  # after which a connection without requests is closed


async def run_http(assignment: Assignment) -> int:
    """Serve until the supervisor says to stop; returns the exit code.

    Raises:
        DependencyError: the tokenizer can't be loaded.
        ConfigError: the certificate or its key can't be used.
        WorkFailed: the HTTP server ended by itself.
    """
    allow_many_files()
    asyncio.get_running_loop().set_exception_handler(AcceptFailures())
    settings, preparers = assignment.serve, _preparers(assignment)
    async with Sockets(assignment.place) as sockets, Member(sockets, assignment) as member:
        inbox: Inbox[ToHttp] = sockets.inbox(assignment.unique_name, ToHttp)
        tracer = _tracer(assignment)
        ring = Ring(sockets, tracer)
        try:
            tokenizer = await preparers.start()
            model = served_name(settings, assignment.model)
            given = given_adapters(settings, assignment.engine, model)
            service = Service(
                settings=settings,
                home=assignment.unique_name,
                model=model,
                streams=ring.streams,
                preparers=preparers,
                tokenizer=tokenizer,
                adapter_roots=adapter_roots(settings, given),
                weights_roots=weights_roots(settings),
            )
            writer = LineWriter() if settings.access_log else None
            server = _uvicorn(build_app(service, writer), settings)
            async with asyncio.TaskGroup() as tasks:
                moving = (
                    tasks.create_task(ring.send_to_router()),
                    tasks.create_task(recv_from_detokenization(inbox, ring.streams)),
                )
                hearing = tasks.create_task(hear(member, ring, service, server))
                await member.ready(inbox.address)
                await _serve(server, assignment.listening)
                for task in (*moving, hearing):
                    task.cancel()
            if writer:
                writer.close()
        finally:
            await preparers.close()
            if tracer:
                tracer.close()
    return 0


def _tracer(assignment: Assignment) -> Tracer | None:
    folder = assignment.serve.trace
    return Tracer(Path(folder) / f"trace-{assignment.unique_name}.json") if folder else None


def _preparers(assignment: Assignment) -> Preparers:
    return Preparers(assignment.model, assignment.serve.prepare_timeout)


def served_name(settings: ServeConfig, model: ModelConfig) -> str:
    """What clients call the model."""
    return settings.name or model.name


class Ring:
    """The way to the router, as long as both it and the detokenizer are there."""

    def __init__(self, sockets: Sockets, tracer: Tracer | None = None) -> None:
        self._sockets = sockets
        self._unsent: asyncio.Queue[ToRouter] = asyncio.Queue()
        self._addresses: dict[str, str] = {}
        self._gone: set[str] = set()  # addresses of processes that died; nobody binds them again
        self._router: Outbox | None = None
        self.streams = Streams(self._post, tracer)

    def met(self, addresses: dict[str, str]) -> None:
        """These processes are ready."""
        for name in (ROUTER, DETOKENIZER):
            address = addresses.get(name)
            if address is None or address in self._gone or address == self._addresses.get(name):
                continue
            if name in self._addresses:
                self.lost(name, "it was replaced")
            self._addresses[name] = address
            if name == ROUTER:
                self._router = self._sockets.outbox(address)
        if len(self._addresses) == 2:
            self.streams.connected()

    def lost(self, name: str, reason: str) -> None:
        """A process is gone, and with it, if the ring needs it, what it had."""
        if name not in (ROUTER, DETOKENIZER):
            return
        address = self._addresses.pop(name, None)
        if address:
            self._gone.add(address)
        if name == ROUTER and self._router:
            self._router.close()
            self._router = None
        self.streams.lost(f"{name}: {reason}")

    def _post(self, message: ToRouter) -> None:
        if self._unsent.qsize() >= MOST_UNSENT and not isinstance(message, Abort):
            if isinstance(message, Served):
                return
            raise unavailable("the server can't keep up", code="overloaded")
        self._unsent.put_nowait(message)

    async def send_to_router(self) -> None:
        """Send what is posted; what was posted for a router that is gone is dropped with its streams."""
        while True:
            message = await self._unsent.get()
            router = self._router
            if router is None:
                continue
            try:
                await router.send(message)
            except WorkFailed as error:
                if not isinstance(message, Served):
                    id_ = message.request.id if isinstance(message, Generate) else message.id
                    self.streams.fail(id_, unavailable(error.message, code="overloaded"))


async def recv_from_detokenization(inbox: Inbox[ToHttp], streams: Streams) -> None:
    """Hand what comes to the requests that wait for it."""
    while True:
        streams.receive(await inbox.receive())


async def hear(member: Member, ring: Ring, service: Service, server: uvicorn.Server) -> None:
    """Do what the supervisor says."""
    while True:
        message = await member.hear()
        match message:
            case Peers():
                service.facts = message.facts or service.facts
                ring.met(message.addresses)
            case Lost():
                ring.lost(message.name, message.reason)
            case Drain():
                ring.streams.drain()
                server.should_exit = True
            case Stop():
                ring.streams.stop()
                server.should_exit = True


class _Server(uvicorn.Server):
    """Leaves signals to the process, which hears from the supervisor when to stop."""

    @contextlib.contextmanager
    def capture_signals(self) -> Generator[None, None, None]:
        """Capture none."""
        yield

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Begin to accept; asyncio has set the system's queue to what it takes at once."""
        await super().startup(sockets)
        for each in sockets or ():
            each.listen(QUEUED_BY_THE_SYSTEM)


def _uvicorn(app: AsgiApp, settings: ServeConfig) -> _Server:
    asgi: Any = app
    config = uvicorn.Config(
        asgi,
        http=BoundedProtocol,
        ws="none",
        lifespan="off",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        timeout_keep_alive=IDLE_SECONDS,
        timeout_graceful_shutdown=math.ceil(settings.drain_timeout) + CLOSE_SECONDS,
        h11_max_incomplete_event_size=settings.max_header_bytes,
        backlog=ACCEPTED_AT_ONCE,
        ssl_certfile=_expanded(settings.tls_cert),
        ssl_keyfile=_expanded(settings.tls_key),
    )
    try:
        config.load()
    except OSError as error:  # which ssl.SSLError is, too
        raise ConfigError(
            f"TLS can't be used: {error.strerror or error}", where="serve.tls_cert", mend="name PEM files"
        ) from error
    return _Server(config)


def _expanded(path: str | None) -> str | None:
    return None if path is None else str(Path(path).expanduser())


async def _serve(server: _Server, listening: int) -> None:
    await server.serve(sockets=[socket.socket(fileno=listening)])
    if not server.should_exit:
        raise WorkFailed("the HTTP server ended by itself", where="serve")
