"""Sequences as the layouts make them, and output folders with every kind of them."""

import resource
import signal
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from asynckit.tokenization.outputs.manifest import (
    EncoderRecord,
    InputRecord,
    Manifest,
    ShardRecord,
    TokenizerRecord,
    Totals,
    write_manifest,
)
from asynckit.tokenization.outputs.parts import write_part
from asynckit.tokenization.outputs.shards import ShardSettings, write_shard
from asynckit.tokenization.records import Sequences

Documents = Sequence[Sequence[int]]


@contextmanager
def largest_file(size: int) -> Iterator[None]:
    """The disk refuses to let a file grow beyond ``size`` bytes, as a full one would."""
    before = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        signal.signal(signal.SIGXFSZ, before)


def unpacked(documents: Documents, *, loss_mask: bool = False) -> Sequences:
    """One sequence per document; document ``i`` comes from bytes ``[10 i, 10 i + 9)``."""
    tokens = np.array([token for document in documents for token in document], np.uint32)
    lengths = np.array([len(document) for document in documents], np.int64)
    order = np.arange(len(documents))
    return Sequences(
        tokens=tokens,
        lengths=lengths,
        loss_mask=(tokens % 2).astype(np.uint8) if loss_mask else None,
        span_documents=order,
        span_firsts=np.cumsum(lengths) - lengths,
        span_tokens=lengths,
        starts=10 * order,
        ends=10 * order + 9,
    )


def packed(documents: Documents, length: int, *, loss_mask: bool = False) -> Sequences:
    """Documents one after another in sequences of ``length``; those that do not fit begin a new one.

    The padding is token 0, and longer documents are cut.
    """
    tokens: list[int] = []
    spans: list[tuple[int, int, int]] = []
    for number, document in enumerate(documents):
        if len(tokens) % length + len(document) > length:
            tokens += [0] * (-len(tokens) % length)
        for begin in range(0, len(document), length):
            piece = document[begin : begin + length]
            spans.append((number, len(tokens), len(piece)))
            tokens += piece
    tokens += [0] * (-len(tokens) % length)
    columns = np.array(spans, np.int64).reshape(-1, 3).T
    ids = np.array(tokens, np.uint32)
    order = np.arange(len(documents))
    return Sequences(
        tokens=ids,
        lengths=np.full(len(ids) // length, length, np.int64),
        loss_mask=(ids % 2).astype(np.uint8) if loss_mask else None,
        span_documents=columns[0],
        span_firsts=columns[1],
        span_tokens=columns[2],
        starts=10 * order,
        ends=10 * order + 9,
    )


def write_parts(folder: Path, units: Sequence[Documents], settings: ShardSettings) -> list[Path]:
    """A part for each unit; they take turns among the sources."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for number, documents in enumerate(units):
        sequences = (
            unpacked(documents, loss_mask=settings.loss_mask)
            if settings.pack_length is None
            else packed(documents, settings.pack_length, loss_mask=settings.loss_mask)
        )
        path = folder / f"unit-{number}.part"
        source = number % len(settings.sources)
        write_part(path, sequences, {"unit": number}, source=source, dtype=settings.dtype)
        paths.append(path)
    return paths


def write_output(folder: Path, shards: Sequence[Sequence[Documents]], settings: ShardSettings) -> Manifest:
    """An output folder: shards of units of documents, and their manifest."""
    records: list[ShardRecord] = []
    document = token = 0
    for number, units in enumerate(shards):
        parts = write_parts(folder / ".work" / str(number), units, settings)
        records.append(write_shard(folder, number, parts, settings, document, token))
        document += records[-1].documents
        token += records[-1].tokens
    manifest = manifest_of(records, settings)
    write_manifest(folder, manifest)
    return manifest


def manifest_of(shards: Sequence[ShardRecord], settings: ShardSettings) -> Manifest:
    """A manifest of these shards, and of inputs that were never there."""
    return Manifest(
        asynckit="0",
        format=settings.format,
        dtype=settings.dtype.name,
        pack_length=settings.pack_length,
        loss_mask=settings.loss_mask,
        tokenizer=TokenizerRecord("made", "digest", settings.vocabulary, eos=0, pad=0),
        options={"format": settings.format},
        options_digest="digest",
        encoder=EncoderRecord("tokenizers", "0", 0, 0, 0.0),
        totals=Totals(
            documents=sum(shard.documents for shard in shards),
            tokens=sum(shard.tokens for shard in shards),
            sequences=sum(shard.sequences for shard in shards),
            padding=sum(shard.padding for shard in shards),
        ),
        inputs=tuple(InputRecord(name, "jsonl", "", 0, "", 0, 0, 0) for name in settings.sources),
        shards=tuple(shards),
    )
