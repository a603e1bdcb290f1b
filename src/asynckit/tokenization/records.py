"""What travels from the inputs to the layouts: sources, units of work, records with their places."""

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from asynckit.tokenization.arrays import Ragged


@dataclass(frozen=True, slots=True)
class Source:
    """One input.

    Attributes:
        name: path or URL as it is shown; ``-`` for standard input.
        format: jsonl, json, parquet, arrow, csv or text.
        compression: gzip, zstd, bz2, xz, or empty.
        bytes: as it is stored; None where nobody knows before the end.
        identity: of what can be seen without reading it all: size, time of change, sampled content.
        columns: of a CSV file, from its first line; empty for others.
        text_unit: what a document is in plain text: file, line or paragraph.
    """

    name: str
    format: str
    compression: str = ""
    bytes: int | None = None
    identity: str = ""
    columns: tuple[str, ...] = ()
    text_unit: str = "file"


@dataclass(frozen=True, slots=True)
class Unit:
    """What one worker does at a time: a range of one source.

    Attributes:
        source: index among the sources.
        start: first byte of the decompressed input, or first row of Parquet and Arrow.
        end: after the last one. A record belongs to the unit in which it begins.
        share: which of how many units of its source this is, where these are known beforehand, else (0, 0).
        lines_before: how many lines its source has before it, where that was read from the start; else -1.
    """

    source: int
    start: int
    end: int
    share: tuple[int, int] = (0, 0)
    lines_before: int = -1


@dataclass(frozen=True, slots=True)
class Skipped:
    """A record that cannot be used.

    Attributes:
        start: its first byte, or its row.
        line: its line in the unit, from 0; -1 where there are no lines.
        reason: what is wrong with it, without the place.
    """

    start: int
    line: int
    reason: str


@dataclass(frozen=True, slots=True)
class Records:
    """A batch of records.

    Attributes:
        columns: for each field that was asked for, the records' values ``[fields][records]``.
        starts: where each begins, int64 ``[records]``: byte of the decompressed input, or row.
        ends: after where each ends.
        lines: line in the unit, from 0, int64 ``[records]``; empty where there are no lines.
        skipped: what came between them and is broken.
    """

    columns: tuple[list[Any], ...]
    starts: NDArray[np.int64]
    ends: NDArray[np.int64]
    lines: NDArray[np.int64]
    skipped: list[Skipped] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class LaidOut:
    """Records as tokens, before packing.

    Attributes:
        tokens: of each record that could be laid out, with its special tokens, in order.
        loss_mask: uint8 ``[tokens]``, 1 where a trainer learns; None where it learns everywhere.
        kept: indices of those records in the batch, int64 ``[rows]``.
        refused: index and reason of the others.
        truncated_documents: records that ``max_length`` cut off.
        truncated_tokens: what was cut off them.
    """

    tokens: Ragged
    loss_mask: NDArray[np.uint8] | None
    kept: NDArray[np.int64]
    refused: list[tuple[int, str]]
    truncated_documents: int = 0
    truncated_tokens: int = 0


@dataclass(frozen=True, slots=True)
class Sequences:
    """What a unit becomes: sequences of tokens, one after another, and where they come from.

    A span is an unbroken stretch of one document in one sequence; what no span covers is padding.

    Attributes:
        tokens: uint32 ``[tokens]``.
        lengths: int64 ``[sequences]``, padding included; their sum is ``tokens``.
        loss_mask: uint8 ``[tokens]``, or None.
        span_documents: index of the document in the unit, int64 ``[spans]``.
        span_firsts: index of the first token in ``tokens``, int64 ``[spans]``, ascending.
        span_tokens: how many there are, int64 ``[spans]``.
        starts: where each document begins in its source, int64 ``[documents]``.
        ends: after where it ends, int64 ``[documents]``.
    """

    tokens: NDArray[np.uint32]
    lengths: NDArray[np.int64]
    loss_mask: NDArray[np.uint8] | None
    span_documents: NDArray[np.int64]
    span_firsts: NDArray[np.int64]
    span_tokens: NDArray[np.int64]
    starts: NDArray[np.int64]
    ends: NDArray[np.int64]
