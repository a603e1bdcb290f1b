"""``manifest.json``: what an output folder holds, from what it was made, and how.

It has no times, no paths of the output and no number of workers: the same inputs and settings give the same
bytes.
"""

from pathlib import Path
from typing import Annotated, Any

import msgspec

from asynckit.disk import whole_file
from asynckit.errors import InputError
from asynckit.tokenization.outputs.hugging_face import write_dataset_state

SCHEMA = "asynckit.tokens/1"
MANIFEST = "manifest.json"

Count = Annotated[int, msgspec.Meta(ge=0)]


class FileRecord(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A file of a shard.

    Attributes:
        name: in the output folder.
        bytes: its size.
        sha256: of its bytes, hexadecimal.
    """

    name: str
    bytes: Count
    sha256: str


class ShardRecord(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A shard.

    Attributes:
        number: from 0.
        first_document: number of its first document in the whole output.
        documents: how many it has.
        first_token: position of its first token in the whole output, padding included.
        tokens: how many it has, padding included.
        sequences: documents, or rows that documents were packed into.
        padding: tokens that belong to no document.
        files: all of its files.
    """

    number: Count
    first_document: Count
    documents: Count
    first_token: Count
    tokens: Count
    sequences: Count
    padding: Count
    files: tuple[FileRecord, ...]


class TokenizerRecord(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The tokenizer: its name, the digest of its files, one more than its largest id, its special ids."""

    name: str
    digest: str
    vocabulary: Count
    bos: int | None = None
    eos: int | None = None
    pad: int | None = None


class EncoderRecord(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The engine that encoded, and how far it was compared with the reference.

    Attributes:
        name: tokenizers, gigatoken or kitoken.
        version: of its package.
        checked_documents: drawn by chance and encoded by the reference too.
        checked_excerpts: of unusual documents, likewise.
        bound: share of documents that may differ, at most, with 95 % confidence; 0 for the reference itself.
    """

    name: str
    version: str
    checked_documents: Count
    checked_excerpts: Count
    bound: float


class InputRecord(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """An input: how it was read, the digest of what was read, and what became of it.

    Attributes:
        bytes: as it is stored; None where nobody could know.
        digest: of its content.
        documents: that were written.
        tokens: of these, without padding.
        skipped: records that could not be used.
    """

    name: str
    format: str
    compression: str
    bytes: Count | None
    digest: str
    documents: Count
    tokens: Count
    skipped: Count


class Totals(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Sums over the shards and inputs.

    Attributes:
        tokens: padding included.
        truncated_documents: that ``max_length`` cut off.
        truncated_tokens: what was cut off them.
    """

    documents: Count
    tokens: Count
    sequences: Count
    padding: Count
    skipped: Count = 0
    truncated_documents: Count = 0
    truncated_tokens: Count = 0


class Manifest(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """All of it.

    Attributes:
        schema: of the manifest.
        asynckit: version that wrote it.
        format: megatron, npy, parquet or arrow.
        dtype: of the tokens, as numpy names it: ``uint16`` or ``int32``.
        pack_length: tokens of a packed sequence; None where documents are not packed.
        loss_mask: whether there is one.
        options: settings that decide what is written, by name.
        options_digest: of these.
        inputs: in their order.
        shards: in their order.
    """

    schema: str = SCHEMA
    asynckit: str
    format: Annotated[str, msgspec.Meta(pattern="^(megatron|npy|parquet|arrow)$")]
    dtype: Annotated[str, msgspec.Meta(pattern="^(uint16|int32)$")]
    pack_length: Annotated[int, msgspec.Meta(ge=1)] | None
    loss_mask: bool
    tokenizer: TokenizerRecord
    options: dict[str, Any]
    options_digest: str
    encoder: EncoderRecord
    totals: Totals
    inputs: tuple[InputRecord, ...]
    shards: tuple[ShardRecord, ...]


def write_manifest(folder: Path, manifest: Manifest) -> None:
    """Write the manifest, which makes an output complete.

    An output of Arrow shards first gets what ``datasets.load_from_disk`` wants to see beside them.

    Raises:
        WorkFailed: the disk refuses.
    """
    if manifest.format == "arrow":
        files = [file for shard in manifest.shards for file in shard.files]
        write_dataset_state(
            folder, [(file.name, file.sha256) for file in files if file.name.endswith(".arrow")]
        )
    with whole_file(folder / MANIFEST) as file:
        file.write(msgspec.json.format(msgspec.json.encode(manifest), indent=2) + b"\n")


def read_manifest(folder: Path) -> Manifest:
    """Read the manifest of an output folder.

    Raises:
        InputError: there is none, or it is damaged or of another schema.
    """
    path = folder / MANIFEST
    content = _content(folder, path)
    try:
        schema = msgspec.json.decode(content, type=_Schema).schema
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise _damaged(path, error) from error
    if schema != SCHEMA:
        mend = f"this version reads {SCHEMA}; use the version of asynckit that wrote the folder"
        raise InputError(f"the manifest's schema is {schema!r}", where=str(path), mend=mend)
    try:
        return msgspec.json.decode(content, type=Manifest)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise _damaged(path, error) from error


class _Schema(msgspec.Struct):
    schema: str


def _content(folder: Path, path: Path) -> bytes:
    try:
        return path.read_bytes()
    except FileNotFoundError as error:
        if not folder.is_dir():
            mend = "name the folder that asynckit tokenize wrote with --out"
            raise InputError("no such folder", where=str(folder), mend=mend) from error
        mend = "if asynckit tokenize was interrupted here, run the same command again to finish it"
        raise InputError(f"the folder has no {MANIFEST}", where=str(folder), mend=mend) from error
    except OSError as error:
        mend = "name a folder that can be read"
        raise InputError(f"cannot be read: {error.strerror or error}", where=str(path), mend=mend) from error


def _damaged(path: Path, error: Exception) -> InputError:
    return InputError(
        f"the manifest is damaged: {error}", where=str(path), mend="restore it, or tokenize again"
    )
