"""Units in their order: ranges at once, and blocks of what can only be read from the start, read ahead.

::

    stream ──thread: read, decompress, cut──> block file ──bounded queue──> items ──> workers
"""

import contextlib
import hashlib
import queue
import tempfile
import threading
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from asynckit.disk import writing
from asynckit.tokenization.config import TokenizationConfig
from asynckit.tokenization.inputs.faults import BrokenSource
from asynckit.tokenization.inputs.units import blocks_of, is_stream, units_of
from asynckit.tokenization.records import Source, Unit
from asynckit.tokenization.schedule import Item, Shelf

if TYPE_CHECKING:
    from collections.abc import Iterator

_WAIT_SECONDS = 0.2
_STOP_SECONDS = 1.0
_AHEAD = 2  # blocks of each stream that wait on the disk
_Block = tuple[Unit, Path | None, str, str]  # a unit, its bytes, their digest, and what is broken
_Found = _Block | Exception | None  # None: the stream is over


@dataclass
class _Stream:
    """A source that a thread reads, and what it has read."""

    thread: threading.Thread
    blocks: "queue.Queue[_Found]" = field(default_factory=lambda: queue.Queue(_AHEAD))


class Items:
    """The units of all sources, one after another.

    Args:
        sources: what is read.
        config: the settings.
        folder: for blocks; empty.
        streams: how many streams may be read at the same time.
    """

    def __init__(
        self, sources: tuple[Source, ...], config: TokenizationConfig, folder: Path, *, streams: int
    ) -> None:
        self._sources = sources
        self._config = config
        # Of its own: a thread of an earlier attempt may still be writing the block that it has in hand.
        self._folder = Path(tempfile.mkdtemp(dir=folder))
        self._shelf = Shelf(sources, config.shard_bytes)
        self._most = streams
        self._stopped = threading.Event()
        self._running: dict[int, _Stream] = {}
        self._source = 0
        self._ranges: Iterator[Unit] | None = None

    @property
    def exhausted(self) -> bool:
        """Whether every unit has been taken."""
        return self._source >= len(self._sources)

    def take(self, seconds: float) -> Item | None:
        """The next unit; None if a stream has not come to its next block in time, or there are no more.

        Raises:
            AsynckitError: a source cannot be read.
        """
        while not self.exhausted:
            if is_stream(self._sources[self._source]):
                self._read_ahead()
                try:
                    found = self._running[self._source].blocks.get(timeout=seconds)
                except queue.Empty:
                    return None
                if found is None:
                    self._running.pop(self._source).thread.join()
            else:
                found = self._next_range()
            if isinstance(found, Exception):
                raise found
            if found is not None:
                return self._shelf.put(*found)
            self._source += 1
        return None

    def close(self) -> None:
        """Stop reading; a thread that waits for its stream ends when something comes, or with the process."""
        self._stopped.set()
        for stream in self._running.values():
            stream.thread.join(_STOP_SECONDS)

    def _next_range(self) -> _Found:
        """The next unit of a source that is read in ranges; None after the last."""
        if self._ranges is None:
            self._ranges = units_of(self._sources[self._source], self._source, self._config.unit_bytes)
        try:
            unit = next(self._ranges, None)
        except BrokenSource as error:
            self._ranges = iter(())
            return self._rest(error, self._source)
        if unit is None:
            self._ranges = None
            return None
        return unit, None, "", ""

    def _rest(self, error: BrokenSource, index: int) -> _Found:
        """What cannot be read of a source: an error, or a unit without records where such are skipped."""
        if self._config.on_error == "stop":
            return error
        return Unit(index, error.start, error.start), None, "", error.message

    def _read_ahead(self) -> None:
        """Have a thread on this stream and on some of those that follow."""
        ahead = [
            index
            for index in range(self._source, min(self._source + self._most, len(self._sources)))
            if index not in self._running and is_stream(self._sources[index])
        ]
        for index in ahead:
            thread = threading.Thread(target=self._read, args=(index,), daemon=True)
            self._running[index] = _Stream(thread)
            thread.start()

    def _read(self, index: int) -> None:
        """Read a stream to its end; in a thread of its own."""
        blocks, last = self._running[index].blocks, None
        try:
            for unit, content in blocks_of(self._sources[index], index, self._config.unit_bytes):
                if not self._put(blocks, self._keep(unit, content)):
                    return
        except BrokenSource as error:
            last = self._rest(error, index)
        except Exception as error:  # noqa: BLE001 - raised where the block is taken
            last = error
        if last is None or self._put(blocks, last):
            self._put(blocks, None)

    def _keep(self, unit: Unit, content: bytes) -> _Block:
        path = self._folder / f"{unit.source:06d}-{unit.start:016d}.block"
        with writing(path):
            path.write_bytes(content)
        return unit, path, hashlib.sha256(content).hexdigest(), ""

    def _put(self, blocks: "queue.Queue[_Found]", found: _Found) -> bool:
        """Hand over; False once nobody takes anything any more."""
        while not self._stopped.is_set():
            with contextlib.suppress(queue.Full):
                blocks.put(found, timeout=_WAIT_SECONDS)
                return True
        return False
