"""Which unit goes into which shard: decided by the inputs and settings alone, never by who does the work."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from asynckit.tokenization.records import Source, Unit


@dataclass(frozen=True, slots=True)
class Item:
    """A unit with its place in the output.

    Attributes:
        number: among all units, from 0.
        shard: that its tokens go to.
        unit: the range of a source.
        weight: bytes of input, as far as one can tell.
        block: file with its bytes, where the source can only be read from the start.
        digest: SHA-256 of these, likewise.
        broken: why the source cannot be read from here on; empty where it can.
    """

    number: int
    shard: int
    unit: Unit
    weight: int
    block: Path | None = None
    digest: str = ""
    broken: str = ""


class Shelf:
    """Puts units into shards in their order.

    Args:
        sources: all of them.
        shard_bytes: of input after which a new shard begins; 0 for one shard.
    """

    def __init__(self, sources: tuple[Source, ...], shard_bytes: int) -> None:
        self._sources = sources
        self._shard_bytes = shard_bytes
        self._number = self._shard = self._filled = 0

    def put(self, unit: Unit, block: Path | None = None, digest: str = "", broken: str = "") -> Item:
        """The next unit's place; what is known of it besides as of :class:`Item`."""
        if self._shard_bytes and self._filled >= self._shard_bytes:
            self._shard, self._filled = self._shard + 1, 0
        weight = weight_of(self._sources[unit.source], unit)
        item = Item(self._number, self._shard, unit, weight, block, digest, broken)
        self._number += 1
        self._filled += weight
        return item


def weight_of(source: Source, unit: Unit) -> int:
    """Bytes of input that a unit stands for: its own, or its share of the source's."""
    position, units = unit.share
    if units and source.bytes is not None:
        return source.bytes * (position + 1) // units - source.bytes * position // units
    return unit.end - unit.start


@dataclass(frozen=True, slots=True)
class Finished:
    """What is known of a unit whose part is on the disk.

    Attributes:
        item: the unit.
        path: of the part.
        documents: in it.
        tokens: in it, padding included.
    """

    item: Item
    path: Path
    documents: int
    tokens: int


@dataclass(frozen=True, slots=True)
class Ready:
    """A shard whose units are all finished, and where it begins."""

    number: int
    parts: tuple[Finished, ...]
    first_document: int
    first_token: int


class Assembly:
    """Says which shards can be put together; in order, because each begins where the one before ends."""

    def __init__(self) -> None:
        self._units: dict[int, int] = {}  # how many units each shard has so far
        self._finished: dict[int, list[Finished]] = {}
        self._done: dict[int, tuple[int, int]] = {}
        self._newest = -1
        self._all_known = False
        self._next = self._document = self._token = 0

    def expect(self, item: Item) -> None:
        """A unit has been planned; units come in their order."""
        self._units[item.shard] = self._units.get(item.shard, 0) + 1
        self._newest = item.shard

    def end(self) -> None:
        """No more units come."""
        self._all_known = True

    def add(self, finished: Finished) -> None:
        """A unit's part is on the disk."""
        self._finished.setdefault(finished.item.shard, []).append(finished)

    def skip(self, shard: int, documents: int, tokens: int) -> None:
        """A shard is there already."""
        self._done[shard] = (documents, tokens)

    def ready(self) -> Iterator[Ready]:
        """Shards whose parts are all there; each is named once."""
        while self._next <= self._newest and (self._next < self._newest or self._all_known):
            number = self._next
            if number in self._done:
                documents, tokens = self._done[number]
            else:
                parts = self._finished.get(number, [])
                if len(parts) < self._units[number]:
                    return
                parts.sort(key=lambda each: each.item.number)
                yield Ready(number, tuple(parts), self._document, self._token)
                documents = sum(each.documents for each in parts)
                tokens = sum(each.tokens for each in parts)
                del self._finished[number]
            self._document += documents
            self._token += tokens
            self._next += 1


def total_weight(sources: Iterable[Source]) -> int | None:
    """Bytes of all inputs as the units will count them; None where that is only known at the end."""
    sizes = [None if source.compression else source.bytes for source in sources]
    return None if None in sizes else sum(size or 0 for size in sizes)
