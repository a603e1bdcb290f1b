"""Compressed inputs, whole and broken."""

import bz2
import gzip
import io
import json
import lzma
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from read_inputs import read_inputs

from asynckit.errors import InputError
from asynckit.tokenization.inputs.blocks import whole_blocks
from asynckit.tokenization.inputs.cutting import cut_lines
from asynckit.tokenization.inputs.decompression import chunks_of
from asynckit.tokenization.inputs.faults import BrokenSource


def _zstd(data: bytes) -> bytes:
    return bytes(pa.compress(data, codec="zstd", asbytes=True))


_FORMATS = [(".gz", gzip.compress), (".zst", _zstd), (".bz2", bz2.compress), (".xz", lzma.compress)]
_DATA = b"".join(json.dumps({"text": f"{number**7} words"}).encode() + b"\n" for number in range(20_000))


@pytest.mark.parametrize(("ending", "compress"), _FORMATS)
def test_several_members_are_one_input(
    tmp_path: Path, ending: str, compress: Callable[[bytes], bytes]
) -> None:
    """Files that were put together from parts are read to the end; an empty part in between does no harm."""
    path = tmp_path / f"a.jsonl{ending}"
    path.write_bytes(compress(_DATA[:100_000]) + compress(b"") + compress(_DATA[100_000:]))
    read = read_inputs(path, unit_bytes=1 << 16)
    plain = tmp_path / "a.jsonl"
    plain.write_bytes(_DATA)
    assert read[:5] == read_inputs(plain)[:5]
    assert all(unit.end - unit.start <= 1 << 16 for unit in read.units)


@pytest.mark.parametrize(("ending", "compress"), _FORMATS)
@pytest.mark.parametrize("share", [0.01, 0.5, 0.999])
def test_what_is_cut_off(
    tmp_path: Path, ending: str, compress: Callable[[bytes], bytes], share: float
) -> None:
    """The error comes after all whole records that could be read, and says from where on the rest is lost."""
    path = tmp_path / f"a.jsonl{ending}"
    data = compress(_DATA)
    path.write_bytes(data[: int(len(data) * share)])
    with pytest.raises(BrokenSource, match="cut off: its end is missing") as caught:
        read_inputs(path)
    assert caught.value.where == str(path)
    read = read_inputs(path, on_error="skip", unit_bytes=1 << 16)
    lost = caught.value.start
    assert [row[0] for row in read.rows] == [json.loads(line)["text"] for line in _DATA[:lost].splitlines()]
    assert [skipped.start for skipped in read.skipped] == [lost]
    if share > 0.9:
        assert lost > 0


@pytest.mark.parametrize(("ending", "compress"), _FORMATS)
def test_what_is_damaged_or_something_else(
    tmp_path: Path, ending: str, compress: Callable[[bytes], bytes]
) -> None:
    """Both are errors, whatever comes of the damage."""
    path = tmp_path / f"a.jsonl{ending}"
    data = bytearray(compress(_DATA))
    data[len(data) // 2 : len(data) // 2 + 64] = bytes(64)
    path.write_bytes(data)
    with pytest.raises(BrokenSource, match=r"damaged|cut off"):
        read_inputs(path)
    path.write_bytes(_DATA)
    with pytest.raises(BrokenSource, match="data, or damaged") as caught:
        read_inputs(path)
    assert "name it by what it holds" in caught.value.mend
    path.write_bytes(compress(b'{"text": "a"}\n') + b"more")
    with pytest.raises(BrokenSource):
        read_inputs(path)


def test_zeros_after_gzip_are_padding(tmp_path: Path) -> None:
    """Tapes and block devices pad so, and gzip itself passes over it."""
    path = tmp_path / "a.jsonl.gz"
    path.write_bytes(gzip.compress(b'{"text": "a"}\n') + bytes(1000))
    assert read_inputs(path).rows == [("a",)]


@pytest.mark.parametrize(
    ("compression", "compress"),
    [("gzip", gzip.compress), ("zstd", _zstd), ("bz2", bz2.compress), ("xz", lzma.compress)],
)
def test_a_bomb_is_read_in_small_chunks(compression: str, compress: Callable[[bytes], bytes]) -> None:
    """What is tiny on disk and huge in memory is held one chunk at a time."""
    packed = io.BytesIO(compress(bytes(50 << 20)))
    sizes = [len(chunk) for chunk in chunks_of(packed, compression)]
    assert sum(sizes) == 50 << 20
    assert max(sizes) <= 1 << 20


@given(data=st.binary(max_size=60), sizes=st.lists(st.integers(1, 9), min_size=1), limit=st.integers(1, 20))
def test_cuts_depend_on_the_bytes_alone(data: bytes, sizes: list[int], limit: int) -> None:
    """However the bytes arrive, the blocks are the same, whole lines, and no longer than they need to be."""
    data = data.replace(b"\x00", b"\n").replace(b"\x01", b"\n")
    chunks: list[bytes] = []
    position = 0
    while position < len(data):
        size = sizes[len(chunks) % len(sizes)]
        chunks.append(data[position : position + size])
        position += size
    blocks = list(whole_blocks(chunks, cut_lines, limit))
    assert blocks == list(whole_blocks([data] if data else [], cut_lines, limit))
    assert b"".join(blocks) == data
    assert all(block.endswith(b"\n") for block in blocks[:-1])
    assert all(len(block) <= limit or block.count(b"\n") <= 1 for block in blocks)


def test_compressed_data_without_the_name(tmp_path: Path) -> None:
    """It is refused with the name that it needs, not as broken JSON."""
    path = tmp_path / "a.jsonl"
    path.write_bytes(gzip.compress(_DATA))
    with pytest.raises(InputError, match="holds gzip data") as caught:
        read_inputs(path)
    assert f"{path}.gz" in caught.value.mend
