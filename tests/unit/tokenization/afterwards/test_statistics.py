"""Counting by numpy gives what counting one by one does."""

from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from asynckit.tokenization.afterwards import statistics
from asynckit.tokenization.afterwards.statistics import Spans, Spelling, Tally

IDS, SOURCES = 11, 3
SPELLING = Spelling(np.arange(IDS, dtype=np.int32) % 4, np.array([0, *[1] * (IDS - 1)], np.uint8))


def a_shard(pieces: list[tuple[int, int, int]]) -> tuple[np.ndarray, np.ndarray, Spans]:
    """Tokens, mask and spans of (padding before, document, length)."""
    random = np.random.default_rng(len(pieces))
    firsts, at = [], 0
    for padding, _, length in pieces:
        firsts.append(at + padding)
        at += padding + length
    tokens = random.integers(0, IDS, at + 2).astype(np.uint16)
    documents = np.array([document for _, document, _ in pieces], np.int64)
    lengths = np.array([length for *_, length in pieces], np.int64)
    spans = Spans(documents, documents % SOURCES, np.array(firsts, np.int64), lengths)
    return tokens, random.integers(0, 2, at + 2).astype(np.uint8), spans


pieces = st.lists(st.tuples(st.integers(0, 2), st.integers(100, 110), st.integers(0, 9)), max_size=30)


@pytest.mark.parametrize("chunk", [1, 7, 1 << 20])
@given(pieces=pieces)
def test_a_shard_counted_in_chunks_is_the_shard_counted_one_by_one(
    chunk: int, pieces: list[tuple[int, int, int]]
) -> None:
    """Padding between documents, documents in several pieces and empty ones included."""
    tokens, mask, spans = a_shard(pieces)
    tally = Tally.empty(IDS, SOURCES)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(statistics, "_CHUNK", chunk)
        tally.add(tokens, mask, spans, SPELLING)
    inside = [
        (at, document % SOURCES)
        for document, first, length in zip(spans.documents, spans.firsts, spans.tokens, strict=True)
        for at in range(first, first + length)
    ]
    counted = Counter(int(tokens[at]) for at, _ in inside)
    assert tally.counts.tolist() == [counted[each] for each in range(IDS)]
    assert (tally.learned, tally.masked) == (sum(int(mask[at]) for at, _ in inside), len(inside))
    for source in range(SOURCES):
        its = [int(tokens[at]) for at, other in inside if other == source]
        assert tally.source_tokens[source] == len(its)
        assert tally.source_bytes[source] == sum(each % 4 for each in its)
        assert tally.source_text_tokens[source] == sum(each > 0 for each in its)


@given(pieces=pieces)
def test_documents_are_counted_once_however_many_pieces_they_are_in(
    pieces: list[tuple[int, int, int]],
) -> None:
    """Packing cuts long documents; their length is that of the whole."""
    tokens, _, spans = a_shard(pieces)
    tally = Tally.empty(IDS, SOURCES)
    tally.add(tokens, None, spans, SPELLING)
    whole: Counter[int] = Counter()
    times = Counter(document for _, document, _ in pieces)
    for _, document, length in pieces:
        whole[document] += length
    assert tally.lengths == Counter(whole.values())
    assert tally.cut == sum(count > 1 for count in times.values())
    assert tally.source_documents.tolist() == [
        sum(document % SOURCES == source for document in times) for source in range(SOURCES)
    ]
    assert tally.masked == 0


def test_shards_add_up() -> None:
    """A folder of several shards is counted as one."""
    tally = Tally.empty(IDS, SOURCES)
    one = a_shard([(0, 100, 3), (1, 101, 2)])
    for _ in range(2):
        tally.add(one[0], None, one[2], SPELLING)
    assert tally.lengths == Counter({3: 2, 2: 2})
    assert int(tally.counts.sum()) == 10
