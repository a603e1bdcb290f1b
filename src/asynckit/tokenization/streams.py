"""Units in their order: ranges at once, and blocks of what can only be read from the start, read ahead.

::

    stream ──thread: read, decompress, cut──> block file ──bounded queue──> items ──> workers
"""

import contextlib
import hashlib
import queue
import threading
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from asynckit.disk import writing
from asynckit.tokenization.config import TokenizationConfig
from asynckit.tokenization.inputs.faults import BrokenSource
from asynckit.tokenization.inputs.units import blocks_of, is_stream, units_of
from asynckit.tokenization.records import Source, Unit
from asynckit.tokenization.schedule import Block, Item, Shelf

if TYPE_CHECKING:
    from collections.abc import Iterator

_WAIT_SECONDS = 0.2
_AHEAD = 2  # blocks of each stream that wait on the disk
_Found = tuple[Unit, Block] | Exception | None  # None: the stream is over


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
        self._folder = folder
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
            source = self._sources[self._source]
            if is_stream(source):
                self._read_ahead()
                try:
                    found = self._running[self._source].blocks.get(timeout=seconds)
                except queue.Empty:
                    return None
                if isinstance(found, Exception):
                    raise found
                if found is not None:
                    return self._shelf.put(*found)
                self._running.pop(self._source).thread.join()
            else:
                self._ranges = self._ranges or units_of(source, self._source, self._config.unit_bytes)
                if unit := next(self._ranges, None):
                    return self._shelf.put(unit)
                self._ranges = None
            self._source += 1
        return None

    def close(self) -> None:
        """Stop reading; threads end as soon as what they wait for comes, or with the process."""
        self._stopped.set()

    def _read_ahead(self) -> None:
        """Have a thread on this stream and on some of those that follow."""
        ahead = [
            index
            for index in range(self._source, len(self._sources))
            if index not in self._running and is_stream(self._sources[index])
        ]
        for index in ahead[: self._most - len(self._running)]:
            thread = threading.Thread(target=self._read, args=(index,), daemon=True)
            self._running[index] = _Stream(thread)
            thread.start()

    def _read(self, index: int) -> None:
        blocks = self._running[index].blocks
        end: Exception | None = None
        try:
            found = blocks_of(self._sources[index], index, self._config.unit_bytes)
            for unit, content in found:
                if not self._put(blocks, (unit, self._keep(unit, content))):
                    return
        except BrokenSource as error:
            if self._config.on_error == "stop":
                end = error
            else:
                rest = Unit(index, error.start, error.start)
                self._put(blocks, (rest, self._keep(rest, b"", error.message)))
        except Exception as error:  # noqa: BLE001 - raised where the block is taken
            end = error
        self._put(blocks, end)

    def _keep(self, unit: Unit, content: bytes, broken: str = "") -> Block:
        path = self._folder / f"{unit.source:06d}-{unit.start:016d}.block"
        with writing(path):
            path.write_bytes(content)
        return Block(path, hashlib.sha256(content).hexdigest(), broken)

    def _put(
        self,
        blocks: "queue.Queue[tuple[Unit, Block] | Exception | None]",
        found: "tuple[Unit, Block] | Exception | None",
    ) -> bool:
        while not self._stopped.is_set():
            with contextlib.suppress(queue.Full):
                blocks.put(found, timeout=_WAIT_SECONDS)
                return True
        return False
