"""What an output would take, from a sample of its inputs that is tokenized for real."""

import lzma
import math
import random
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from asynckit.errors import InputError
from asynckit.models.config import ModelConfig
from asynckit.tokenization.config import TokenizationConfig
from asynckit.tokenization.inputs.listing import list_sources
from asynckit.tokenization.inputs.names import ROW_FORMATS
from asynckit.tokenization.inputs.places import shown_name
from asynckit.tokenization.inputs.units import blocks_of, is_stream, units_of
from asynckit.tokenization.pool import available_cpus
from asynckit.tokenization.records import Source, Unit
from asynckit.tokenization.schedule import Item, weight_of
from asynckit.tokenization.tasks import AssembleShard, Job, TokenizeUnit, UnitNote, Worker

_ONE_IN = 100
_SMALLEST_PIECE = 16 << 10
_TIMED_BYTES = 4 << 20
_MOST_PIECES = 100 * _ONE_IN  # of one source
_FEWEST_PIECES = 30  # that an interval is worth something with
_SIGMAS = 1.96  # 95 %


@dataclass(frozen=True)
class Forecast:
    """What is to be expected.

    Attributes:
        inputs: how many there are.
        input_bytes: of all, decompressed; estimated where they are compressed.
        sampled_bytes: that were tokenized to find out.
        documents: estimated.
        tokens: estimated.
        tokens_low: lower end of the 95 % interval.
        tokens_high: upper end.
        seconds: with the workers of this machine, estimated.
        workers: how many these are.
        output_bytes: on the disk at the end, estimated.
        encoder: that would be used.
        skipped: records of the sample that could not be used.
    """

    inputs: int
    input_bytes: int
    sampled_bytes: int
    documents: int
    tokens: int
    tokens_low: int
    tokens_high: int
    seconds: float
    workers: int
    output_bytes: int
    encoder: str
    skipped: int

    def to_dict(self) -> dict[str, Any]:
        """As one JSON document."""
        return {"schema": "asynckit.tokenize-plan/1", **asdict(self)}


@dataclass(frozen=True, slots=True)
class _Piece:
    """A unit of the sample, and how many bytes of input it stands for."""

    item: Item
    stands_for: float


def forecast(inputs: Sequence[str], *, model: ModelConfig, config: TokenizationConfig) -> Forecast:
    """Tokenize one part in a hundred and extrapolate; nothing is left on the disk.

    Raises:
        AsynckitError: an input or a setting is wrong.
        InputError: the sample holds no document.
    """
    sources = tuple(list_sources(inputs, config))
    worker = Worker(Job(model, replace(config, on_error="skip", check_share=0.0), sources))
    workers = config.workers or available_cpus()
    _ = worker.layout  # what is loaded once is not what a unit takes
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        pieces = list(_pieces(sources, config, folder))
        parts = tuple(folder / f"{piece.item.number:08d}.part" for piece in pieces)
        notes = [
            worker.tokenize(TokenizeUnit(piece.item, path)) for piece, path in zip(pieces, parts, strict=True)
        ]
        if not any(note.tokens for note in notes):
            raise _no_document()
        record = worker.assemble(AssembleShard(0, parts, folder, worker.shard_settings, 0, 0))
        rate = _rate(worker, folder)
        written = sum(file.bytes for file in record.files)
    return _extrapolated(pieces, notes, written, rate, worker, workers)


def _no_document() -> InputError:
    return InputError(
        "the sample holds no document that could be used",
        where="INPUTS",
        mend="check --field and the inputs",
    )


def _extrapolated(
    pieces: list[_Piece],
    notes: list[UnitNote],
    written: int,
    rate: float,
    worker: Worker,
    workers: int,
) -> Forecast:
    weights = np.array([_used(piece, note, worker) for piece, note in zip(pieces, notes, strict=True)], float)
    tokens = np.array([note.tokens for note in notes], float)
    sampled, total = weights.sum(), sum(piece.stands_for for piece in pieces)
    scale = total / sampled
    # Standard error of a ratio estimator and the finite-population factor (Cochran, Sampling Techniques).
    spread = tokens - weights * tokens.sum() / sampled
    count = len(pieces)
    error = math.sqrt(max(1 - 1 / scale, 0.0) * count * spread.var(ddof=1)) * scale if count > 1 else 0.0
    estimate = tokens.sum() * scale
    return Forecast(
        inputs=len(worker.job.sources),
        input_bytes=round(total),
        sampled_bytes=int(sampled),
        documents=round(sum(note.documents for note in notes) * scale),
        tokens=round(estimate),
        tokens_low=max(round(estimate - _SIGMAS * error), 0),
        tokens_high=round(estimate + _SIGMAS * error),
        seconds=total / rate / workers,
        workers=workers,
        output_bytes=round(written * scale),
        encoder=worker.encoder.name,
        skipped=sum(len(note.skipped) for note in notes),
    )


def _rate(worker: Worker, folder: Path) -> float:
    """Bytes a second of one worker, from a unit of ordinary size at the beginning of the largest source."""
    sources = worker.job.sources
    index = max(range(len(sources)), key=lambda each: sources[each].bytes or 0)
    if is_stream(sources[index]):
        unit, content = next(blocks_of(sources[index], index, _TIMED_BYTES))
        path = folder / "timed.block"
        path.write_bytes(content)
        item = Item(0, 0, unit, len(content), path)
    else:
        unit = next(units_of(sources[index], index, _TIMED_BYTES))
        item = Item(0, 0, unit, weight_of(sources[index], unit))
    began = time.perf_counter()
    worker.tokenize(TokenizeUnit(item, folder / "timed.part"))
    return max(item.weight, 1) / (time.perf_counter() - began)


def _used(piece: _Piece, note: UnitNote, worker: Worker) -> int:
    """Bytes that became tokens: records begin in a unit and may end beyond it."""
    rows = worker.job.sources[note.source].format in ROW_FORMATS
    return piece.item.weight if rows else note.text_bytes + note.documents  # each with its line break


def _pieces(sources: tuple[Source, ...], config: TokenizationConfig, folder: Path) -> Iterator[_Piece]:
    """One unit in a hundred or fewer, evenly spaced from a seeded start; of a stream its first block."""
    candidates = list(_candidates(sources))
    step = max(min(_ONE_IN, len(candidates) // _FEWEST_PIECES), 1)
    offset = random.Random(0).randrange(step)  # noqa: S311 - no secret
    taken = candidates[offset::step]
    passed = sum(weight for _, weight in candidates)
    size = sum(weight for _, weight in taken)
    for number, (unit, weight) in enumerate(taken):
        stands_for = passed * weight / size
        source = sources[unit.source]
        if not is_stream(source):
            yield _Piece(Item(number, 0, unit, max(int(weight), 1)), stands_for)
            continue
        for first, content in islice(blocks_of(source, unit.source, config.unit_bytes), 1):
            path = folder / f"{number}.block"
            path.write_bytes(content)
            yield _Piece(Item(number, 0, first, len(content), path), stands_for * _expansion(source, content))


def _candidates(sources: tuple[Source, ...]) -> Iterator[tuple[Unit, float]]:
    for index, source in enumerate(sources):
        if source.bytes is None:
            raise InputError(
                "how much there is cannot be known beforehand",
                where=shown_name(source),
                mend="leave out --plan, or name files",
            )
        if is_stream(source):
            yield Unit(index, 0, source.bytes), float(source.bytes)
            continue
        piece = max(_SMALLEST_PIECE, source.bytes // _MOST_PIECES)
        for unit in units_of(source, index, piece):
            yield unit, float(weight_of(source, unit))


def _expansion(source: Source, content: bytes) -> float:
    """How much larger a stream is than its file, judged by compressing its first block again."""
    if not source.compression or not content:
        return 1.0
    if source.compression == "xz":
        return len(content) / len(lzma.compress(content, preset=1))
    import pyarrow as pa

    return len(content) / len(pa.compress(content, codec=source.compression, asbytes=True))
