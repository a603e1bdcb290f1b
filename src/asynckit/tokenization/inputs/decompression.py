"""Compressed sources as chunks of what they hold, in constant memory."""

import bz2
import lzma
import zlib
from collections.abc import Callable, Iterator
from typing import Any, BinaryIO, Protocol

from asynckit.tokenization.inputs.faults import Unusable, is_damage

_CHUNK_BYTES = 1 << 20
# A read that fails loses what it had got so far, so these are small.
_ZSTD_CHUNK_BYTES = 64 << 10
_FETCH = "fetch or make the file again"
_SIGNATURES = {"gzip": b"\x1f\x8b", "zstd": b"\x28\xb5\x2f\xfd", "bz2": b"BZh", "xz": b"\xfd7zXZ\x00"}


def chunks_of(file: BinaryIO, compression: str) -> Iterator[bytes]:
    """The decompressed bytes of a file, in chunks of up to about 1 MiB.

    Files of several members or frames, one after another, are read to the last.

    Raises:
        Unusable: the file is cut off, damaged, or not of that compression; after what could be read.
        OSError: it cannot be read.
    """
    if not compression:
        while chunk := file.read(_CHUNK_BYTES):
            yield chunk
    elif compression == "zstd":
        yield from _zstd_chunks(file)
    else:
        yield from _members(file, compression, _MAKERS[compression])


def compression_by_signature(beginning: bytes) -> str:
    """The compression that a file's first bytes tell of; empty for none."""
    return next((name for name, sign in _SIGNATURES.items() if beginning.startswith(sign)), "")


class _Decompressor(Protocol):
    """What bz2 and lzma have in common."""

    @property
    def eof(self) -> bool: ...
    @property
    def needs_input(self) -> bool: ...
    @property
    def unused_data(self) -> bytes: ...
    def decompress(self, data: bytes, max_length: int = -1) -> bytes: ...


class _Gzip:
    """One member of a gzip file, with the interface that bz2 and lzma have."""

    def __init__(self) -> None:
        self._inner = zlib.decompressobj(wbits=31)
        self._output_full = False

    @property
    def eof(self) -> bool:
        return self._inner.eof

    @property
    def needs_input(self) -> bool:
        return not self._output_full and not self._inner.unconsumed_tail

    @property
    def unused_data(self) -> bytes:
        return self._inner.unused_data

    def decompress(self, data: bytes, max_length: int = -1) -> bytes:
        output = self._inner.decompress(self._inner.unconsumed_tail + data, max_length)
        self._output_full = len(output) == max_length
        return output


_MAKERS: dict[str, Callable[[], _Decompressor]] = {
    "gzip": _Gzip,
    "bz2": bz2.BZ2Decompressor,
    "xz": lzma.LZMADecompressor,
}


def _members(file: BinaryIO, compression: str, make: Callable[[], _Decompressor]) -> Iterator[bytes]:
    """The members of a file, one after another; zero bytes after the last are padding."""
    data = file.read(_CHUNK_BYTES)
    first = True
    while data:
        member = make()
        while not member.eof:
            try:
                output = member.decompress(data, _CHUNK_BYTES)
            except (zlib.error, lzma.LZMAError, OSError, EOFError) as error:
                raise _damaged(compression, error, first=first) from error
            if output:
                yield output
            data = b""
            if member.needs_input and not member.eof:
                data = file.read(_CHUNK_BYTES)
                if not data:
                    raise _cut_off(compression)
        first = False
        data = _next_member(member.unused_data, file)


def _next_member(data: bytes, file: BinaryIO) -> bytes:
    while not data.strip(b"\0"):
        data = file.read(_CHUNK_BYTES)
        if not data:
            return b""
    return data.lstrip(b"\0")


def _zstd_chunks(file: BinaryIO) -> Iterator[bytes]:
    import pyarrow as pa

    source: Any = pa.PythonFile(file, mode="r")
    stream = pa.CompressedInputStream(source, "zstd")
    first = True
    while True:
        try:
            chunk = stream.read(_ZSTD_CHUNK_BYTES)
        except OSError as error:
            if not is_damage(error):
                raise
            if "Truncated" in str(error):
                raise _cut_off("zstd") from error
            raise _damaged("zstd", error, first=first) from error
        if not chunk:
            return
        first = False
        yield chunk


def _cut_off(compression: str) -> Unusable:
    return Unusable(f"the {compression} data is cut off: its end is missing", _FETCH)


def _damaged(compression: str, error: Exception, *, first: bool) -> Unusable:
    if first:
        return Unusable(
            f"no {compression} data, or damaged: {error}", f"{_FETCH}, or name it by what it holds"
        )
    return Unusable(f"the {compression} data is damaged, or something else comes after it: {error}", _FETCH)
