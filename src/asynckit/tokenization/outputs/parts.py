"""What one unit of work became, in a file of its own until a shard takes it in.

A part is a header and raw arrays, so that reading one is mapping it::

    0   8  b"ASKPART1"
    8   4  length H of the header, uint32
    12  4  CRC-32 of the header, uint32
    16  H  the header: JSON, padded with spaces so that 16 + H is a multiple of 64
    …      the arrays of the header, in its order; each begins at a multiple of 64

All numbers are little-endian. A part is written under a hidden name and renamed, but not synced: after a
power cut its bytes may be missing, which the CRCs show, and its unit is done again.
"""

import mmap
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from asynckit.disk import writing
from asynckit.errors import WorkFailed
from asynckit.tokenization.records import Sequences

_MAGIC = b"ASKPART1"
_FIXED = 16
_ALIGNED = 64
_INT64 = ("lengths", "span_documents", "span_firsts", "span_tokens", "starts", "ends")


class DamagedPart(WorkFailed):
    """A part is missing, torn or not a part: its unit has to be done again."""


class PartHeader(msgspec.Struct, frozen=True):
    """What is known of a part before its arrays are read.

    Attributes:
        source: index of the source among all.
        arrays: name, dtype and length of each array.
        segments: spans that have tokens.
        padding: tokens that no span covers.
        check: CRC-32 of all that follows the header.
        note: whatever the writer wanted to remember.
    """

    source: int
    arrays: tuple[tuple[str, str, int], ...]
    segments: int
    padding: int
    check: int
    note: dict[str, Any]

    def length(self, name: str) -> int:
        """How long an array is; 0 where there is none of that name."""
        return next((length for each, _, length in self.arrays if each == name), 0)


@dataclass(frozen=True, slots=True)
class Part:
    """A part, mapped into memory: its arrays read the file when they are looked at.

    Attributes:
        header: counts, source and note.
        tokens: in the dtype in which the shard has them ``[tokens]``.
        loss_mask: uint8 ``[tokens]``, or None.
        lengths: of the sequences, as in :class:`~asynckit.tokenization.records.Sequences`; likewise the rest.
    """

    header: PartHeader
    tokens: NDArray[Any]
    loss_mask: NDArray[np.uint8] | None
    lengths: NDArray[np.int64]
    span_documents: NDArray[np.int64]
    span_firsts: NDArray[np.int64]
    span_tokens: NDArray[np.int64]
    starts: NDArray[np.int64]
    ends: NDArray[np.int64]

    @property
    def note(self) -> dict[str, Any]:
        """What the writer noted."""
        return self.header.note


def write_part(
    path: Path, sequences: Sequences, note: Mapping[str, Any], *, source: int, dtype: np.dtype[Any]
) -> None:
    """Write what a unit became.

    Args:
        path: of the part; its folder exists.
        sequences: the unit's tokens and where they come from.
        note: small, of JSON types, and the same for the same unit.
        source: index of the unit's source among all.
        dtype: of the tokens in the shard, see :func:`~asynckit.tokenization.outputs.dtypes.token_dtype`.

    Raises:
        WorkFailed: the disk refuses, or a token id is larger than ``dtype`` holds.
    """
    arrays = _arrays_of(sequences, _as_stored(sequences.tokens, dtype))
    body = list(_aligned([array for _, array in arrays]))
    header = PartHeader(
        source=source,
        arrays=tuple((name, array.dtype.str, len(array)) for name, array in arrays),
        segments=int(np.count_nonzero(sequences.span_tokens)),
        padding=len(sequences.tokens) - int(sequences.span_tokens.sum()),
        check=_crc(body),
        note=dict(note),
    )
    hidden = path.with_name(f".{path.name}.tmp")
    with writing(path):
        try:
            with hidden.open("wb", buffering=0) as file:
                for piece in (_encoded(header), *body):
                    _write_all(file, piece)
            hidden.replace(path)
        finally:
            hidden.unlink(missing_ok=True)


def _as_stored(tokens: NDArray[np.uint32], dtype: np.dtype[Any]) -> NDArray[Any]:
    largest = int(tokens.max(initial=0))
    if largest > np.iinfo(dtype).max:
        raise WorkFailed(
            f"the tokenizer gave the id {largest}, which its vocabulary should not have",
            where="--tokenizer",
            mend="its tokenizer.json says less than its vocabulary has; mend it or take --encoder tokenizers",
        )
    return tokens.astype(dtype)


def _arrays_of(sequences: Sequences, tokens: NDArray[Any]) -> list[tuple[str, NDArray[Any]]]:
    arrays = [("tokens", tokens)]
    if sequences.loss_mask is not None:
        arrays.append(("loss_mask", sequences.loss_mask.astype(np.uint8, copy=False)))
    return arrays + [(name, getattr(sequences, name).astype("<i8", copy=False)) for name in _INT64]


def _encoded(header: PartHeader) -> bytes:
    text = msgspec.json.encode(header)
    text += b" " * (-(_FIXED + len(text)) % _ALIGNED)
    return _MAGIC + len(text).to_bytes(4, "little") + zlib.crc32(text).to_bytes(4, "little") + text


def _crc(pieces: Iterable[bytes | memoryview]) -> int:
    check = 0
    for piece in pieces:
        check = zlib.crc32(piece, check)
    return check


def _aligned(arrays: Sequence[NDArray[Any]]) -> Iterator[bytes | memoryview]:
    for array in arrays:
        yield as_bytes(array)
        yield bytes(-array.nbytes % _ALIGNED)


def as_bytes(array: NDArray[Any]) -> memoryview:
    """The bytes of an array, without a copy where it is contiguous."""
    # An empty array has no bytes that a memoryview could be cast to.
    return np.ascontiguousarray(array).data.cast("B") if array.size else memoryview(b"")


def _write_all(file: Any, piece: bytes | memoryview) -> None:
    """Write to an unbuffered file, which may take less than it is given."""
    left = memoryview(piece)
    while left:
        left = left[file.write(left) :]


def read_part(path: Path, *, check: bool = True) -> Part:
    """Map a part into memory.

    Args:
        path: of the part.
        check: compare the CRC of the arrays, which reads all of them once.

    Raises:
        DamagedPart: it is missing, torn or not a part.
    """
    content = _content(path)
    header, begin = _header_of(content, path)
    if check and zlib.crc32(memoryview(content)[begin:]) != header.check:
        raise damaged(path, "its bytes are not those that were written")
    arrays = {}
    for name, dtype, length in header.arrays:
        arrays[name] = np.frombuffer(content, dtype, count=length, offset=begin)
        begin += -(-arrays[name].nbytes // _ALIGNED) * _ALIGNED
    return Part(header, loss_mask=arrays.pop("loss_mask", None), **arrays)


def read_header(path: Path) -> PartHeader:
    """The header alone: counts, source and note.

    Raises:
        DamagedPart: it is missing or not a part.
    """
    return _header_of(_content(path), path)[0]


def _content(path: Path) -> mmap.mmap:
    try:
        with path.open("rb") as file:
            return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    except (OSError, ValueError) as error:  # ValueError: an empty file
        raise damaged(path, str(error)) from error


def _header_of(content: mmap.mmap, path: Path) -> tuple[PartHeader, int]:
    """The header, and where the arrays begin."""
    if content[:8] != _MAGIC:
        raise damaged(path, "it does not begin like a part")
    begin = _FIXED + int.from_bytes(content[8:12], "little")
    text = content[_FIXED:begin]
    # Nothing has the CRC 0, which is also what is read where nothing is left.
    if not text or zlib.crc32(text) != int.from_bytes(content[12:16], "little"):
        raise damaged(path, "its header is not the one that was written")
    header = msgspec.json.decode(text, type=PartHeader)
    sizes = (np.dtype(dtype).itemsize * length for _, dtype, length in header.arrays)
    if begin + sum(-(-size // _ALIGNED) * _ALIGNED for size in sizes) != len(content):
        raise damaged(path, f"it has {len(content)} bytes, which is not what its header says")
    return header, begin


def damaged(path: Path, problem: str) -> DamagedPart:
    """The error for a part that cannot be used."""
    mend = "delete it and run the same command again: its part of the input is done once more"
    return DamagedPart(f"the part cannot be used: {problem}", where=str(path), mend=mend)
