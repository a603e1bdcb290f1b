"""Worker processes on this machine, each of which does one task at a time and dies with the main process."""

import multiprocessing
import os
import signal
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from typing import TYPE_CHECKING, Any

from asynckit.errors import AsynckitError
from asynckit.parent import die_with_parent

if TYPE_CHECKING:
    from multiprocessing.process import BaseProcess

_STOP_SECONDS = 5.0


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a task ended.

    Attributes:
        task: what was to be done.
        answer: what came of it; None if it failed.
        error: why it failed; None for a worker that died.
        died: whether the worker was lost, which says nothing about the task.
    """

    task: Any
    answer: Any = None
    error: Exception | None = None
    died: bool = False


def available_cpus() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


class LocalPool:
    """A fixed number of workers.

    They are forked, so they begin with all that the main process has loaded; begin before it has threads.
    One that dies is replaced by a process that starts from nothing, for which ``do`` is pickled.

    Args:
        do: what a worker does with a task, in the worker.
        workers: how many.
        seconds: after which a worker that has not ended its task is killed, as one that hangs.
    """

    def __init__(self, do: Callable[[Any], Any], workers: int, *, seconds: float) -> None:
        self._do = do
        self._seconds = seconds
        self._idle: list[_Worker] = [_Worker(do, "fork") for _ in range(workers)]
        self._busy: dict[Connection, tuple[_Worker, Any, float]] = {}

    @property
    def idle(self) -> int:
        """How many workers have nothing to do."""
        return len(self._idle)

    @property
    def busy(self) -> int:
        """How many tasks are being done."""
        return len(self._busy)

    def give(self, task: Any) -> None:
        """Begin a task; a worker must be idle."""
        worker = self._idle.pop()
        try:
            worker.connection.send(task)
        except OSError:  # it died while it had nothing to do
            worker.end()
            worker = _Worker(self._do, "spawn")
            worker.connection.send(task)
        self._busy[worker.connection] = (worker, task, time.monotonic() + self._seconds)

    def wait(self, seconds: float) -> list[Outcome]:
        """The tasks that have ended, at most this much later."""
        for worker, _, end in self._busy.values():
            if time.monotonic() > end:
                worker.process.kill()  # which closes its connection
        ready = wait(list(self._busy), timeout=seconds)
        return [self._ended(connection) for connection in ready if isinstance(connection, Connection)]

    def close(self) -> None:
        """End all workers, whatever they are doing."""
        for worker in [*self._idle, *(worker for worker, *_ in self._busy.values())]:
            worker.end()
        self._idle.clear()
        self._busy.clear()

    def _ended(self, connection: Connection) -> Outcome:
        worker, task, _ = self._busy.pop(connection)
        try:
            answer, error = connection.recv()
        except (EOFError, OSError):
            worker.end()
            self._idle.append(_Worker(self._do, "spawn"))
            return Outcome(task, died=True)
        self._idle.append(worker)
        return Outcome(task, answer, error)


class _Worker:
    """One process and the connection to it."""

    def __init__(self, do: Callable[[Any], Any], method: str) -> None:
        context: Any = multiprocessing.get_context(method)
        self.connection, other = context.Pipe()
        self.process: BaseProcess = context.Process(target=_work, args=(do, other, os.getpid()), daemon=True)
        self.process.start()
        other.close()  # the worker's death must close the connection

    def end(self) -> None:
        self.connection.close()
        self.process.kill()
        self.process.join(_STOP_SECONDS)
        if self.process.exitcode is not None:
            self.process.close()


def _work(do: Callable[[Any], Any], connection: Connection, parent: int) -> None:
    """The life of a worker."""
    die_with_parent(parent)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # meant for the main process, which ends the workers
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    while True:
        try:
            task = connection.recv()
        except EOFError:
            return
        try:
            said: tuple[Any, Exception | None] = (do(task), None)
        except AsynckitError as error:
            said = (None, error)
        except Exception:  # noqa: BLE001 - raised again in the main process
            said = (None, RuntimeError(f"in a worker:\n{traceback.format_exc()}"))
        connection.send(said)
