"""An output folder, opened again: tokens by position, documents by number, and where each token comes from.

::

    dataset = TokenDataset.open(Path("tokens"))
    dataset.tokens(0, 2048)          # ids of the first 2,048 positions
    dataset.document(7)              # ids of a document
    dataset.locate(123_456)          # its document, input, and byte range there

Positions and documents count through all shards. Files are opened when they are needed; arrays are views of
mapped files wherever the format allows it.
"""

from bisect import bisect_right
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from asynckit.errors import InputError
from asynckit.tokenization.outputs.manifest import Manifest, read_manifest
from asynckit.tokenization.outputs.provenance import ENDING, Stretches
from asynckit.tokenization.outputs.stored_shards import StoredShard, damaged


class Stretch(NamedTuple):
    """An unbroken stretch of one document.

    Attributes:
        document: its number.
        source: name of its input.
        start: where the document begins there: byte of the decompressed input, or row.
        end: after where it ends.
        shard: number of the shard.
        first: position of the stretch's first token in the whole output.
        tokens: how many it has.
        offset: how many tokens of the document come before it.
    """

    document: int
    source: str
    start: int
    end: int
    shard: int
    first: int
    tokens: int
    offset: int


class Place(NamedTuple):
    """Where a token comes from.

    Attributes:
        token: its position in the whole output.
        stretch: what it belongs to.
        offset: how many tokens of its document come before it.
    """

    token: int
    stretch: Stretch
    offset: int


class TokenDataset:
    """Read access to an output folder of any format."""

    def __init__(self, folder: Path, manifest: Manifest) -> None:
        self.folder = folder
        self.manifest = manifest
        self._first_tokens = [record.first_token for record in manifest.shards]
        self._first_documents = [record.first_document for record in manifest.shards]
        self.shards = [StoredShard(folder, manifest, record) for record in manifest.shards]

    @classmethod
    def open(cls, folder: Path) -> "TokenDataset":
        """Open the folder that ``asynckit tokenize`` wrote.

        Raises:
            InputError: it has no manifest, or one that is damaged or contradicts itself.
        """
        manifest = read_manifest(folder)
        document = token = 0
        number = -1
        for record in manifest.shards:  # some numbers are left out: all records of those were skipped
            if record.number <= number or (record.first_document, record.first_token) != (document, token):
                mend = "restore the manifest, or tokenize again"
                raise InputError(
                    f"shard {record.number} does not follow the one before", where=str(folder), mend=mend
                )
            number, document, token = record.number, document + record.documents, token + record.tokens
        return cls(folder, manifest)

    @property
    def token_count(self) -> int:
        """Tokens of all shards, padding included."""
        return sum(shard.record.tokens for shard in self.shards)

    @property
    def document_count(self) -> int:
        """Documents of all shards."""
        return sum(shard.record.documents for shard in self.shards)

    def tokens(self, start: int = 0, stop: int | None = None) -> NDArray[Any]:
        """Ids of positions ``[start, stop)``, in the manifest's dtype: a view where they lie in one piece.

        Raises:
            InputError: the range is not within the output, or a file is damaged.
        """
        stop = self.token_count if stop is None else stop
        self._require_range(start, stop)
        found = [shard.tokens.read(*span) for shard, span in self._within(start, stop)]
        return found[0] if len(found) == 1 else np.concatenate([np.empty(0, self.manifest.dtype), *found])

    def loss_mask(self, start: int = 0, stop: int | None = None) -> NDArray[np.uint8] | None:
        """Loss mask of positions ``[start, stop)``, likewise; None where the output has none.

        Raises:
            InputError: the range is not within the output, or a file is damaged.
        """
        stop = self.token_count if stop is None else stop
        self._require_range(start, stop)
        masks = [(shard.loss_mask, span) for shard, span in self._within(start, stop)]
        if not self.manifest.loss_mask:
            return None
        return np.concatenate([np.empty(0, np.uint8), *(mask.read(*span) for mask, span in masks if mask)])

    def document(self, number: int) -> NDArray[Any]:
        """Ids of a document, without padding: a view where they lie in one stretch.

        Raises:
            InputError: there is no such document, or a file is damaged.
        """
        found = [self.tokens(each.first, each.first + each.tokens) for each in self.stretches(number)]
        return found[0] if len(found) == 1 else np.concatenate([np.empty(0, self.manifest.dtype), *found])

    def stretches(self, document: int) -> list[Stretch]:
        """Where a document's tokens are, in order; empty where packing had no token to place.

        Raises:
            InputError: there is no such document, or the provenance is damaged.
        """
        if not 0 <= document < self.document_count:
            mend = f"there are {self.document_count} documents, the first is 0"
            raise InputError(f"no document {document}", where=str(self.folder), mend=mend)
        shard = self.shards[bisect_right(self._first_documents, document) - 1]
        found = shard.provenance.of_document(document)
        return [] if found is None else _stretches(shard, *found)

    def locate(self, token: int) -> Place | None:
        """Where the token at a position comes from; None where it is padding.

        Raises:
            InputError: the position is not within the output, or the provenance is damaged.
        """
        self._require_range(token, token + 1)
        shard = self.shards[bisect_right(self._first_tokens, token) - 1]
        found = shard.provenance.at_token(token - shard.record.first_token)
        if found is None:
            return None
        document = int(found[0].documents[found[1]])
        stretches = self.stretches(document)
        stretch = next((each for each in stretches if 0 <= token - each.first < each.tokens), None)
        if stretch is None:
            raise damaged(shard.path(ENDING), f"document {document} is not where its tokens are")
        return Place(token, stretch, stretch.offset + token - stretch.first)

    def documents(self) -> Iterator[tuple[int, NDArray[Any]]]:
        """Yield the number and the ids of each document, in order; not those that packing had no token of.

        The ids are views where a document lies in one stretch.

        Raises:
            InputError: a file is damaged.
        """
        for shard in self.shards:
            for rows in shard.provenance.groups():
                yield from _documents(shard, rows)

    def _within(self, start: int, stop: int) -> Iterator[tuple[StoredShard, tuple[int, int]]]:
        """The shards of a range of positions, with the range in each."""
        number = max(0, bisect_right(self._first_tokens, start) - 1)
        for shard in self.shards[number:]:
            first = shard.record.first_token
            if first >= stop:
                return
            begin, end = max(start - first, 0), min(stop - first, shard.record.tokens)
            if begin < end:
                yield shard, (begin, end)

    def _require_range(self, start: int, stop: int) -> None:
        if not 0 <= start <= stop <= self.token_count:
            mend = f"there are {self.token_count} tokens, the first is 0"
            raise InputError(f"no tokens {start} to {stop}", where=str(self.folder), mend=mend)


def _stretches(shard: StoredShard, rows: Stretches, wanted: NDArray[np.int64]) -> list[Stretch]:
    found, offset = [], 0
    for row in wanted.tolist():
        stretch = Stretch(
            document=int(rows.documents[row]),
            source=rows.source(row),
            start=int(rows.starts[row]),
            end=int(rows.ends[row]),
            shard=shard.record.number,
            first=shard.record.first_token + int(rows.firsts[row]),
            tokens=int(rows.tokens[row]),
            offset=offset,
        )
        found.append(stretch)
        offset += stretch.tokens
    return found


def _documents(shard: StoredShard, rows: Stretches) -> Iterator[tuple[int, NDArray[Any]]]:
    """The documents of one row group, which is where all pieces of a document are."""
    order = np.argsort(rows.documents, kind="stable")
    begin, end = int(rows.firsts[0]), int((rows.firsts + rows.tokens).max())
    if not 0 <= begin <= end <= len(shard.tokens):
        raise damaged(shard.path(ENDING), f"it tells of tokens {begin} to {end} of {len(shard.tokens)}")
    tokens = shard.tokens.read(begin, end)
    firsts = (rows.firsts[order] - begin).tolist()
    ends = (rows.firsts[order] - begin + rows.tokens[order]).tolist()
    documents = rows.documents[order]
    changes = np.flatnonzero(np.diff(documents)) + 1
    borders = [0, *changes.tolist(), len(documents)]
    numbers = documents[borders[:-1]].tolist()
    for number, (low, high) in zip(numbers, pairwise(borders), strict=True):
        if high - low == 1:
            yield number, tokens[firsts[low] : ends[low]]
        else:
            pieces = [tokens[firsts[each] : ends[each]] for each in range(low, high)]
            yield number, np.concatenate(pieces)
