"""``asynckit tokenize`` from its inputs to its manifest."""

import contextlib
import dataclasses
import hashlib
import json
import logging
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from asynckit.cluster.config import RayConfig
from asynckit.errors import EncoderMismatch, InputError, Interrupted, UsageError
from asynckit.interrupts import sigterm_as_interrupt
from asynckit.models.config import ModelConfig
from asynckit.tokenization.closing import close_output
from asynckit.tokenization.config import TokenizationConfig
from asynckit.tokenization.inputs.faults import BrokenSource
from asynckit.tokenization.inputs.listing import list_sources
from asynckit.tokenization.inputs.names import STANDARD_INPUT, is_url
from asynckit.tokenization.inputs.places import shown_name
from asynckit.tokenization.inputs.units import blocks_of
from asynckit.tokenization.journal import SCHEMA, Journal
from asynckit.tokenization.outputs.manifest import Manifest, TokenizerRecord, read_manifest
from asynckit.tokenization.pipeline import Pipeline, Pool
from asynckit.tokenization.pool import LocalPool, available_cpus
from asynckit.tokenization.progress import TokenizingProgress
from asynckit.tokenization.records import Source
from asynckit.tokenization.schedule import total_weight
from asynckit.tokenization.streams import Items
from asynckit.tokenization.tasks import Job, Worker

_CHECKED_BYTES = 1 << 20  # that the reference encodes at least, where there are so many
_logger = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True)
class Summary:
    """What came of it.

    Attributes:
        out: the folder.
        manifest: what is in it.
        seconds: that this took; None for an output that was complete before.
        bytes: of input that were read now.
        tokens: that were made now.
    """

    out: Path
    manifest: Manifest
    seconds: float | None
    bytes: int
    tokens: int

    def to_dict(self) -> dict[str, Any]:
        """As one JSON document: the manifest's totals and what this run did."""
        totals = self.manifest.totals
        return {
            "schema": "asynckit.tokenize/1",
            "out": str(self.out),
            "complete_before": self.seconds is None,
            "format": self.manifest.format,
            **{name: getattr(totals, name) for name in totals.__struct_fields__},
            "shards": len(self.manifest.shards),
            "encoder": {
                name: getattr(self.manifest.encoder, name) for name in self.manifest.encoder.__struct_fields__
            },
            "seconds": self.seconds,
            "bytes_read": self.bytes,
            "tokens_written": self.tokens,
        }


def tokenize(
    inputs: Sequence[str],
    *,
    model: ModelConfig,
    config: TokenizationConfig,
    ray: RayConfig,
    options: Mapping[str, Any],
    overwrite: bool,
    quiet: bool,
) -> Summary:
    """Make an output, or go on with one that was cut off.

    Args:
        inputs: files, folders, patterns, URLs, or ``-``.
        model: whose tokenizer it is.
        config: the settings.
        ray: how to reach Ray, with ``config.ray``.
        options: the settings that decide what is written, by name.
        overwrite: whether an earlier output in ``config.out`` may be deleted.
        quiet: show no progress.

    Raises:
        AsynckitError: an input or a setting is wrong, or the work failed; what was finished is kept.
    """
    folder = output_folder(config)
    sources = _sources(inputs, config, folder)
    worker = Worker(Job(model, _checked_enough(config, sources), sources))
    tokenizer = worker.tokenizer_record
    with Journal.open(folder, _plan(sources, tokenizer, options), overwrite=overwrite) as journal:
        if journal.complete:
            manifest = read_manifest(folder)
            _refuse_another_standard_input(sources, manifest, config)
            return Summary(folder, manifest, None, 0, 0)
        with sigterm_as_interrupt():
            try:
                worker, progress = _make(worker, journal, ray, quiet=quiet)
            except KeyboardInterrupt:
                raise Interrupted(
                    "stopped; what was finished is kept", mend="run the same command again to go on"
                ) from None
        # Standard input is at its end: there is nothing to look at again.
        again = [name for name in inputs if name != STANDARD_INPUT]
        _refuse_changed(sources, _sources(again, config, folder) if again else ())
        manifest = close_output(journal, sources, worker, tokenizer, options)
    return Summary(folder, manifest, progress.seconds, progress.worked_bytes, progress.worked_tokens)


def output_folder(config: TokenizationConfig) -> Path:
    """Where the output goes.

    Raises:
        UsageError: nobody said.
    """
    if not config.out:
        raise UsageError("nobody said where the shards go", where="--out", mend="name a folder: --out DIR")
    return Path(config.out).expanduser().absolute()


def _checked_enough(config: TokenizationConfig, sources: tuple[Source, ...]) -> TokenizationConfig:
    """The settings with a share of checked documents that says something for small inputs, too."""
    total = total_weight(sources)
    if not config.check_share or not total:
        return config
    return dataclasses.replace(config, check_share=min(max(config.check_share, _CHECKED_BYTES / total), 1.0))


def _plan(
    sources: tuple[Source, ...], tokenizer: TokenizerRecord, options: Mapping[str, Any]
) -> dict[str, Any]:
    plan = {
        "schema": SCHEMA,
        "options": dict(options),
        "tokenizer": {"name": tokenizer.name, "digest": tokenizer.digest},
        "inputs": [{**dataclasses.asdict(each), "name": shown_name(each)} for each in sources],
    }
    as_read: dict[str, Any] = json.loads(json.dumps(plan))  # with lists for tuples
    return as_read


def _make(
    worker: Worker, journal: Journal, ray: RayConfig, *, quiet: bool
) -> tuple[Worker, TokenizingProgress]:
    """Make all shards, with another encoder from the beginning wherever one turns out to be wrong."""
    job = worker.job
    avoid = journal.avoided
    while True:
        if avoid:
            worker = Worker(dataclasses.replace(job, avoid=avoid))
        name = worker.encoder.name
        journal.begin_encoder(f"{name} {worker.encoder.version}", avoid)
        progress = TokenizingProgress(total_weight(job.sources), quiet=quiet)
        try:
            _run(worker, journal, progress, ray)
        except EncoderMismatch as error:
            if job.config.encoder != "auto":
                raise
            _logger.warning(
                "%s differs from the reference, so all of it is done again without it: %s", name, error
            )
            avoid |= {name}
            if any(source.name == STANDARD_INPUT for source in job.sources):
                raise _needed_again(name, job, journal, avoid) from error
            continue
        return worker, progress


def _needed_again(name: str, job: Job, journal: Journal, avoid: frozenset[str]) -> EncoderMismatch:
    """That standard input, which is partly read, has to come once more; the next run avoids the encoder."""
    worker = Worker(dataclasses.replace(job, avoid=avoid))
    journal.begin_encoder(f"{worker.encoder.name} {worker.encoder.version}", avoid)
    return EncoderMismatch(
        f"{name} differs from the reference, and what it took of standard input cannot be read again",
        where="standard input",
        mend=f"run the same command with the same input again: it will use {worker.encoder.name}",
    )


def _run(worker: Worker, journal: Journal, progress: TokenizingProgress, ray: RayConfig) -> None:
    job = worker.job
    with contextlib.ExitStack() as stack:
        pool = stack.enter_context(_pool(worker, ray))  # forks, so it comes before any thread
        items = Items(job.sources, job.config, journal.blocks, streams=max(1, pool.idle // 2))
        stack.callback(items.close)
        stack.callback(progress.close)
        Pipeline(job.sources, items, pool, journal, worker.shard_settings, progress).run()


@contextlib.contextmanager
def _pool(worker: Worker, ray: RayConfig) -> Iterator[Pool]:
    """Workers that are ended on the way out."""
    if worker.job.config.ray:
        from asynckit.tokenization.ray_pool import ray_pool

        with ray_pool(worker, ray) as pool:
            yield pool
        return
    _ = worker.layout  # loaded once, before it is forked
    config = worker.job.config
    local = LocalPool(worker, config.workers or available_cpus(), seconds=config.unit_seconds)
    try:
        yield local
    finally:
        local.close()


def _sources(inputs: Sequence[str], config: TokenizationConfig, out: Path) -> tuple[Source, ...]:
    """The inputs, without an output among them that lies in the same folder."""
    found = list_sources(inputs, config)
    real = out.resolve()
    others = tuple(
        each for each in found if is_url(each.name) or real not in Path(each.name).resolve().parents
    )
    if found and not others:
        mend = "choose another --out"
        raise UsageError("all inputs lie in the folder of the output", where=str(out), mend=mend)
    return others


def _refuse_another_standard_input(
    sources: tuple[Source, ...], manifest: Manifest, config: TokenizationConfig
) -> None:
    """Raise if standard input is not what a complete output was made of, which only its bytes tell.

    Raises:
        InputError: it is something else, or cannot be read.
    """
    for index, source in enumerate(sources):
        if source.name != STANDARD_INPUT:
            continue
        digest = hashlib.sha256()
        try:
            for _, block in blocks_of(source, index, config.unit_bytes):
                digest.update(hashlib.sha256(block).digest())
        except BrokenSource:
            if config.on_error == "stop":
                raise
        if digest.hexdigest() != manifest.inputs[index].digest:
            raise InputError(
                "is not what the output was made of",
                where=shown_name(source),
                mend="choose another --out, or begin anew with --overwrite",
            )


def _refuse_changed(sources: tuple[Source, ...], again: tuple[Source, ...]) -> None:
    """Raise if an input is not what it was when the work began.

    Raises:
        InputError: it changed while it was read.
    """
    now = {source.name: source for source in again}
    for before in sources:
        if before.name != STANDARD_INPUT and now.get(before.name) != before:
            raise InputError(
                "the input changed while it was read",
                where=shown_name(before),
                mend="let it be finished first, then begin anew with --overwrite",
            )
