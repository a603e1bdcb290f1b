"""Starts the server's processes, watches over them, and ends them.

::

    supervisor ── Peers, Lost, Drain, Stop ──> each process
        ↑ Ready, Beat, Failed ────────────────────┘

    client ⇄ http-0… ──> router ──> detokenizer ──> http-0…
                           ⇅
                      worker-0-0…   (replica, rank)

===========  ====================  =======================  ====================  =======================
process      consumes              produces                 waits on              unblocked by
===========  ====================  =======================  ====================  =======================
http-i       HTTP, ToHttp          ToRouter                 text of its requests  Texts, Refused, Lost
router       ToRouter, FromWorker  ToWorker, ToDetokenizer  requests, steps       Generate, Stepped, Lost
worker-r-k   ToWorker              FromWorker               steps to run          Step
detokenizer  ToDetokenizer         ToHttp                   tokens                Tokens
supervisor   FromProcess, exits    ToProcess                news, signals         a beat, an exit, a tick
===========  ====================  =======================  ====================  =======================

What to do about news is for :mod:`asynckit.serve.roster` to say; this module does it. Every process asks the
kernel to end it together with the supervisor, so no way of dying leaves one behind.
"""

import asyncio
import errno
import logging
import os
import shutil
import signal
import socket
import tempfile
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import msgspec
import zmq
import zmq.asyncio

from asynckit import console, errors
from asynckit.engine.config import EngineConfig
from asynckit.engine.simulated_config import SimulatedConfig
from asynckit.errors import AsynckitError, WorkFailed
from asynckit.models.config import ModelConfig
from asynckit.serve.assignment import Assignment
from asynckit.serve.config import ServeConfig
from asynckit.serve.control_messages import Beat, Drain, Failed, FromProcess, Ready, Stop, ToProcess
from asynckit.serve.hosts import Host, Process, ThisMachine
from asynckit.serve.member import now
from asynckit.serve.messages import decoder, encode
from asynckit.serve.roster import Action, GiveUp, Kill, Post, Roster, Start, posts_for
from asynckit.serve.sockets import Place, RingKeys, Sockets

TICK_SECONDS = 0.25
STOP_SECONDS = 5.0
_LAST_WORDS_SECONDS = 0.2  # why a process ended is on its way when it has ended

_logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Job:
    """What is to be served, and how.

    Attributes:
        model: as processes of this machine find it.
        workers_model: as model workers find it, wherever they are.
        listening: bound and listening.
        workers_on: where model workers run; the others run here.
        address: at which model workers elsewhere reach this machine.
    """

    serve: ServeConfig
    model: ModelConfig
    workers_model: ModelConfig
    engine: EngineConfig
    simulated: SimulatedConfig
    listening: socket.socket
    workers_on: Host
    address: str = "127.0.0.1"
    verbose: bool = False
    quiet: bool = False


class Supervisor:
    """One server, from its start to its end."""

    def __init__(self, job: Job) -> None:
        self._job = job
        serve = job.serve
        self._roster = Roster(
            posts_for(http_processes=serve.http_processes, replicas=serve.replicas, tp=serve.tp),
            heartbeat_timeout=serve.heartbeat_timeout,
            step_timeout=serve.step_timeout,
            start_timeout=serve.start_timeout,
            max_restarts=serve.max_restarts,
        )
        self._folder = _make_folder()
        keys = RingKeys.make() if serve.transport == "tcp" else None
        self._place = Place(str(self._folder), job.address, keys)
        self._running: dict[tuple[str, int], Process] = {}
        self._here = ThisMachine()
        self._watching: set[asyncio.Task[None]] = set()
        self._decoder = decoder(FromProcess)
        self._ready = asyncio.Event()
        self._asked = asyncio.Event()  # to drain
        self._urged = asyncio.Event()  # to stop at once
        self._gave_up: asyncio.Future[GiveUp] = asyncio.get_running_loop().create_future()
        self._exited = asyncio.Event()
        self._condemned: set[tuple[str, int]] = set()  # to be killed as soon as they have been started
        self._cut_off = False  # whether somebody died while it was to end its requests

    async def run(self, use: Callable[[], Awaitable[None]]) -> bool:
        """Serve until ``use``, called when everybody is ready, returns, or somebody asks for the end.

        Returns:
            Whether everything that ran could end; false when it was cut off.

        Raises:
            AsynckitError: a process can't do its work, with its own reason; or what ``use`` raises.
        """
        loop = asyncio.get_running_loop()
        for ending in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(ending, self._ask)
        try:
            async with Sockets(self._place) as sockets:
                self._control, self._address = sockets.router("supervisor")
                keeping = [asyncio.create_task(self._listen()), asyncio.create_task(self._tick())]
                try:
                    return await self._serve(use, keeping)
                finally:
                    await self._end_all()
                    for task in keeping:
                        task.cancel()
                    await asyncio.wait(keeping)
        finally:
            for ending in (signal.SIGINT, signal.SIGTERM):
                loop.remove_signal_handler(ending)
            shutil.rmtree(self._folder, ignore_errors=True)

    async def _serve(self, use: Callable[[], Awaitable[None]], keeping: list[asyncio.Task[None]]) -> bool:
        await self._do(self._roster.begin(now()))
        using = asyncio.create_task(self._use(use))
        asked = asyncio.create_task(self._asked.wait())
        try:
            awaited: list[asyncio.Future[Any]] = [using, asked, self._gave_up, *keeping]
            await asyncio.wait(awaited, return_when=asyncio.FIRST_COMPLETED)
            for task in (using, *keeping):
                if task.done():
                    task.result()
            if self._gave_up.done():
                raise self._as_error(self._gave_up.result())
            return await self._drain()
        finally:
            using.cancel()
            asked.cancel()
            await asyncio.wait([using, asked])

    async def _use(self, use: Callable[[], Awaitable[None]]) -> None:
        await self._ready.wait()
        await use()

    async def _drain(self) -> bool:
        """Let what runs end; HTTP servers end by themselves when they have answered everybody."""
        self._roster.end()
        if not self._roster.complete_once or self._urged.is_set():
            return False
        self._cut_off = False
        if not self._job.quiet:
            seconds = self._job.serve.drain_timeout
            console.print_note(f"stopping: what runs has {seconds:g} s to end; Ctrl-C again stops at once")
        self._job.listening.close()  # HTTP servers close theirs, and then nobody can connect any more
        await self._tell(Drain())
        try:
            async with asyncio.timeout(self._job.serve.drain_timeout):
                while any(name.startswith("http-") for name, _ in self._running):
                    if self._urged.is_set():
                        return False
                    self._exited.clear()
                    await self._exited.wait()
        except TimeoutError:
            return False
        return not self._cut_off

    def _ask(self) -> None:
        if self._asked.is_set():
            self._urged.set()
            self._exited.set()  # wakes whoever waits for the others
        self._asked.set()

    async def _end_all(self) -> None:
        """Tell everybody to stop, and end those who don't."""
        self._roster.end()
        await self._tell(Stop())
        self._job.listening.close()
        hearing = self._roster.complete_once and not self._urged.is_set()  # who loads a model does not hear
        if self._watching and hearing:
            await asyncio.wait(self._watching, timeout=STOP_SECONDS)
        for process in self._running.values():
            process.kill()
        if self._watching:
            await asyncio.wait(self._watching)

    async def _listen(self) -> None:
        """Take in what processes say."""
        while True:
            _, frame = (await self._control.recv_multipart())[:2]
            try:
                message: FromProcess = self._decoder.decode(frame)
            except msgspec.DecodeError as error:
                _logger.warning("dropped a frame: %s", error)
                continue
            await self._do(self._answer(message))

    def _answer(self, message: FromProcess) -> Iterable[Action]:
        match message:
            case Ready(name, generation, address, facts):
                if generation:
                    _logger.warning("%s is there again", name)
                return self._roster.ready(name, generation, address, facts, now())
            case Beat(name, generation, stuck):
                return self._roster.beat(name, generation, stuck, now())
            case Failed():
                if self._roster.complete_once:  # else it ends the command, with the same words
                    _logger.error("%s can't go on: %s", message.name, message.message)
                self._roster.failed(message)
        return ()

    async def _tick(self) -> None:
        while True:
            await self._do(self._roster.tick(now()))
            await asyncio.sleep(TICK_SECONDS)

    async def _do(self, actions: Iterable[Action]) -> None:
        for action in actions:
            match action:
                case Start(post, generation):
                    await self._start(post, generation)
                case Kill(name, generation, reason):
                    _logger.warning("%s is ended: %s", name, reason)
                    self._condemned.add((name, generation))
                    if process := self._running.get((name, generation)):
                        process.kill()
                case GiveUp():
                    if not self._gave_up.done():
                        self._gave_up.set_result(action)
                case _:
                    await self._tell(action.message)
        if self._roster.complete():
            self._ready.set()

    async def _tell(self, message: ToProcess) -> None:
        frame = encode(message)
        for name, generation in self._running:
            try:
                await self._control.send_multipart([f"{name}.{generation}".encode(), frame], zmq.NOBLOCK)
            except zmq.Again:
                _logger.warning("%s does not read what it is told", name)

    async def _start(self, post: Post, generation: int) -> None:
        host = self._job.workers_on if post.kind == "worker" else self._here
        process = await host.start(self._assignment(post, generation))
        self._running[post.name, generation] = process
        if (post.name, generation) in self._condemned:
            process.kill()
        task = asyncio.create_task(self._watch(post.name, generation, process))
        self._watching.add(task)
        task.add_done_callback(self._watched)

    async def _watch(self, name: str, generation: int, process: Process) -> None:
        code = await process.wait()
        del self._running[name, generation]
        self._exited.set()
        how = f"ended by {_signal_name(-code)}" if code < 0 else f"ended with exit code {code}"
        self._cut_off = self._cut_off or code != 0
        if code or not self._asked.is_set():
            _logger.warning("%s %s", name, how)
        if code > 0:
            await asyncio.sleep(_LAST_WORDS_SECONDS)
        await self._do(self._roster.exited(name, generation, how, now()))

    def _watched(self, task: asyncio.Task[None]) -> None:
        self._watching.discard(task)
        if not task.cancelled() and (error := task.exception()) and not self._gave_up.done():
            self._gave_up.set_exception(error)

    def _assignment(self, post: Post, generation: int) -> Assignment:
        job = self._job
        return Assignment(
            kind=post.kind,
            name=post.name,
            generation=generation,
            place=self._place,
            control=self._address,
            supervisor=os.getpid(),
            serve=job.serve if post.kind == "http" else without_secrets(job.serve),
            model=job.workers_model if post.kind == "worker" else job.model,
            engine=job.engine,
            simulated=job.simulated,
            replica=post.replica,
            rank=post.rank,
            listening=job.listening.fileno() if post.kind == "http" else -1,
            rendezvous=str(self._folder / f"ranks-{post.replica}-{generation}"),
            verbose=job.verbose,
        )

    def _as_error(self, end: GiveUp) -> AsynckitError:
        """What the process itself had to say, or how it ended."""
        if failed := end.failed:
            kind = getattr(errors, failed.kind, WorkFailed)
            error: AsynckitError = kind(failed.message, where=failed.where, mend=failed.mend)
            return error
        return WorkFailed(
            f"{end.name} {end.reason}", where="asynckit serve", mend="what it wrote above may say more"
        )


def _make_folder() -> Path:
    """For sockets: 0700, as they are ours alone. A socket's path has room for about a hundred characters."""
    folder = tempfile.gettempdir()
    return Path(tempfile.mkdtemp(prefix="asynckit-serve-", dir=folder if len(folder) < 50 else "/tmp"))  # noqa: S108 - mkdtemp is safe there


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:  # real-time signals have no names
        return f"signal {number}"


def without_secrets(serve: ServeConfig) -> ServeConfig:
    """The settings for processes that no client talks to, which may run on other machines."""
    return replace(serve, api_keys=(), admin_key=None, lora_roots=(), weights_roots=())


def listen(config: ServeConfig) -> socket.socket:
    """Bind the address that clients connect to.

    Raises:
        WorkFailed: it is taken, or not this machine's.
    """
    try:
        family, *_, address = socket.getaddrinfo(config.host, config.port, type=socket.SOCK_STREAM)[0]
        found = socket.create_server(address[:2], family=family, backlog=2048)
    except OSError as error:
        taken = error.errno in (errno.EADDRINUSE, errno.EACCES)
        raise WorkFailed(
            f"can't listen at {config.host}:{config.port}: {error.strerror or error}",
            where="--port" if taken else "--host",
            mend="choose another with --port, or --port 0 for a free one"
            if taken
            else "name an address of this machine",
        ) from error
    found.set_inheritable(True)
    return found
