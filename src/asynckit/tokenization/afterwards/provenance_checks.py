"""Whether every token of a shard but padding comes from exactly one place of one document."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from asynckit.tokenization.afterwards.counting import source_numbers, spans_of
from asynckit.tokenization.afterwards.shard_checks import padding_problems, span_problems
from asynckit.tokenization.afterwards.statistics import Spans
from asynckit.tokenization.outputs.dataset import TokenDataset
from asynckit.tokenization.outputs.stored_shards import StoredShard

_NONE = np.empty(0, np.int64)
_NO_SPANS = Spans(_NONE, _NONE, _NONE, _NONE)


@dataclass
class Covered:
    """What all shards together have.

    Attributes:
        documents: with a place in some shard, by input, int64 ``[inputs]``.
        tokens: of these, by input, int64 ``[inputs]``.
        shards: how many shards went in.
        unplaced: documents without a place, which packing leaves of those that have no tokens.
    """

    documents: NDArray[np.int64]
    tokens: NDArray[np.int64]
    shards: int = 0
    unplaced: int = 0

    @classmethod
    def nothing(cls, inputs: int) -> "Covered":
        """Before the first shard."""
        return cls(np.zeros(inputs, np.int64), np.zeros(inputs, np.int64))


def provenance_problems(dataset: TokenDataset, shard: StoredShard, covered: Covered) -> Iterator[str]:
    """Go through a shard's provenance in its order, which is that of the tokens.

    Args:
        dataset: that the shard belongs to.
        shard: whose tokens are ids of the vocabulary.
        covered: gets what the shard has.

    Raises:
        InputError: a file can't be read.
    """
    record, sources = shard.record, source_numbers(dataset)
    documents = range(record.first_document, record.first_document + record.documents)
    seen = np.zeros(record.documents, np.bool_)
    begin = filled = 0
    for stretches in shard.provenance.groups():
        spans = spans_of(stretches, sources)
        problems = list(span_problems(spans, record.tokens, documents, len(sources)))
        if len(spans.firsts) and int(spans.firsts[0]) < begin:
            problems.append(f"spans overlap at token {int(spans.firsts[0]):,}")
        yield from problems
        if problems:
            return  # what follows would count from wrong places
        if bool(np.any(stretches.starts > stretches.ends)):
            yield "some documents end in their input before they begin"
        end = int((spans.firsts + spans.tokens).max(initial=begin))
        yield from _gaps(dataset, shard, spans, begin, end)
        _add(covered, spans, seen, record.first_document)
        begin, filled = end, filled + int(spans.tokens.sum())
    yield from _gaps(dataset, shard, _NO_SPANS, begin, record.tokens)
    covered.shards += 1
    if record.tokens - filled != record.padding:
        yield (
            f"{record.tokens - filled:,} tokens come from no document, "
            f"where the manifest counts {record.padding:,} of padding"
        )
    unplaced = int(np.count_nonzero(~seen))
    covered.unplaced += unplaced
    if unplaced and dataset.manifest.pack_length is None:
        yield f"{unplaced:,} documents have no place in the shard"


def _gaps(dataset: TokenDataset, shard: StoredShard, spans: Spans, begin: int, end: int) -> Iterator[str]:
    """What is wrong with the tokens between spans that follow token ``begin``."""
    if int(spans.tokens.sum()) == end - begin:
        return
    tokenizer = dataset.manifest.tokenizer
    pad = tokenizer.eos if tokenizer.pad is None else tokenizer.pad
    mask = None if shard.loss_mask is None else shard.loss_mask.read(begin, end)
    yield from padding_problems(shard.tokens.read(begin, end), mask, spans.moved(-begin), pad)


def _add(covered: Covered, spans: Spans, seen: NDArray[np.bool_], first_document: int) -> None:
    """Count documents where their first piece is; all of a document's are in one row group."""
    numbers, firsts = np.unique(spans.documents - first_document, return_index=True)
    fresh = ~seen[numbers]
    seen[numbers] = True
    inputs = len(covered.tokens)
    covered.documents += np.bincount(spans.sources[firsts][fresh], minlength=inputs)
    covered.tokens += np.bincount(spans.sources, weights=spans.tokens, minlength=inputs).astype(np.int64)
