"""What must hold of a shard's arrays. Each function yields what is wrong, and nothing where all is right."""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from asynckit.tokenization.afterwards.statistics import Spans, covered

_CHUNK = 1 << 22  # tokens


def id_problems(tokens: NDArray[np.integer], vocabulary: int) -> Iterator[str]:
    """Ids that the tokenizer does not have; the first of them is named.

    Args:
        tokens: of the shard.
        vocabulary: one more than the largest id.
    """
    wrong, first = 0, -1
    for begin in range(0, len(tokens), _CHUNK):
        part = tokens[begin : begin + _CHUNK]
        if int(part.max()) < vocabulary and int(part.min()) >= 0:
            continue
        places = np.flatnonzero((part >= vocabulary) | (part < 0))
        first = begin + int(places[0]) if first < 0 else first
        wrong += len(places)
    if wrong:
        yield (
            f"{wrong:,} tokens are no ids of the vocabulary of {vocabulary:,}, "
            f"the first is token {first:,} with id {int(tokens[first])}"
        )


def mask_problems(mask: NDArray[np.integer]) -> Iterator[str]:
    """Other values than 0 and 1 in a loss mask."""
    wrong = sum(
        int(np.count_nonzero(mask[begin : begin + _CHUNK] > 1)) for begin in range(0, len(mask), _CHUNK)
    )
    if wrong:
        yield f"the loss mask has {wrong:,} values that are neither 0 nor 1"


def span_problems(spans: Spans, tokens: int, documents: range, sources: int) -> Iterator[str]:
    """Spans that overlap, lie outside, or belong to documents or sources that are not the shard's.

    Args:
        spans: of the shard.
        tokens: how many the shard has.
        documents: numbers of the shard's documents.
        sources: how many inputs the manifest has.
    """
    if len(spans.tokens) and (spans.tokens.min() < 0 or spans.firsts.min() < 0):
        yield "some spans begin before the shard does, or have a negative length"
        return
    ends = spans.firsts + spans.tokens
    if len(ends) and int(ends.max()) > tokens:
        yield f"spans reach up to token {int(ends.max()):,} of {tokens:,}"
    overlapping = np.flatnonzero(ends[:-1] > spans.firsts[1:])
    if len(overlapping):
        at = int(overlapping[0])
        yield f"{len(overlapping):,} spans overlap, the first at token {int(spans.firsts[at + 1]):,}"
    strange = (spans.documents < documents.start) | (spans.documents >= documents.stop)
    if strange.any():
        yield (
            f"{int(np.count_nonzero(strange)):,} spans are of documents that the shard does not have, "
            f"such as {int(spans.documents[np.flatnonzero(strange)[0]]):,}"
        )
    if ((spans.sources < 0) | (spans.sources >= sources)).any():
        yield "some spans are of inputs that the manifest does not have"


def padding_problems(
    tokens: NDArray[np.integer], mask: NDArray[np.integer] | None, spans: Spans, pad: int | None
) -> Iterator[str]:
    """Tokens that belong to no document, but are not padding.

    Args:
        tokens: in which the spans are.
        mask: their loss mask, if there is one.
        spans: known to be in order and within the tokens.
        pad: the id of padding.
    """
    places = np.flatnonzero(~covered(spans, len(tokens)))
    wrong = places if pad is None else places[tokens[places] != pad]
    if len(wrong):
        at = int(wrong[0])
        yield (f"{len(wrong):,} tokens of no document are no padding, the first has id {int(tokens[at])}")
    if mask is not None and np.any(mask[places]):
        yield "a trainer would learn padding: its loss mask is not 0"


def length_problems(
    lengths: NDArray[np.integer], tokens: int, sequences: int, pack_length: int | None
) -> Iterator[str]:
    """Sequences that do not add up to the shard's tokens, or are not of the packed length."""
    if len(lengths) != sequences:
        yield f"there are {len(lengths):,} sequences, where the manifest counts {sequences:,}"
    if len(lengths) and int(lengths.min()) < 0:
        yield "some sequences have a negative length"
    total = int(lengths.sum(dtype=np.int64))
    if total != tokens:
        yield f"the sequences have {total:,} tokens, where the shard has {tokens:,}"
    if pack_length is not None and len(lengths) and not bool(np.all(lengths == pack_length)):
        yield f"some sequences are not of {pack_length:,} tokens"
