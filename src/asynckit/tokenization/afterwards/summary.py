"""What ``asynckit tokens stats`` says: sums, shares and ratios made from what was counted."""

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from asynckit.tokenization.afterwards.lengths import Lengths, summarize
from asynckit.tokenization.outputs.manifest import Manifest

if TYPE_CHECKING:
    from asynckit.tokenization.afterwards.statistics import Tally
    from asynckit.tokenization.afterwards.vocabulary import Vocabulary

SCHEMA = "asynckit.tokens-statistics/1"


@dataclass(frozen=True)
class SourceCounts:
    """What came from one input.

    Attributes:
        name: of the input.
        documents: that were written.
        tokens: of these, special ones included.
        skipped: records that could not be used.
        text_tokens: without the special ones.
        text_bytes: UTF-8 that they spell.
        tokens_per_byte: of text; None where there is none.
    """

    name: str
    documents: int
    tokens: int
    skipped: int
    text_tokens: int
    text_bytes: int
    tokens_per_byte: float | None


@dataclass(frozen=True)
class TopToken:
    """A frequent token; ``token`` is as :meth:`~.vocabulary.Vocabulary.written` has it."""

    id: int
    token: str
    special: bool
    count: int
    share: float


@dataclass(frozen=True)
class Packing:
    """How well sequences are filled.

    Attributes:
        length: of every sequence.
        sequences: how many there are.
        padding: tokens that belong to no document.
        efficiency: share of the tokens that belong to one.
        cut_documents: that lie in several sequences.
    """

    length: int
    sequences: int
    padding: int
    efficiency: float
    cut_documents: int


@dataclass(frozen=True)
class Summary:
    """Everything about a folder. Shares are of the tokens outside padding.

    Attributes:
        folder: of the shards.
        tokenizer: its name.
        documents: how many there are.
        tokens: without padding.
        shards: how many there are.
        distinct: ids that occur.
        vocabulary: ids that could.
        text_bytes: UTF-8 that the tokens spell.
        tokens_per_byte: of text, without the special tokens.
        special: share of special tokens.
        unknown: share of the token for text that the model lacks; None where it lacks none.
        bytes: share of tokens of bytes instead of characters: byte fallback, or parts of characters.
        learned: share that the loss mask lets a trainer learn; None where there is no mask.
        truncated_documents: that ``max_length`` cut off.
        truncated_tokens: what was cut off them.
        skipped: records that could not be used.
        lengths: of the documents.
        packing: None where documents are not packed.
        sources: the inputs, in their order.
        top: the most frequent tokens.
    """

    folder: Path
    tokenizer: str
    documents: int
    tokens: int
    shards: int
    distinct: int
    vocabulary: int
    text_bytes: int
    tokens_per_byte: float | None
    special: float
    unknown: float | None
    bytes: float
    learned: float | None
    truncated_documents: int
    truncated_tokens: int
    skipped: int
    lengths: Lengths
    packing: Packing | None
    sources: list[SourceCounts]
    top: list[TopToken]

    def to_dict(self) -> dict[str, Any]:
        """JSON-able, with the schema's name."""
        return {"schema": SCHEMA, **asdict(self), "folder": str(self.folder)}


def summarize_tally(
    folder: Path, manifest: Manifest, tally: "Tally", vocabulary: "Vocabulary", top: int
) -> Summary:
    """Sum up what was counted in all shards of a folder.

    Args:
        folder: of the shards.
        manifest: of the folder.
        tally: of all its shards.
        vocabulary: that made it.
        top: how many of the most frequent tokens to name.
    """
    totals = manifest.totals
    tokens = int(tally.counts.sum())
    counted = tally.lengths.copy()
    counted[0] += totals.documents - counted.total()  # those without tokens need not have spans
    text_tokens, text_bytes = int(tally.source_text_tokens.sum()), int(tally.source_bytes.sum())
    return Summary(
        folder=folder,
        tokenizer=manifest.tokenizer.name,
        documents=totals.documents,
        tokens=tokens,
        shards=len(manifest.shards),
        distinct=int(np.count_nonzero(tally.counts)),
        vocabulary=manifest.tokenizer.vocabulary,
        text_bytes=text_bytes,
        tokens_per_byte=_ratio(text_tokens, text_bytes),
        special=_share(tally, vocabulary.special),
        unknown=None if vocabulary.unknown is None else _share(tally, {vocabulary.unknown}),
        bytes=_share(tally, vocabulary.byte_ids()),
        learned=_ratio(tally.learned, tally.masked),
        truncated_documents=totals.truncated_documents,
        truncated_tokens=totals.truncated_tokens,
        skipped=totals.skipped,
        lengths=summarize(+counted),
        packing=_packing(manifest, tally),
        sources=_sources(manifest, tally),
        top=_top(tally, vocabulary, top),
    )


def _sources(manifest: Manifest, tally: "Tally") -> list[SourceCounts]:
    return [
        SourceCounts(
            name=each.name,
            documents=int(tally.source_documents[number]),
            tokens=int(tally.source_tokens[number]),
            skipped=each.skipped,
            text_tokens=int(tally.source_text_tokens[number]),
            text_bytes=int(tally.source_bytes[number]),
            tokens_per_byte=_ratio(int(tally.source_text_tokens[number]), int(tally.source_bytes[number])),
        )
        for number, each in enumerate(manifest.inputs)
    ]


def _packing(manifest: Manifest, tally: "Tally") -> Packing | None:
    if manifest.pack_length is None:
        return None
    tokens = int(tally.counts.sum())
    whole = sum(shard.tokens for shard in manifest.shards)
    efficiency = tokens / whole if whole else 1.0
    return Packing(manifest.pack_length, manifest.totals.sequences, whole - tokens, efficiency, tally.cut)


def _top(tally: "Tally", vocabulary: "Vocabulary", most: int) -> list[TopToken]:
    """The most frequent, and of equally frequent ones the lowest ids."""
    ids = np.argsort(-tally.counts, kind="stable")[:most]
    total = int(tally.counts.sum())
    return [
        TopToken(
            id_,
            vocabulary.written(id_),
            id_ in vocabulary.special,
            int(tally.counts[id_]),
            int(tally.counts[id_]) / total,
        )
        for id_ in ids.tolist()
        if tally.counts[id_]
    ]


def _share(tally: "Tally", ids: frozenset[int] | set[int]) -> float:
    known = [id_ for id_ in ids if id_ < len(tally.counts)]
    return _ratio(int(tally.counts[known].sum()), int(tally.counts.sum())) or 0.0


def _ratio(part: int, whole: int) -> float | None:
    return part / whole if whole else None
