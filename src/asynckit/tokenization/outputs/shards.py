"""Parts to shards: the files that trainers read.

A shard takes the tokens of its parts as they are: each byte is read, hashed and written once, in the order of
the parts, so a shard's bytes depend on nothing but them. Its files appear whole, one after another; a shard
that was interrupted is written again.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from asynckit.tokenization.outputs.dtypes import token_dtype
from asynckit.tokenization.outputs.manifest import FileRecord, ShardRecord
from asynckit.tokenization.outputs.parts import Part, PartHeader, damaged, read_header, read_part


@dataclass(frozen=True, slots=True)
class ShardSettings:
    """What is the same for all shards of an output.

    Attributes:
        format: megatron, npy, parquet or arrow.
        vocabulary: one more than the largest id.
        sources: names of all sources, in their order.
        pack_length: tokens of every sequence; None where each document is one.
        loss_mask: whether sequences have one.
    """

    format: str
    vocabulary: int
    sources: tuple[str, ...]
    pack_length: int | None = None
    loss_mask: bool = False

    @property
    def dtype(self) -> np.dtype[Any]:
        """Of the tokens, in parts and shards."""
        return token_dtype(self.format, self.vocabulary)


@dataclass(frozen=True, slots=True)
class Assembly:
    """A shard while its files are written.

    Attributes:
        stem: path of its files without their endings, such as ``OUT/data-00000``.
        parts: paths of its parts, in order.
        headers: of these parts.
        first_document: number of its first document in the whole output.
        settings: of the output.
        files: what has been written.
    """

    stem: Path
    parts: Sequence[Path]
    headers: Sequence[PartHeader]
    first_document: int
    settings: ShardSettings
    files: list[FileRecord]

    def total(self, name: str) -> int:
        """Length of one of the arrays over all parts."""
        return sum(header.length(name) for header in self.headers)

    def file(self, ending: str) -> Path:
        """Path of one of the files."""
        return self.stem.with_name(self.stem.name + ending)

    def each(self, *, check: bool = False) -> Iterator[tuple[Part, int, int]]:
        """Yield each part, the number of its first document, and its first token's position in the shard.

        Raises:
            DamagedPart: a part cannot be used; torn ones are noticed where ``check`` is set.
        """
        dtype = self.settings.dtype
        document, token = self.first_document, 0
        for path in self.parts:
            part = read_part(path, check=check)
            if part.tokens.dtype != dtype:
                raise damaged(path, f"its ids are {part.tokens.dtype}, and those of the shard {dtype}")
            yield part, document, token
            document += len(part.starts)
            token += len(part.tokens)


def write_shard(
    folder: Path,
    number: int,
    parts: Sequence[Path],
    settings: ShardSettings,
    first_document: int,
    first_token: int,
) -> ShardRecord:
    """Write the files of one shard; those that an interrupted call left are written again.

    Args:
        folder: of the output.
        number: of the shard.
        parts: of its units, in their order; written with ``settings.dtype``.
        settings: of the output.
        first_document: number of its first document in the whole output.
        first_token: position of its first token in the whole output.

    Raises:
        DamagedPart: a part is missing or torn; no file of the shard has taken it in.
        WorkFailed: the disk refuses, or a document is too long for the format.
    """
    headers = [read_header(path) for path in parts]
    assembly = Assembly(folder / f"data-{number:05}", parts, headers, first_document, settings, [])
    _write_tokens(assembly)
    _write_provenance(assembly)
    return ShardRecord(
        number=number,
        first_document=first_document,
        documents=assembly.total("starts"),
        first_token=first_token,
        tokens=assembly.total("tokens"),
        sequences=assembly.total("lengths"),
        padding=sum(header.padding for header in headers),
        files=tuple(assembly.files),
    )


def _write_tokens(assembly: Assembly) -> None:
    """Write all but the provenance; the first pass over the parts checks them."""
    match assembly.settings.format:
        case "megatron":
            from asynckit.tokenization.outputs.megatron import write_megatron

            write_megatron(assembly)
        case "npy":
            from asynckit.tokenization.outputs.numpy_files import write_numpy_files

            write_numpy_files(assembly)
        case _:
            from asynckit.tokenization.outputs.tables import write_table

            write_table(assembly)


def _write_provenance(assembly: Assembly) -> None:
    from asynckit.tokenization.outputs.provenance import write_provenance

    write_provenance(assembly)
