"""What workers do: a unit becomes a part, and the parts of a shard become its files."""

from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from asynckit.errors import InputError
from asynckit.models.config import ModelConfig
from asynckit.models.light_tokenizer import LightTokenizer
from asynckit.models.store import shown
from asynckit.models.tokenizer_parts import load_parts, parts_digest
from asynckit.tokenization.config import TokenizationConfig
from asynckit.tokenization.encoding.choose import choose_encoder
from asynckit.tokenization.encoding.encoder import Encoder
from asynckit.tokenization.inputs.faults import BrokenSource
from asynckit.tokenization.inputs.places import place_in, shown_name
from asynckit.tokenization.inputs.reading import UnitReader
from asynckit.tokenization.layouts.layout import Layout, layout_for
from asynckit.tokenization.layouts.packing import pack
from asynckit.tokenization.layouts.special_tokens import padding_id
from asynckit.tokenization.outputs.manifest import ShardRecord, TokenizerRecord
from asynckit.tokenization.outputs.parts import write_part
from asynckit.tokenization.outputs.shards import ShardSettings, write_shard
from asynckit.tokenization.records import LaidOut, Records, Skipped, Source
from asynckit.tokenization.schedule import Item


@dataclass(frozen=True)
class Job:
    """All that a worker has to know.

    Attributes:
        model: whose tokenizer it is.
        config: the settings.
        sources: the inputs.
        avoid: encoders that were found to differ from the reference.
    """

    model: ModelConfig
    config: TokenizationConfig
    sources: tuple[Source, ...]
    avoid: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class TokenizeUnit:
    """Make the part of a unit."""

    item: Item
    path: Path


@dataclass(frozen=True, slots=True)
class AssembleShard:
    """Make the files of a shard of its parts."""

    number: int
    parts: tuple[Path, ...]
    folder: Path
    settings: ShardSettings
    first_document: int
    first_token: int


@dataclass
class UnitNote:
    """What is known of a unit besides its tokens.

    Attributes:
        number: among all units.
        source: index among the sources.
        start: first byte or row.
        end: after the last.
        digest: SHA-256 of the bytes that were read.
        lines: line breaks in them.
        text_bytes: of the records that were used.
        documents: that became tokens.
        tokens: padding included.
        padding: tokens that stand for nothing.
        sequences: what they are in.
        truncated_documents: cut off at the longest length.
        truncated_tokens: what was cut off.
        checked_documents: that the reference encoded too.
        checked_excerpts: likewise, of unusual documents.
        skipped: records that could not be used.
    """

    number: int
    source: int
    start: int
    end: int
    digest: str = ""
    lines: int = 0
    text_bytes: int = 0
    documents: int = 0
    tokens: int = 0
    padding: int = 0
    sequences: int = 0
    truncated_documents: int = 0
    truncated_tokens: int = 0
    checked_documents: int = 0
    checked_excerpts: int = 0
    skipped: list[dict[str, Any]] = field(default_factory=list)


class Worker:
    """Does tasks; what it needs for that is loaded once, and again where it is unpickled."""

    def __init__(self, job: Job) -> None:
        self.job = job

    def __reduce__(self) -> tuple[type["Worker"], tuple[Job]]:
        return Worker, (self.job,)

    def __call__(self, task: TokenizeUnit | AssembleShard) -> UnitNote | ShardRecord:
        """Do one task.

        Raises:
            AsynckitError: an input or the disk does not let it.
        """
        return self.assemble(task) if isinstance(task, AssembleShard) else self.tokenize(task)

    def assemble(self, task: AssembleShard) -> ShardRecord:
        """Write the files of a shard."""
        return write_shard(
            task.folder,
            task.number,
            task.parts,
            task.settings,
            first_document=task.first_document,
            first_token=task.first_token,
        )

    @cached_property
    def parts(self) -> Any:
        """The tokenizer's own parts."""
        return load_parts(self.job.model)

    @cached_property
    def tokenizer(self) -> LightTokenizer:
        """The tokenizer as transformers has it."""
        return LightTokenizer(self.parts)

    @cached_property
    def encoder(self) -> Encoder:
        """The fastest encoder that is right."""
        return choose_encoder(self.parts, self.job.config, self.job.avoid)

    @cached_property
    def layout(self) -> Layout:
        """How records become tokens."""
        return layout_for(self.job.config, self.tokenizer, self.encoder.encode, self.encoder.unchecked)

    @cached_property
    def padding(self) -> int:
        """What fills packed sequences; only looked at where there are some."""
        return padding_id(self.tokenizer) if self.job.config.pack_length else 0

    @cached_property
    def shard_settings(self) -> ShardSettings:
        """What is the same for all shards."""
        config = self.job.config
        return ShardSettings(
            format=config.format,
            vocabulary=self.tokenizer.vocabulary,
            sources=tuple(shown_name(source) for source in self.job.sources),
            pack_length=config.pack_length,
            loss_mask=config.mode != "documents" or config.pack_length is not None,
        )

    @cached_property
    def tokenizer_record(self) -> TokenizerRecord:
        """The tokenizer as the manifest has it."""
        tokenizer, model = self.tokenizer, self.job.model
        return TokenizerRecord(
            name=shown(model.tokenizer or model.name),
            digest=parts_digest(self.parts),
            vocabulary=tokenizer.vocabulary,
            bos=tokenizer.named_id("bos_token"),
            eos=tokenizer.named_id("eos_token"),
            pad=tokenizer.named_id("pad_token"),
        )

    def tokenize(self, task: TokenizeUnit) -> UnitNote:
        """Write the part of a unit."""
        item, config = task.item, self.job.config
        source = self.job.sources[item.unit.source]
        before = self.encoder.checked_documents, self.encoder.checked_excerpts
        reader = None if item.broken else self._reader(source, item)
        note = UnitNote(item.number, item.unit.source, item.unit.start, item.unit.end)
        laid: list[LaidOut] = []
        places = [np.empty((2, 0), np.int64)]
        try:
            for records in reader or ():
                out = self._lay_out(source, item, records)
                laid.append(out)
                places.append(np.stack((records.starts, records.ends))[:, out.kept])
                note.skipped += [asdict(each) for each in self._unusable(source, item, records, out)]
        except BrokenSource as error:  # what could be read of it stays
            if config.on_error == "stop":
                raise
            note.skipped.append(asdict(Skipped(error.start, -1, error.message)))
        if item.broken:
            note.skipped.append(asdict(Skipped(item.unit.start, -1, item.broken)))
        starts, ends = np.concatenate(places, axis=1)
        sequences = pack(laid, starts, ends, config, self.padding)
        if reader is not None:
            note.digest, note.lines = reader.digest, reader.lines
        note.documents, note.sequences = len(sequences.starts), len(sequences.lengths)
        note.tokens = len(sequences.tokens)
        note.padding = note.tokens - int(sequences.span_tokens.sum())
        note.text_bytes = int((sequences.ends - sequences.starts).sum())
        note.truncated_documents = sum(out.truncated_documents for out in laid)
        note.truncated_tokens = sum(out.truncated_tokens for out in laid)
        # A pair is two texts, and differs where one of them does: with half as many pairs the bound holds.
        texts = 2 if config.mode == "pairs" else 1
        note.checked_documents = (self.encoder.checked_documents - before[0]) // texts
        note.checked_excerpts = self.encoder.checked_excerpts - before[1]
        dtype = self.shard_settings.dtype
        write_part(task.path, sequences, asdict(note), source=item.unit.source, dtype=dtype)
        return note

    def _reader(self, source: Source, item: Item) -> UnitReader:
        block = item.block.read_bytes() if item.block else None
        return UnitReader(source, item.unit, block, self.layout.fields, self.job.config)

    def _lay_out(self, source: Source, item: Item, records: Records) -> LaidOut:
        """Tokens of a batch; an encoder's error does not know which of the records it is about."""
        try:
            return self.layout.lay_out(records.columns)
        except InputError as error:
            if error.where or len(records.starts) == 1:
                raise
            for index in range(len(records.starts)):
                try:
                    self.layout.lay_out(tuple(column[index : index + 1] for column in records.columns))
                except InputError as found:
                    line = int(records.lines[index]) if len(records.lines) else -1
                    where = place_in(source, item.unit, int(records.starts[index]), line)
                    raise InputError(found.message, where=where, mend=found.mend) from error
            raise

    def _unusable(self, source: Source, item: Item, records: Records, out: LaidOut) -> list[Skipped]:
        """Records that were skipped; with ``on_error=stop`` the layout's refusal is an error."""
        refused = [
            Skipped(
                int(records.starts[index]), int(records.lines[index]) if len(records.lines) else -1, reason
            )
            for index, reason in out.refused
        ]
        if refused and self.job.config.on_error == "stop":
            first = refused[0]
            raise InputError(
                first.reason,
                where=place_in(source, item.unit, first.start, first.line),
                mend="mend the record, or leave it out with --on-error skip",
            )
        return sorted([*records.skipped, *refused], key=lambda each: each.start)
