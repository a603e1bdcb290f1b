"""Environments from the rollouter's side: a process for each episode, and a time limit for each call.

The processes are forked by a host (``environment_host``), which is started with the first
of them, and again when it has died. Nothing of a person's code runs in the rollouter, so nothing of it can
stop the event loop there.
"""

import asyncio
import json
import os
import socket
import sys
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from itertools import count
from typing import Any

from asynckit.errors import InputError, WorkFailed
from asynckit.rollout.episodes.environments import Reply
from asynckit.rollout.job import Job

_LONGEST_ANSWER = 2**24  # bytes; more than any model reads
_TRIES = 3
_DIED = "the environment's process died"


class EnvironmentProcesses:
    """Makes environments, each in a process of its own.

    Args:
        name: a built-in environment or ``module:Class``.
        import_paths: folders put on ``sys.path`` before importing.
        timeout: seconds that one call may take, and that closing may.
        startup_timeout: seconds that importing may take.
    """

    def __init__(
        self, name: str, import_paths: Sequence[str], timeout: float, startup_timeout: float
    ) -> None:
        self._name = name
        self._import_paths = import_paths
        self._timeout = timeout
        self._startup_timeout = startup_timeout
        self._starting = asyncio.Lock()
        self._host: _Host | None = None

    @classmethod
    def of(cls, job: Job) -> "EnvironmentProcesses | None":
        """Those that a run asks for, not started yet; None without an environment."""
        rollout = job.rollout
        if rollout.environment is None:
            return None
        timeouts = (rollout.environment_timeout, rollout.startup_timeout)
        return cls(rollout.environment, job.import_paths, *timeouts)

    async def start(self) -> None:
        """Import the environment; nothing where that has been done.

        Raises:
            InputError: the environment can't be loaded.
            WorkFailed: it took longer than ``startup_timeout``, or the process that imports it died.
        """
        await self._living_host()

    @asynccontextmanager
    async def episode(self, arguments: Mapping[str, Any]) -> AsyncIterator["Episode"]:
        """A new environment. When left it is closed, and killed if that takes more than ``timeout`` seconds.

        Args:
            arguments: what the constructor may declare.

        Raises:
            WorkFailed: it can't be made, took too long, or its process died.
        """
        host, number, line = await self._begin()
        try:
            episode = Episode(line, self._timeout, lambda: host.tell("kill", number))
            await episode.make(arguments)
            yield episode
        finally:
            line.close()
            host.tell("end", number)

    async def close(self) -> None:
        """End what still runs; what takes more than ``timeout`` seconds to close is killed."""
        if self._host:
            await self._host.close(self._timeout + 1)

    async def _begin(self) -> tuple["_Host", int, socket.socket]:
        """A new process: whose it is, its number there, and the socket to it."""
        for _ in range(_TRIES):
            host = await self._living_host()
            try:
                return host, *await host.begin(self._timeout)
            except ConnectionError:  # the host died just then, which is no environment's fault
                continue
        raise WorkFailed("the process that environments come from keeps dying")

    async def _living_host(self) -> "_Host":
        async with self._starting:
            if self._host is None or not self._host.alive:
                arguments = (str(self._timeout), self._name, *self._import_paths)
                self._host = await _Host.start(arguments, self._startup_timeout)
            return self._host


class Episode:
    """One environment in its process.

    Every method raises WorkFailed where the environment raised or returned what it may not, took too long, or
    its process died.

    Args:
        line: joined to the process.
        timeout: seconds that one call may take.
        kill: ends the process.
    """

    def __init__(self, line: socket.socket, timeout: float, kill: Any) -> None:
        self._line = line
        self._timeout = timeout
        self._kill = kill

    async def make(self, arguments: Mapping[str, Any]) -> None:
        """Make the object."""
        await self._call("__init__", dict(arguments))

    async def step(self, text: str) -> Reply | None:
        """What the environment says to the assistant's text; None when the episode is over."""
        reply = await self._call("step", text)
        return None if reply is None else Reply(**reply)

    async def reward(self) -> float | None:
        """What it gives for the episode; None where it gives no rewards."""
        given: float | None = await self._call("reward", None)
        return given

    async def _call(self, verb: str, given: Any) -> Any:
        try:
            async with asyncio.timeout(self._timeout):
                answer = await self._exchange(json.dumps([verb, given]).encode() + b"\n")
        except TimeoutError:
            self._kill()
            raise WorkFailed(_too_long(self._timeout)) from None
        except OSError as error:  # the socket's other end is gone
            raise WorkFailed(_DIED) from error
        if "error" in answer:
            raise WorkFailed(answer["error"])
        return answer["value"]

    async def _exchange(self, request: bytes) -> dict[str, Any]:
        loop, answer = asyncio.get_running_loop(), bytearray()
        await loop.sock_sendall(self._line, request)
        while not answer.endswith(b"\n"):
            chunk = await loop.sock_recv(self._line, 65536)
            if not chunk:
                raise ConnectionResetError
            answer += chunk
            if len(answer) > _LONGEST_ANSWER:
                self._kill()
                raise WorkFailed(f"the environment said more than {_LONGEST_ANSWER} bytes at once")
        told: dict[str, Any] = json.loads(answer)
        return told


class _Host:
    """The process that forks the others.

    Attributes:
        alive: whether it can fork more.
    """

    def __init__(self, process: asyncio.subprocess.Process, control: socket.socket) -> None:
        self.alive = True
        self._process = process
        self._control = control
        self._numbers = count()
        self._awaited: dict[int, asyncio.Future[socket.socket]] = {}
        asyncio.get_running_loop().add_reader(control, self._receive)

    @classmethod
    async def start(cls, arguments: Sequence[str], limit: float) -> "_Host":
        """Start it and wait until it has imported the environment.

        Raises:
            InputError, WorkFailed: see :meth:`EnvironmentProcesses.start`.
        """
        control, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        control.setblocking(False)
        with theirs:
            process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "asynckit.rollout.episodes.environment_host"),
                *(str(os.getpid()), str(theirs.fileno()), *arguments),
                stdin=asyncio.subprocess.PIPE,
                stdout=2,  # what a person's code prints goes to the log
                pass_fds=[theirs.fileno()],
                start_new_session=True,  # Ctrl-C is for the command alone
            )
        try:
            await _until_imported(control, limit)
        except BaseException:
            control.close()
            await _end(process)
            raise
        return cls(process, control)

    async def begin(self, limit: float) -> tuple[int, socket.socket]:
        """A new process: its number, and the socket to it.

        Raises:
            ConnectionError: the host is dead.
            WorkFailed: it took longer than ``limit`` seconds.
        """
        number = next(self._numbers)
        self._awaited[number] = arrived = asyncio.get_running_loop().create_future()
        self.tell("begin", number)
        begun = False
        try:
            async with asyncio.timeout(limit):
                line = await arrived
            begun = True
        except TimeoutError:
            raise WorkFailed(_too_long(limit)) from None
        finally:
            del self._awaited[number]
            if not begun:  # given up, perhaps in the moment in which the socket came
                if arrived.done() and not arrived.cancelled() and not arrived.exception():
                    arrived.result().close()
                self.tell("end", number)
        return number, line

    async def close(self, limit: float) -> None:
        """Let it end when its last process has; kill it where that takes more than ``limit`` seconds."""
        self._let_go()
        assert self._process.stdin
        self._process.stdin.close()
        try:
            async with asyncio.timeout(limit):
                await self._process.wait()
        except TimeoutError:
            await _end(self._process)

    def tell(self, verb: str, number: int) -> None:
        """Have a process ended or killed; nothing where the host is dead, and they with it."""
        if self.alive and self._process.stdin:
            self._process.stdin.write(f"{verb} {number}\n".encode())

    def _receive(self) -> None:
        """Take the socket of a process that was begun."""
        try:
            told, sockets, _, _ = socket.recv_fds(self._control, 1024, 1)
        except OSError:
            told, sockets = b"", []
        if not told:
            self._let_go()
            return
        number, _, reason = told.decode().partition(" ")
        arrived = self._awaited.get(int(number))
        line = socket.socket(fileno=sockets[0]) if sockets else None
        if arrived is None or arrived.done():  # nobody waits any more
            if line:
                line.close()
        elif line:
            line.setblocking(False)
            arrived.set_result(line)
        else:
            reason = reason or "too many open files"
            arrived.set_exception(WorkFailed(f"no process for the environment: {reason}"))

    def _let_go(self) -> None:
        """The host is dead or may go."""
        if not self.alive:
            return
        self.alive = False
        asyncio.get_running_loop().remove_reader(self._control)
        self._control.close()
        for arrived in self._awaited.values():
            if not arrived.done():
                arrived.set_exception(ConnectionResetError())


async def _until_imported(control: socket.socket, limit: float) -> None:
    try:
        async with asyncio.timeout(limit):
            told = await asyncio.get_running_loop().sock_recv(control, 65536)
    except TimeoutError:
        raise WorkFailed(
            f"importing the environment took longer than rollout.startup_timeout={limit:g} s"
        ) from None
    if not told:
        raise WorkFailed(
            "the process that imports the environment died", mend="see Ray's logs for what it said"
        )
    if told := json.loads(told):
        message, where, mend = told
        raise InputError(message, where=where, mend=mend)


async def _end(process: asyncio.subprocess.Process) -> None:
    if process.returncode is None:
        process.kill()
    await process.wait()


def _too_long(timeout: float) -> str:
    return f"the environment took longer than rollout.environment_timeout={timeout:g} s"
