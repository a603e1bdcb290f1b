"""The process that people's environments come from: it imports the class once and forks for every episode.

::

    rollouter ──commands, one per line──> host ──fork──> episode, episode, …
        ^ └───────── a socket of its own, lines of JSON, for each episode ───┘
        └──── sockets of new episodes ────┘

An episode is a process group of its own, so whatever hangs, crashes or is left behind by it can be killed
without touching another. Forking a process that has the class imported takes milliseconds. When the host
dies, so do the episodes, and the host dies with the rollouter.

Commands are ``begin N``, ``end N`` (the episode may close within the grace, then it is killed), ``kill N``.
An episode reads ``[verb, argument]`` and answers ``{"value": …}`` or ``{"error": "one line"}``.
"""

import asyncio
import inspect
import json
import math
import os
import select
import signal
import socket
import sys
import time
import traceback
from collections.abc import Callable, Mapping
from contextlib import suppress
from io import BufferedRWPair
from numbers import Real
from typing import Any, NoReturn

from asynckit.errors import AsynckitError, InputError
from asynckit.parent import die_with_parent
from asynckit.rollout.episodes.environments import ROLES, EnvironmentClass, load_environment
from asynckit.user_code import describe

_LONGEST_WAIT = 3600.0  # seconds; select() refuses what is too long for it


class Host:
    """Forks, ends and buries episodes.

    Args:
        kind: the class that episodes are made of.
        control: takes the sockets of new episodes to the rollouter.
        grace: seconds that an episode may take to close.
    """

    def __init__(self, kind: EnvironmentClass, control: socket.socket, grace: float) -> None:
        self._kind = kind
        self._control = control
        self._grace = grace
        self._running: dict[int, int] = {}  # process ids by number
        self._deadlines: dict[int, float] = {}
        self._dead, wake = os.pipe()
        os.set_blocking(self._dead, False)
        os.set_blocking(wake, False)
        self._inherited = (self._dead, wake, control.fileno())
        signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.set_wakeup_fd(wake)

    def serve(self) -> None:
        """Obey until the commands end, and then until the last episode is over."""
        rest, listening = b"", True
        while listening or self._running:
            due = min(self._deadlines.values(), default=math.inf) - time.monotonic()
            wait = min(max(due, 0.0), _LONGEST_WAIT)
            ready, _, _ = select.select([self._dead, *([0] if listening else [])], [], [], wait)
            if self._dead in ready:
                os.read(self._dead, 4096)
            if 0 in ready:
                listening = bool(chunk := os.read(0, 65536))
                *lines, rest = (rest + chunk).split(b"\n")
                for line in lines:
                    self._obey(*line.decode().split())
            if not listening:
                for number in self._running:
                    self._end(number)
            self._bury()

    def _obey(self, verb: str, number: str) -> None:
        acts = {"begin": self._begin, "end": self._end, "kill": self._kill}
        acts[verb](int(number))

    def _end(self, number: int) -> None:
        if number in self._running:
            self._deadlines.setdefault(number, time.monotonic() + self._grace)

    def _kill(self, number: int) -> None:
        if number in self._running:
            self._deadlines[number] = 0.0

    def _bury(self) -> None:
        """Kill who is overdue, and whatever the dead have left running."""
        overdue = [number for number, due in self._deadlines.items() if due <= time.monotonic()]
        for number in overdue:
            _kill_group(self._running[number])
            del self._deadlines[number]
        numbers = {pid: number for number, pid in self._running.items()}
        # A process keeps its id until it is waited for, so that no other can be killed in its place.
        peek = os.WEXITED | os.WNOHANG | os.WNOWAIT
        while self._running and (dead := os.waitid(os.P_ALL, 0, peek)):
            _kill_group(dead.si_pid)
            os.waitpid(dead.si_pid, 0)
            number = numbers[dead.si_pid]
            del self._running[number]
            self._deadlines.pop(number, None)

    def _begin(self, number: int) -> None:
        try:
            self._fork(number)
        except OSError as error:  # too many processes or open files
            self._control.send(f"{number} {error}".encode())

    def _fork(self, number: int) -> None:
        theirs, ours = socket.socketpair()
        host = os.getpid()
        with theirs, ours:
            pid = os.fork()
            if pid == 0:
                theirs.close()
                self._become_episode(ours, host)
            with suppress(ProcessLookupError, PermissionError):  # it was quicker
                os.setpgid(pid, pid)
            self._running[number] = pid
            socket.send_fds(self._control, [str(number).encode()], [theirs.fileno()])

    def _become_episode(self, ours: socket.socket, host: int) -> NoReturn:
        """Play one episode in this forked process, and leave it without a way back into the host's code."""
        code = 1
        try:
            with suppress(PermissionError):
                os.setpgid(0, 0)
            die_with_parent(host)
            signal.set_wakeup_fd(-1)
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            for inherited in self._inherited:
                os.close(inherited)
            nothing = os.open(os.devnull, os.O_RDONLY)
            os.dup2(nothing, 0)
            play(self._kind, ours.makefile("rwb"))
            code = 0
        except BaseException:  # noqa: BLE001 - it ends here, and the log has it
            traceback.print_exc()
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(code)


def _kill_group(pid: int) -> None:
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(pid, signal.SIGKILL)


# --- one episode ---


def play(kind: EnvironmentClass, lines: BufferedRWPair) -> None:
    """Answer every line until there are no more, then close the environment."""
    with asyncio.Runner() as runner:
        episode = _Episode(kind, runner)
        with suppress(ConnectionError):  # whoever asked left before the answer
            for line in lines:
                lines.write(json.dumps(episode.answer(*json.loads(line))).encode() + b"\n")
                lines.flush()
        episode.close()


class _Episode:
    """A person's object and the event loop for what is ``async def`` in it."""

    def __init__(self, kind: EnvironmentClass, runner: asyncio.Runner) -> None:
        self._kind = kind
        self._runner = runner
        self._environment: Any = None

    def answer(self, verb: str, given: Any) -> dict[str, Any]:
        """Do what is asked; whatever the person's code raises becomes one line."""
        acts: dict[str, Callable[[Any], Any]] = {
            "__init__": self._make,
            "step": self._step,
            "reward": self._reward,
        }
        try:
            return {"value": acts[verb](given)}
        except InputError as error:
            return {"error": str(error)}
        except BaseException as error:  # noqa: BLE001 - SystemExit too ends a sample and not its process
            return {"error": f"the environment's {verb} raised {describe(error, self._kind.source)}"}

    def close(self) -> None:
        if callable(close := getattr(self._environment, "close", None)):
            self._wait(close())

    def _make(self, offered: Mapping[str, Any]) -> None:
        self._environment = self._kind.make(**{name: offered[name] for name in self._kind.declared})

    def _step(self, text: str) -> dict[str, Any] | None:
        return as_reply(self._wait(self._environment.step(text)), self._kind.name)

    def _reward(self, _: None) -> float | None:
        if not callable(getattr(self._environment, "reward", None)):
            return None
        return as_number(self._wait(self._environment.reward()), self._kind.name)

    def _wait(self, result: Any) -> Any:
        return self._runner.run(_wait_for(result)) if inspect.isawaitable(result) else result


async def _wait_for(awaitable: Any) -> Any:
    return await awaitable


def as_reply(result: Any, name: str) -> dict[str, Any] | None:
    """What ``step`` returned, as ``{"content", "role"}``; the role is None where it returned text.

    Raises:
        InputError: it is neither text, nor a message, nor None; ``name`` is the environment's.
    """
    if result is None:
        return None
    reply = {"role": None, "content": result} if isinstance(result, str) else result
    if not isinstance(reply, Mapping) or reply.keys() != {"role", "content"}:
        raise _wrong(f"step returned {type(result).__name__}", name, "return text, role and content, or None")
    if reply["role"] not in (None, *ROLES):
        raise _wrong(f"step returned the role {reply['role']!r}", name, f"use {' or '.join(ROLES)}")
    if not isinstance(content := reply["content"], str):
        raise _wrong(f"step returned {type(content).__name__} as content", name, "return text")
    if not content.isascii() and any("\ud800" <= character <= "\udfff" for character in content):
        raise _wrong("step returned half of a surrogate pair", name, "decode with errors='replace'")
    return dict(reply)


def as_number(result: Any, name: str) -> float:
    """What ``reward`` returned.

    Raises:
        InputError: it is no finite number; ``name`` is the environment's.
    """
    if getattr(result, "shape", None) == ():
        result = result.item()  # a scalar of NumPy or torch
    number = float(result) if isinstance(result, Real) else math.nan
    if not math.isfinite(number):
        raise _wrong(f"reward returned {str(result)[:100]!r}", name, "return a finite number")
    return number


def _wrong(message: str, name: str, mend: str) -> InputError:
    return InputError(message, where=name, mend=mend)


def main() -> None:
    """Load the class named on the command line, say how that went, and serve."""
    parent, control, grace, name, *import_paths = sys.argv[1:]
    die_with_parent(int(parent))
    with socket.socket(fileno=int(control)) as line:
        try:
            kind = load_environment(name, import_paths)
        except AsynckitError as error:
            line.send(json.dumps([error.message, error.where, error.mend]).encode())
            return
        line.send(b"[]")
        Host(kind, line, float(grace)).serve()


if __name__ == "__main__":
    main()
