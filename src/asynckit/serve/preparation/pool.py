"""The preparers of one HTTP server.

One is started with the server and another when the first is busy. A job that takes longer than
``serve.prepare_timeout`` gets its preparer killed and ends with an error; the next job starts a new one. So
a template that never ends costs one process some seconds, and nothing else stands still for it.
"""

import asyncio
import logging
import sys
from contextlib import suppress

import msgspec

from asynckit.errors import DependencyError
from asynckit.models.config import ModelConfig
from asynckit.serve.api.errors import ApiError, unavailable
from asynckit.serve.preparation.jobs import (
    LENGTH_BYTES,
    Chat,
    Decode,
    Encode,
    Load,
    Loaded,
    Outcome,
    Prepared,
    Wrong,
    frame,
)

MOST_PROCESSES = 2
MOST_WAITING = 256
LOAD_SECONDS = 120.0

_logger = logging.getLogger(__name__)
_COMMAND = (sys.executable, "-P", "-m", "asynckit.serve.preparation.child")

_BROKEN = (EOFError, OSError, msgspec.DecodeError)  # what comes of the pipes of a process that dies
_NO_START = "the process that prepares prompts can't be started"


class Preparers:
    """Prepares prompts off the event loop. Start it first, close it last.

    Args:
        model: whose tokenizer and template are used.
        seconds: that one job may take, and wait.
    """

    def __init__(self, model: ModelConfig, seconds: float) -> None:
        self._model = model
        self._seconds = seconds
        self._idle: asyncio.LifoQueue[_Preparer] = asyncio.LifoQueue()
        self._alive: set[_Preparer] = set()
        self._starting = 0
        self._waiting = 0
        self._tasks: set[asyncio.Task[object]] = set()

    async def start(self) -> Loaded:
        """Start the first one.

        Raises:
            DependencyError: the tokenizer can't be loaded.
        """
        preparer, loaded = await self._start_one()
        self._idle.put_nowait(preparer)
        return loaded

    async def prepare(self, job: Encode | Chat | Decode) -> Prepared:
        """Have a job done.

        Raises:
            ApiError: 400 where the job can't be done, 503 where it takes too long or too many wait.
        """
        content = _framed(job)
        if self._waiting >= MOST_WAITING:
            raise unavailable("too many prompts wait to be prepared", code="prepare_queue_full")
        self._waiting += 1
        try:
            preparer = await self._idle_one()
        finally:
            self._waiting -= 1
        task = asyncio.create_task(self._run(preparer, content))
        self._hold(task)
        answer = await asyncio.shield(task)  # who gives up leaves the preparer to end its job in peace
        if isinstance(answer, Wrong):
            raise ApiError(400, answer.message)
        assert isinstance(answer, Prepared)
        return answer

    async def close(self) -> None:
        """Kill them all."""
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)
        for preparer in list(self._alive):
            await self._end(preparer)

    async def _idle_one(self) -> "_Preparer":
        if self._idle.empty() and len(self._alive) + self._starting < MOST_PROCESSES:
            self._starting += 1
            self._hold(asyncio.create_task(self._add_one()))
        try:
            async with asyncio.timeout(self._seconds):
                return await self._idle.get()
        except TimeoutError:
            raise unavailable("preparing prompts takes too long at present", code="prepare_timeout") from None

    async def _add_one(self) -> None:
        try:
            preparer, _ = await self._start_one()
        except DependencyError:
            _logger.exception("a process that prepares prompts can't be started")
        else:
            self._idle.put_nowait(preparer)
        finally:
            self._starting -= 1

    async def _start_one(self) -> "tuple[_Preparer, Loaded]":
        preparer = await _spawned()
        self._alive.add(preparer)
        try:
            async with asyncio.timeout(LOAD_SECONDS):
                answer = await preparer.exchange(frame(Load(self._model)))
        except (*_BROKEN, TimeoutError) as error:
            await self._end(preparer)
            raise DependencyError(_NO_START) from error
        except asyncio.CancelledError:
            await self._end(preparer)
            raise
        if isinstance(answer, Wrong):
            await self._end(preparer)
            raise DependencyError(answer.message, where="model", mend=answer.mend)
        assert isinstance(answer, Loaded)
        return preparer, answer

    async def _run(self, preparer: "_Preparer", content: bytes) -> Outcome:
        """The answer of a preparer, which afterwards is idle again or ended, whatever went wrong."""
        try:
            answer = await self._exchange(preparer, content)
        except Exception:
            await self._end(preparer)
            if not self._alive and not self._starting:
                self._starting += 1
                self._hold(asyncio.create_task(self._add_one()))
            raise
        self._idle.put_nowait(preparer)
        return answer

    async def _exchange(self, preparer: "_Preparer", content: bytes) -> Outcome:
        try:
            async with asyncio.timeout(self._seconds):
                return await preparer.exchange(content)
        except TimeoutError:
            _logger.warning("a prompt took more than %g s to prepare: its process was killed", self._seconds)
            message = f"preparing the prompt takes more than {self._seconds:g} s"
            raise unavailable(message, code="prepare_timeout") from None
        except _BROKEN as error:
            message = "the process that prepared the prompt died"
            raise unavailable(message, code="prepare_timeout") from error

    async def _end(self, preparer: "_Preparer") -> None:
        self._alive.discard(preparer)
        await preparer.kill()

    def _hold(self, task: "asyncio.Task[object]") -> None:
        self._tasks.add(task)
        task.add_done_callback(self._let_go)

    def _let_go(self, task: "asyncio.Task[object]") -> None:
        self._tasks.discard(task)
        if not task.cancelled():
            task.exception()  # whoever waits for it gets it; nobody may be left to


class _Preparer:
    """One process."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process
        self._decoder = msgspec.msgpack.Decoder(Outcome)

    async def exchange(self, content: bytes) -> Outcome:
        """Its answer to a framed job; raises one of ``_BROKEN`` when it has died."""
        assert self._process.stdin
        assert self._process.stdout
        self._process.stdin.write(content)
        await self._process.stdin.drain()
        head = await self._process.stdout.readexactly(LENGTH_BYTES)
        content = await self._process.stdout.readexactly(int.from_bytes(head, "big"))
        answer: Outcome = self._decoder.decode(content)
        return answer

    async def kill(self) -> None:
        """End it."""
        with suppress(ProcessLookupError):
            self._process.kill()
        await self._process.wait()


async def _spawned() -> _Preparer:
    """A process of its own; raises DependencyError where the system has no room for one."""
    pipe = asyncio.subprocess.PIPE
    try:
        return _Preparer(await asyncio.create_subprocess_exec(*_COMMAND, stdin=pipe, stdout=pipe))
    except OSError as error:
        raise DependencyError(f"{_NO_START}: {error.strerror}") from error


def _framed(job: Encode | Chat | Decode) -> bytes:
    """A job as bytes; raises ApiError for one that no frame can hold, before a preparer is taken."""
    try:
        return frame(job)
    except (OverflowError, ValueError) as error:  # integers of more than 64 bits, halves of surrogate pairs
        raise ApiError(400, f"the prompt can't be prepared: {error}", code="invalid_value") from error
