"""Reads the files of adapters in a thread of its own, beside the step that runs.

The thread only reads: bytes come from the disk while the engine's thread computes. Making weights of them is
left to the engine's thread, because torch's arithmetic in a second thread would slow down every step (see
:meth:`asynckit.engine.driver.EngineDriver.load`).
"""

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass

from asynckit.engine.adapter_files import AdapterFile
from asynckit.errors import InputError


@dataclass(frozen=True)
class Read:
    """An adapter's checked file and the whole content of its weights."""

    file: AdapterFile
    content: bytes


class AdapterReads:
    """Reads under way or done, by number of the adapter; one at a time, in the order of calls."""

    def __init__(self) -> None:
        self._thread: ThreadPoolExecutor | None = None
        self._reads: dict[int, Future[Read]] = {}

    def begin(self, number: int, read: Callable[[], Read]) -> None:
        """Call ``read`` for an adapter that is not being read, as soon as the thread gets to it."""
        assert number not in self._reads
        if self._thread is None:
            self._thread = ThreadPoolExecutor(1, thread_name_prefix="adapters")
        self._reads[number] = self._thread.submit(read)

    def take(self, number: int) -> Read | None:
        """What was read, waiting for its end if it has begun; None if there is nothing to use.

        A read that failed gives None too: whoever needs the adapter reads it again, and either it goes well
        now, or the same checks say what is wrong to the one whom it concerns.
        """
        read = self._reads.pop(number, None)
        if read is None or read.cancel():
            return None
        try:
            return read.result()
        except (InputError, OSError, MemoryError):
            return None

    def drop(self, number: int) -> None:
        """Forget an adapter's read, if there is one; what has begun is waited for."""
        read = self._reads.pop(number, None)
        if read is not None and not read.cancel():
            wait([read])

    def close(self) -> None:
        """End the thread, after the file that it is reading."""
        self._reads.clear()
        if self._thread is not None:
            self._thread.shutdown(cancel_futures=True)
            self._thread = None
