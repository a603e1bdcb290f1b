"""The side of a comparison that runs in a process of its own: started, told when to time, and ended."""

import os
import selectors
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import Self, TypeVar

import msgspec

import asynckit
from asynckit import errors
from asynckit.bench.side_messages import Failed, Job, Open, Opened, Ready, Reply, Request, Round, Took
from asynckit.errors import AsynckitError, WorkFailed

OPEN_SECONDS = 600.0  # at most, to import, load a model or warm up
ROUND_SECONDS = 300.0
_END_SECONDS = 5.0  # to free what it holds; then it is killed
# Threads of the side whose turn is over must not spin, nor may hashes order sets otherwise on either side.
_ENVIRONMENT = {"OMP_WAIT_POLICY": "PASSIVE", "KMP_BLOCKTIME": "0", "PYTHONHASHSEED": "0"}
_LONGEST_LINE = 1 << 20

Answer = TypeVar("Answer", Ready, Opened, Took)


class RemoteSide:
    """A side in its own process. Close it, or use it in a ``with``.

    Args:
        job: what it measures.
        open_seconds: that it may take to start or to open a case.
        round_seconds: that a round may take.

    Raises:
        AsynckitError: as :func:`asynckit.bench.side_process.set_up` does in the process.
        WorkFailed: it died, or took too long.
    """

    def __init__(
        self, job: Job, *, open_seconds: float = OPEN_SECONDS, round_seconds: float = ROUND_SECONDS
    ) -> None:
        self.name = job.name
        self._open_seconds = open_seconds
        self._round_seconds = round_seconds
        self._unread = b""
        self._process = subprocess.Popen(
            # -P: the working folder does not come first, where a module of a person's could hide one of ours.
            [sys.executable, "-P", "-m", "asynckit.bench.side_process"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=_environment(),
            start_new_session=True,  # Ctrl-C is for the comparison, which ends its sides
        )
        try:
            ready = self._ask(job, Ready, open_seconds)
        except BaseException:
            self.close()
            raise
        self.keys = list(ready.keys)
        self.device = ready.device

    def open(self, key: str) -> Opened:
        """Prepare a case, close the one before, and warm up.

        Raises:
            WorkFailed: the process died, or took too long.
        """
        return self._ask(Open(key), Opened, self._open_seconds)

    def seconds(self) -> float:
        """Time one round of the open case: seconds per call.

        Raises:
            WorkFailed: the case failed, or the process died or took too long.
        """
        return self._ask(Round(), Took, self._round_seconds).seconds

    def close(self) -> None:
        """End the process and all that it has started."""
        assert self._process.stdin
        assert self._process.stdout
        try:
            with suppress(BrokenPipeError):  # it is dead already
                self._process.stdin.close()
            with suppress(subprocess.TimeoutExpired):  # it is killed below
                self._process.wait(_END_SECONDS)
        finally:
            self._kill()
            self._process.stdout.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _ask(self, message: Job | Request, answer: type[Answer], seconds: float) -> Answer:
        assert self._process.stdin
        try:
            self._process.stdin.write(msgspec.json.encode(message) + b"\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            raise self._died() from None
        reply = msgspec.json.decode(self._line(time.monotonic() + seconds, seconds), type=Reply)
        if isinstance(reply, Failed):
            raise _as_error(reply, self.name)
        assert isinstance(reply, answer)
        return reply

    def _line(self, deadline: float, seconds: float) -> bytes:
        """The next line that the process writes."""
        assert self._process.stdout
        with selectors.DefaultSelector() as selector:
            selector.register(self._process.stdout, selectors.EVENT_READ)
            while b"\n" not in self._unread:
                if not selector.select(max(0.0, deadline - time.monotonic())):
                    self._kill()
                    raise WorkFailed(
                        f"gave no answer for {seconds:g} s and was stopped",
                        where=self.name,
                        mend="choose a case that takes less time",
                    )
                read = os.read(self._process.stdout.fileno(), _LONGEST_LINE)
                if not read:
                    raise self._died()
                self._unread += read
        line, _, self._unread = self._unread.partition(b"\n")
        return line

    def _died(self) -> WorkFailed:
        self._kill()
        code = self._process.wait()
        how = f"was killed by {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}"
        mend = "what it printed above may say why; SIGKILL is often for want of memory"
        return WorkFailed(f"its process {how}", where=self.name, mend=mend)

    def _kill(self) -> None:
        """Kill the process with all that it started, and wait for its end."""
        with suppress(ProcessLookupError):  # none of them is left
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()


def _environment() -> dict[str, str]:
    """This one's, with this asynckit first: it is the one that measures."""
    here = str(Path(asynckit.__file__).parents[1])
    paths = os.pathsep.join([here, *filter(None, [os.environ.get("PYTHONPATH")])])
    return {**_ENVIRONMENT, **os.environ, "PYTHONPATH": paths}


def _as_error(failed: Failed, side: str) -> AsynckitError:
    """The error, with the side that it is of: the other one may be well."""
    kind = getattr(errors, failed.kind, WorkFailed)
    assert issubclass(kind, AsynckitError)
    where = failed.where if failed.where == side else f"{side}: {failed.where}".removesuffix(": ")
    return kind(failed.message, where=where, mend=failed.mend)
