"""From documents to the sequences that a trainer reads."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import DTypeLike, NDArray

from asynckit.tokenization.arrays import ranges
from asynckit.tokenization.config import TokenizationConfig
from asynckit.tokenization.layouts.first_fit import first_fit_decreasing
from asynckit.tokenization.records import LaidOut, Sequences

_COPIED_AT_ONCE = 1 << 18
_WORTH_A_CALL = 512


class Pieces(NamedTuple):
    """Unbroken stretches of documents and where they go, in the order in which they come out.

    Attributes:
        documents: index of each piece's document, int64 ``[pieces]``.
        firsts: where it begins in the documents' tokens.
        targets: where it begins in the sequences' tokens, ascending.
        lengths: how many tokens it has.
    """

    documents: NDArray[np.int64]
    firsts: NDArray[np.int64]
    targets: NDArray[np.int64]
    lengths: NDArray[np.int64]


def pack(
    laid_out: Sequence[LaidOut],
    starts: NDArray[np.int64],
    ends: NDArray[np.int64],
    config: TokenizationConfig,
    padding: int,
) -> Sequences:
    """The sequences of one unit.

    Without ``pack_length`` each document is a sequence. With it, all sequences are that long, what is left is
    filled with ``padding``, and there is a loss mask, 0 on what was filled. The pieces of a document come in
    order, whichever way it was cut.

    Args:
        laid_out: its batches, in order.
        starts: where each document that was kept begins in its source, int64 ``[documents]``.
        ends: after where each ends.
        config: ``pack_length`` and ``packing`` decide.
        padding: id that fills what is left of a packed sequence.
    """
    tokens = _joined([batch.tokens.values for batch in laid_out], np.uint32)
    lengths = _joined([batch.tokens.lengths() for batch in laid_out], np.int64)
    masks = [batch.loss_mask for batch in laid_out if batch.loss_mask is not None]
    mask = _joined(masks, np.uint8) if masks or config.mode != "documents" else None
    if config.pack_length is None:
        firsts = np.cumsum(lengths) - lengths
        return Sequences(tokens, lengths, mask, np.arange(len(lengths)), firsts, lengths, starts, ends)
    cut = first_fit_pieces if config.packing == "first_fit" else concatenated_pieces
    pieces = cut(lengths, config.pack_length)
    count = _sequences(pieces, config.pack_length)
    packed = np.full(count * config.pack_length, padding, dtype=np.uint32)
    packed_mask = np.zeros(len(packed), dtype=np.uint8)
    copy_pieces(tokens, packed, pieces)
    copy_pieces(np.ones(len(tokens), dtype=np.uint8) if mask is None else mask, packed_mask, pieces)
    sizes = np.full(count, config.pack_length, dtype=np.int64)
    return Sequences(
        packed, sizes, packed_mask, pieces.documents, pieces.targets, pieces.lengths, starts, ends
    )


def concatenated_pieces(lengths: NDArray[np.int64], pack_length: int) -> Pieces:
    """Documents one after another, cut every ``pack_length`` tokens."""
    total = int(lengths.sum())
    documents = np.flatnonzero(lengths)
    begins = (np.cumsum(lengths) - lengths)[documents]
    firsts = np.union1d(begins, np.arange(0, total, pack_length))
    of = documents[np.searchsorted(begins, firsts, side="right") - 1]
    return Pieces(of, firsts, firsts, np.diff(firsts, append=total))


def first_fit_pieces(lengths: NDArray[np.int64], pack_length: int) -> Pieces:
    """Whole documents where they fit; longer ones fill sequences of their own, and rests are packed too.

    A sequence comes where its first document does, but after all earlier pieces of the documents in it.
    """
    full = lengths // pack_length
    rested = np.flatnonzero(lengths % pack_length)
    bins = first_fit_decreasing((lengths % pack_length)[rested], pack_length)
    documents = np.concatenate([np.repeat(np.arange(len(lengths)), full), rested])
    pieces_before = np.concatenate([_counted(full), full[rested]])
    sequences = _in_order(full, rested, bins)
    order = np.lexsort((documents, sequences))
    documents, sequences, before = documents[order], sequences[order], pieces_before[order]
    begins = np.cumsum(lengths) - lengths
    firsts = begins[documents] + before * pack_length
    sizes = np.minimum(lengths[documents] - before * pack_length, pack_length)
    placed = np.cumsum(sizes) - sizes
    is_first = np.diff(sequences, prepend=-1) > 0
    in_sequence = placed - placed[is_first][sequences]
    return Pieces(documents, firsts, sequences * pack_length + in_sequence, sizes)


def _in_order(
    full: NDArray[np.int64], rested: NDArray[np.int64], bins: NDArray[np.int64]
) -> NDArray[np.int64]:
    """The final sequence of each full piece, then of each rest."""
    count = int(bins.max()) + 1 if len(bins) else 0
    first = np.full(count, len(full), dtype=np.int64)
    np.minimum.at(first, bins, rested)
    is_long = full[rested] > 0
    last_long = np.full(count, -1, dtype=np.int64)
    np.maximum.at(last_long, bins[is_long], rested[is_long])
    leader = np.where(last_long >= 0, last_long, first)
    major = np.concatenate([np.repeat(np.arange(len(full)), full), leader])
    minor = np.concatenate([_counted(full), full[leader]])
    rank = np.empty(len(major), dtype=np.int64)
    rank[np.lexsort((minor, major))] = np.arange(len(major))
    alone = len(major) - count
    return np.concatenate([rank[:alone], rank[alone:][bins]])


def copy_pieces(source: NDArray[Any], target: NDArray[Any], pieces: Pieces) -> None:
    """Copy each piece to its place; long ones one by one, short ones many at a time."""
    if len(pieces.lengths) == 0:
        return
    if pieces.lengths.mean() >= _WORTH_A_CALL:
        triples = zip(*(part.tolist() for part in pieces[1:]), strict=True)
        for first, to, length in triples:
            target[to : to + length] = source[first : first + length]
        return
    passed = np.cumsum(pieces.lengths)
    cuts = np.searchsorted(passed, np.arange(_COPIED_AT_ONCE, passed[-1], _COPIED_AT_ONCE)).tolist()
    for start, stop in zip([0, *cuts], [*cuts, len(passed)], strict=True):
        lengths = pieces.lengths[start:stop]
        to, at = ranges(pieces.targets[start:stop], lengths), ranges(pieces.firsts[start:stop], lengths)
        target[to] = source[at]


def _sequences(pieces: Pieces, pack_length: int) -> int:
    """How many sequences the pieces fill or begin."""
    return int(pieces.targets[-1]) // pack_length + 1 if len(pieces.targets) else 0


def _counted(counts: NDArray[np.int64]) -> NDArray[np.int64]:
    """0, 1, … up to each count: ``[2, 3]`` gives ``[0, 1, 0, 1, 2]``."""
    return ranges(np.zeros_like(counts), counts)


def _joined(parts: Sequence[NDArray[Any]], dtype: DTypeLike) -> NDArray[Any]:
    if len(parts) == 1:
        return parts[0]
    return np.concatenate(parts) if parts else np.empty(0, dtype)
