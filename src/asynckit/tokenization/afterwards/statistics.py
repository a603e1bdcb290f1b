"""Counting what is in token shards: a few passes of numpy over a million tokens at a time.

What no span covers is padding, and counted as nothing else. The text's bytes are those that its tokens spell,
so they do not depend on the format of the inputs; special tokens spell none of them.
"""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

_CHUNK = 1 << 20  # tokens: small enough for the processor's cache, large enough for numpy


@dataclass(frozen=True)
class Spans:
    """Where documents are among tokens; sorted by their first token.

    Attributes:
        documents: number of each span's document, int64 ``[spans]``; the numbers follow each other.
        sources: index of its source, int64 ``[spans]``.
        firsts: index of its first token, int64 ``[spans]``.
        tokens: how many it has, int64 ``[spans]``.
    """

    documents: NDArray[np.int64]
    sources: NDArray[np.int64]
    firsts: NDArray[np.int64]
    tokens: NDArray[np.int64]

    def part(self, begin: int, end: int) -> "Spans":
        """Some of them, without a copy."""
        return Spans(
            self.documents[begin:end], self.sources[begin:end], self.firsts[begin:end], self.tokens[begin:end]
        )

    def moved(self, by: int) -> "Spans":
        """The same among tokens of which the first has another index."""
        return Spans(self.documents, self.sources, self.firsts + by, self.tokens)


@dataclass(frozen=True)
class Spelling:
    """What is known of each id of a vocabulary, by id.

    Attributes:
        bytes: of text that the token stands for; 0 for special ones, int32 ``[ids]``.
        text: 1 for tokens of text, 0 for special ones, uint8 ``[ids]``.
    """

    bytes: NDArray[np.int32]
    text: NDArray[np.uint8]


@dataclass
class Tally:
    """What was counted so far.

    Attributes:
        counts: of each id outside padding, int64 ``[ids]``.
        learned: tokens that the loss mask lets a trainer learn, padding aside.
        masked: tokens that have a loss mask, padding aside.
        lengths: documents by their number of tokens.
        cut: documents that lie in several sequences.
        source_documents: int64 ``[sources]``, and so on.
        source_tokens: all of them.
        source_text_tokens: without the special ones.
        source_bytes: of text.
    """

    counts: NDArray[np.int64]
    source_documents: NDArray[np.int64]
    source_tokens: NDArray[np.int64]
    source_text_tokens: NDArray[np.int64]
    source_bytes: NDArray[np.int64]
    learned: int = 0
    masked: int = 0
    cut: int = 0
    lengths: Counter[int] = field(default_factory=Counter)

    @classmethod
    def empty(cls, ids: int, sources: int) -> "Tally":
        """Nothing, of so many ids and sources."""
        by_source = np.zeros((4, sources), np.int64)
        return cls(np.zeros(ids, np.int64), by_source[0], by_source[1], by_source[2], by_source[3])

    def add(
        self,
        tokens: NDArray[np.integer],
        loss_mask: NDArray[np.integer] | None,
        spans: Spans,
        spelling: Spelling,
    ) -> None:
        """Count some documents, with all of their spans.

        Args:
            tokens: in which they lie, all below the number of ids ``[tokens]``.
            loss_mask: of 0 and 1, as long as ``tokens``, or None.
            spans: within ``tokens``, without overlaps.
            spelling: of all ids.
        """
        self._count_documents(spans)
        for chunk in _chunks(spans):
            low, high = int(chunk.firsts[0]), int(chunk.firsts[-1] + chunk.tokens[-1])
            inside, mask = tokens[low:high], None if loss_mask is None else loss_mask[low:high]
            part = chunk.moved(-low)
            self._count_text(inside, part, spelling)
            if int(part.tokens.sum()) < high - low:
                its = covered(part, high - low)
                inside, mask = inside[its], None if mask is None else mask[its]
            self.counts += np.bincount(inside, minlength=len(self.counts))
            if mask is not None:
                self.learned += int(np.count_nonzero(mask))
                self.masked += len(mask)

    def _count_documents(self, spans: Spans) -> None:
        """Lengths and sources of documents, all of whose spans are here."""
        if not len(spans.documents):
            return
        within = spans.documents - spans.documents.min()
        pieces = np.bincount(within)
        there = pieces > 0
        tokens = np.bincount(within, weights=spans.tokens).astype(np.int64)
        lengths, documents = np.unique(tokens[there], return_counts=True)
        self.lengths.update(dict(zip(lengths.tolist(), documents.tolist(), strict=True)))
        self.cut += int(np.count_nonzero(pieces > 1))
        source_of = np.zeros(len(pieces), np.int64)
        source_of[within] = spans.sources
        sources = len(self.source_documents)
        self.source_documents += np.bincount(source_of[there], minlength=sources)
        self.source_tokens += _summed(spans.sources, spans.tokens, sources)

    def _count_text(self, inside: NDArray[np.integer], part: Spans, spelling: Spelling) -> None:
        """Text of each source; ``inside`` are the tokens up to the end of the last span."""
        edges = np.stack([part.firsts, part.firsts + part.tokens], axis=1).ravel()[:-1]
        sources = len(self.source_bytes)
        for table, total in (
            (spelling.bytes, self.source_bytes),
            (spelling.text, self.source_text_tokens),
        ):
            sums = np.add.reduceat(table.take(inside), edges, dtype=np.int64)[::2]
            total[:] += _summed(part.sources, sums, sources)


def _summed(groups: NDArray[np.int64], values: NDArray[np.int64], number: int) -> NDArray[np.int64]:
    """Sums of ``values`` by group; exact below 2**53."""
    return np.bincount(groups, weights=values, minlength=number).astype(np.int64)


def _chunks(spans: Spans) -> Iterator[Spans]:
    """Spans that have tokens, in parts that reach over about :data:`_CHUNK` tokens, or one longer span."""
    if not spans.tokens.all():
        some = spans.tokens > 0
        spans = Spans(spans.documents[some], spans.sources[some], spans.firsts[some], spans.tokens[some])
    begin, ends = 0, spans.firsts + spans.tokens
    while begin < len(ends):
        end = max(begin + 1, int(np.searchsorted(ends, spans.firsts[begin] + _CHUNK, side="right")))
        yield spans.part(begin, end)
        begin = end


def covered(spans: Spans, tokens: int) -> NDArray[np.bool_]:
    """Which of so many tokens a span covers; spans do not overlap."""
    steps = np.zeros(tokens + 1, np.int8)
    filled = spans.tokens > 0
    steps[spans.firsts[filled]] += 1
    steps[spans.firsts[filled] + spans.tokens[filled]] -= 1
    return np.cumsum(steps[:-1], dtype=np.int8).astype(np.bool_)
