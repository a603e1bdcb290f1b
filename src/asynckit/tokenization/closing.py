"""The end of an output: what the units' notes add up to, and the manifest that makes it complete."""

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import msgspec

from asynckit import __version__
from asynckit.disk import whole_file
from asynckit.errors import InputError
from asynckit.tokenization.encoding.gate import bound
from asynckit.tokenization.inputs.places import place_of, shown_name
from asynckit.tokenization.journal import SKIPPED, Journal
from asynckit.tokenization.outputs.manifest import (
    EncoderRecord,
    InputRecord,
    Manifest,
    ShardRecord,
    TokenizerRecord,
    Totals,
    write_manifest,
)
from asynckit.tokenization.records import Source
from asynckit.tokenization.tasks import UnitNote, Worker


@dataclass
class _Input:
    """What the units of a source add up to."""

    documents: int = 0
    tokens: int = 0
    lines: int = 0
    skipped: list[dict[str, Any]] = field(default_factory=list)
    digests: Any = field(default_factory=hashlib.sha256)

    def add(self, source: Source, note: UnitNote) -> None:
        for each in note.skipped:
            line = self.lines + each["line"] if each["line"] >= 0 else -1
            place = place_of(source, each["start"], line)
            self.skipped.append({"where": place, "start": each["start"], "reason": each["reason"]})
        self.documents += note.documents
        self.tokens += note.tokens - note.padding
        self.lines += note.lines
        self.digests.update(bytes.fromhex(note.digest))

    def record(self, source: Source) -> InputRecord:
        return InputRecord(
            name=shown_name(source),
            format=source.format,
            compression=source.compression,
            bytes=source.bytes,
            digest=self.digests.hexdigest(),
            documents=self.documents,
            tokens=self.tokens,
            skipped=len(self.skipped),
        )


def close_output(
    journal: Journal,
    sources: tuple[Source, ...],
    worker: Worker,
    tokenizer: TokenizerRecord,
    options: Mapping[str, Any],
) -> Manifest:
    """Write the list of what was skipped, and the manifest, which makes the output complete.

    The digest of an input is the SHA-256 of the units' SHA-256, so that several processes can read one file.

    Raises:
        InputError: there is no document in all the inputs.
        WorkFailed: the disk refuses.
    """
    records = [document for _, document in sorted(journal.shards().items())]
    notes = [UnitNote(**note) for document in records for note in document["notes"]]
    found_shards = [document["record"] for document in records]
    shards = tuple(msgspec.convert(record, ShardRecord) for record in found_shards if record)
    found = [_Input() for _ in sources]
    for note in notes:
        found[note.source].add(sources[note.source], note)
    if not any(each.documents for each in found):
        raise _nothing(found)
    manifest = Manifest(
        asynckit=__version__,
        format=worker.job.config.format,
        dtype=worker.shard_settings.dtype.name,
        pack_length=worker.job.config.pack_length,
        loss_mask=worker.shard_settings.loss_mask,
        tokenizer=tokenizer,
        options=dict(options),
        options_digest=hashlib.sha256(json.dumps(dict(options), sort_keys=True).encode()).hexdigest(),
        encoder=_encoder(worker, notes),
        totals=_totals(notes, shards),
        inputs=tuple(each.record(source) for source, each in zip(sources, found, strict=True)),
        shards=shards,
    )
    if skipped := [each for input_ in found for each in input_.skipped]:
        with whole_file(journal.folder / SKIPPED) as file:
            file.writelines(json.dumps(each, ensure_ascii=False).encode() + b"\n" for each in skipped)
    write_manifest(journal.folder, manifest)
    return manifest


def _encoder(worker: Worker, notes: Iterable[UnitNote]) -> EncoderRecord:
    documents = sum(note.checked_documents for note in notes)
    # Records that were refused may have been checked, too, and are no documents.
    refused = any(note.skipped for note in notes)
    all_checked = not refused and documents >= sum(note.documents for note in notes)
    return EncoderRecord(
        name=worker.encoder.name,
        version=worker.encoder.version,
        checked_documents=documents,
        checked_excerpts=sum(note.checked_excerpts for note in notes),
        bound=0.0 if all_checked or worker.encoder.name == "tokenizers" else bound(documents),
    )


def _totals(notes: Iterable[UnitNote], shards: Iterable[ShardRecord]) -> Totals:
    return Totals(
        documents=sum(shard.documents for shard in shards),
        tokens=sum(shard.tokens for shard in shards),
        sequences=sum(shard.sequences for shard in shards),
        padding=sum(shard.padding for shard in shards),
        skipped=sum(len(note.skipped) for note in notes),
        truncated_documents=sum(note.truncated_documents for note in notes),
        truncated_tokens=sum(note.truncated_tokens for note in notes),
    )


def _nothing(found: Iterable[_Input]) -> InputError:
    skipped = [each for input_ in found for each in input_.skipped]
    if skipped:
        return InputError(
            f"all {len(skipped)} records were skipped, the first because: {skipped[0]['reason']}",
            where=skipped[0]["where"],
            mend="mend the inputs, or name the right --field",
        )
    return InputError("there is no document in the inputs", where="INPUTS", mend="they are all empty")
