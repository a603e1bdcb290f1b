"""Parquet and Arrow, in ranges of rows."""

import hashlib
import os
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st
from read_inputs import read_inputs

from asynckit.errors import InputError
from asynckit.tokenization.inputs.faults import BrokenSource

_TEXTS = st.lists(st.text(max_size=200), max_size=60)
KINDS = ("parquet", "arrow-file", "arrow-stream")


def _write(folder: Path, table: pa.Table, kind: str, rows: int, **options: Any) -> Path:
    """The table as a file of that kind, in groups or batches of ``rows``."""
    path = folder / f"a.{kind.partition('-')[0]}"
    if kind == "parquet":
        pq.write_table(table, path, row_group_size=rows, **options)
        return path
    new = pa.ipc.new_file if kind == "arrow-file" else pa.ipc.new_stream
    with pa.OSFile(str(path), "wb") as file, new(file, table.schema, **options) as writer:
        writer.write_table(table, max_chunksize=rows)
    return path


@given(
    texts=_TEXTS,
    rows=st.integers(1, 30),
    unit=st.integers(16, 4000),
    kind=st.sampled_from(KINDS),
    type_=st.sampled_from(
        [pa.string(), pa.large_string(), pa.dictionary(pa.int32(), pa.string()), pa.string_view()]
    ),
)
def test_units_hold_all_rows(
    tmp_path_factory: pytest.TempPathFactory, texts: list[str], rows: int, unit: int, kind: str, type_: Any
) -> None:
    """However the rows are grouped and taken apart, each comes once, in order, with its number."""
    folder = tmp_path_factory.mktemp("inputs")
    if type_ == pa.string_view() and kind == "parquet":
        type_ = pa.string()  # Parquet has no views
    table = pa.table({"id": range(len(texts)), "text": pa.array(texts, pa.string()).cast(type_)})
    path = _write(folder, table, kind, rows)
    read = read_inputs(path, unit_bytes=unit)
    assert [row[0] for row in read.rows] == texts
    assert read.starts == list(range(len(texts)))
    assert [unit.start for unit in read.units[1:]] == [unit.end for unit in read.units[:-1]]
    data, count = path.read_bytes(), len(read.units)
    for number, digest in enumerate(read.digests):
        share = data[len(data) * number // count : len(data) * (number + 1) // count]
        assert digest == hashlib.sha256(share).hexdigest()


@pytest.mark.parametrize("kind", KINDS)
def test_rows_that_cannot_be_used(tmp_path: Path, kind: str) -> None:
    """A null, and bytes that are no UTF-8, are refused with the row's number, or skipped."""
    bad = pa.array([b"a", None, b"\xff", b"d"], pa.binary()).view(pa.string())
    path = _write(tmp_path, pa.table({"text": bad}), kind, 3)
    with pytest.raises(InputError, match="text is null, not text") as caught:
        read_inputs(path)
    assert caught.value.where == f"{path}, row 2"
    read = read_inputs(path, on_error="skip")
    assert read.rows == [("a",), ("d",)]
    assert [skipped.start for skipped in read.skipped] == [1, 2]
    assert "not valid UTF-8" in read.skipped[1].reason


@pytest.mark.parametrize("kind", KINDS)
def test_fields_in_rows(tmp_path: Path, kind: str) -> None:
    """Structs and lists are gone into; members that are null are left out, as they are in JSON Lines."""
    messages = [{"role": "user", "content": "hi", "tool_calls": None}]
    rows = [{"meta": {"body": "b"}, "messages": messages}, {"meta": None, "messages": messages}]
    path = _write(tmp_path, pa.Table.from_pylist(rows[:1]), kind, 10)
    chat = [{"role": "user", "content": "hi"}]
    assert read_inputs(path, fields=("messages", "tools"), mode="chat").rows == [(chat, None)]
    assert read_inputs(path, fields=("meta.body",)).rows == [("b",)]
    assert read_inputs(path, fields=("messages[0].content", "meta.body"), mode="pairs").rows == [("hi", "b")]
    with pytest.raises(InputError, match="no field 'msgs'; it has meta, messages"):
        read_inputs(path, fields=("msgs",))
    with pytest.raises(InputError, match="no field 'bdy' in meta; it has body"):
        read_inputs(path, fields=("meta.bdy",))
    path = _write(tmp_path, pa.Table.from_pylist(rows), kind, 10)
    assert read_inputs(path, fields=("meta.body",), on_error="skip").rows == [("b",)]


@pytest.mark.parametrize("kind", KINDS)
def test_batches_stay_small(tmp_path: Path, kind: str) -> None:
    """Rows that are large beside small ones come in batches of their own."""
    texts = ["x" * (3 << 20) if number % 50 == 0 else "small" for number in range(200)]
    path = _write(tmp_path, pa.table({"text": texts}), kind, 1000)
    assert [row[0] for row in read_inputs(path).rows] == texts


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("share", [0.0, 0.5])
def test_files_that_are_cut_off(tmp_path: Path, kind: str, share: float) -> None:
    """They are refused by name; of an Arrow stream, what comes before the cut can be read."""
    path = _write(tmp_path, pa.table({"text": [f"{number**9}" for number in range(5000)]}), kind, 100)
    os.truncate(path, int(path.stat().st_size * share))
    with pytest.raises(BrokenSource, match="is damaged, or no") as caught:
        read_inputs(path)
    assert caught.value.where.startswith(str(path))
    read = read_inputs(path, on_error="skip")
    assert len(read.skipped) == 1
    assert len(read.rows) == read.skipped[0].start
    assert bool(read.rows) == (kind == "arrow-stream" and share > 0)


def test_a_damaged_page_of_parquet(tmp_path: Path) -> None:
    """The rows before it are used with skip, and those of later units."""
    texts = [os.urandom(50).hex() for _ in range(20_000)]
    path = _write(tmp_path, pa.table({"text": texts}), "parquet", 5000, compression="zstd")
    data = bytearray(path.read_bytes())
    data[len(data) // 3 : len(data) // 3 + 200] = bytes(200)
    path.write_bytes(data)
    with pytest.raises(BrokenSource, match="is damaged") as caught:
        read_inputs(path, unit_bytes=1 << 17)
    assert ", row " in caught.value.where
    read = read_inputs(path, unit_bytes=1 << 17, on_error="skip")
    assert read.skipped
    assert read.rows[-1] == (texts[-1],)
    for (text,), start in zip(read.rows, read.starts, strict=True):
        assert text == texts[start]


def test_a_compressed_stream_is_refused(tmp_path: Path) -> None:
    """It would be held in memory whole."""
    table = pa.table({"text": ["x" * 1000] * 100})
    path = _write(tmp_path, table, "arrow-stream", 10, options=pa.ipc.IpcWriteOptions(compression="lz4"))
    with pytest.raises(InputError, match="held in memory whole"):
        read_inputs(path)
    path = _write(tmp_path, table, "arrow-file", 10, options=pa.ipc.IpcWriteOptions(compression="lz4"))
    assert len(read_inputs(path).rows) == 100


def test_an_empty_table_has_no_units(tmp_path: Path) -> None:
    """That is no error."""
    for kind in KINDS:
        path = _write(tmp_path, pa.table({"text": pa.array([], pa.string())}), kind, 10)
        assert read_inputs(path).units == []
