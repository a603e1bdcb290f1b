"""What an output would take, from a sample of its inputs that is tokenized for real."""

import lzma
import math
import random
import tempfile
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

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
        there = {note.source for note in notes if note.tokens}
        if not there:
            raise _no_document()
        record = worker.assemble(AssembleShard(0, parts, folder, worker.shard_settings, 0, 0))
        rate = _rate(worker, there, folder)
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
    stands_for = np.array([piece.stands_for for piece in pieces])
    tokens = np.array([note.tokens for note in notes], float)
    documents = np.array([note.documents for note in notes], float)
    from_streams = np.array([is_stream(worker.job.sources[note.source]) for note in notes])
    strata = [which for which in (from_streams, ~from_streams) if which.any()]
    totals = [stands_for[which].sum() for which in strata]
    found = [
        _ratio_estimate(tokens[which], weights[which], total)
        for which, total in zip(strata, totals, strict=True)
    ]
    estimate = sum(mean for mean, _ in found)
    error = math.hypot(*(deviation for _, deviation in found))
    return Forecast(
        inputs=len(worker.job.sources),
        input_bytes=round(sum(totals)),
        sampled_bytes=int(weights.sum()),
        documents=round(
            sum(
                _ratio_estimate(documents[which], weights[which], total)[0]
                for which, total in zip(strata, totals, strict=True)
            )
        ),
        tokens=round(estimate),
        tokens_low=max(round(estimate - _SIGMAS * error), 0),
        tokens_high=round(estimate + _SIGMAS * error),
        seconds=sum(totals) / rate / workers,
        workers=workers,
        output_bytes=round(written * estimate / tokens.sum()),
        encoder=worker.encoder.name,
        skipped=sum(len(note.skipped) for note in notes),
    )


def _ratio_estimate(
    counts: NDArray[np.float64], weights: NDArray[np.float64], total: float
) -> tuple[float, float]:
    """What ``total`` bytes hold, and its standard error with the finite-population factor.

    A ratio estimator (Cochran, Sampling Techniques); one piece alone tells of no error.

    Args:
        counts: in each piece of the sample ``[pieces]``.
        weights: bytes of each ``[pieces]``.
        total: bytes of all that the sample stands for.
    """
    sampled, pieces = weights.sum(), len(weights)
    if not sampled:
        return 0.0, 0.0
    scale = total / sampled
    spread = counts - weights * counts.sum() / sampled
    variance = max(1 - 1 / scale, 0.0) * pieces * spread.var(ddof=1) if pieces > 1 else 0.0
    return float(counts.sum() * scale), math.sqrt(variance) * scale


def _rate(worker: Worker, there: Iterable[int], folder: Path) -> float:
    """Bytes a second of one worker, from a unit of ordinary size at the beginning of the largest source.

    Args:
        worker: to be timed.
        there: indices of the sources that have text.
        folder: for a block and a part.
    """
    sources = worker.job.sources
    index = max(there, key=lambda each: sources[each].bytes or 0)
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
    """One unit in a hundred or more, evenly spaced from a seeded start; of a stream its first block.

    Streams are drawn apart: how much they hold is known only of those that are drawn.
    """
    candidates = list(_candidates(sources))
    streams = [each for each in candidates if is_stream(sources[each[0].source])]
    ranges = [each for each in candidates if not is_stream(sources[each[0].source])]
    drawn = [*_drawn(ranges), *_drawn(streams)]
    for number, (unit, stored) in enumerate(drawn):
        source = sources[unit.source]
        if not is_stream(source):
            weight = max(weight_of(source, unit), 1)
            yield _Piece(Item(number, 0, unit, weight), stored)
            continue
        for first, content in islice(blocks_of(source, unit.source, config.unit_bytes), 1):
            path = folder / f"{number}.block"
            path.write_bytes(content)
            yield _Piece(Item(number, 0, first, len(content), path), stored * _expansion(source, content))


def _drawn(candidates: list[tuple[Unit, float]]) -> list[tuple[Unit, float]]:
    """Some of the units, and the stored bytes that each of them stands for."""
    if not candidates:
        return []
    step = max(min(_ONE_IN, len(candidates) // _FEWEST_PIECES), 1)
    offset = random.Random(0).randrange(step)  # noqa: S311 - no secret
    taken = candidates[offset::step]
    share = sum(weight for _, weight in taken) / max(sum(weight for _, weight in candidates), 1.0)
    return [(unit, weight / share if share else 0.0) for unit, weight in taken]


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
