"""Shards: the files that trainers read."""

import hashlib
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from made_tokens import Documents, largest_file, write_parts
from megatron_reader import MegatronReader

from asynckit.errors import WorkFailed
from asynckit.tokenization.outputs.manifest import ShardRecord
from asynckit.tokenization.outputs.parts import DamagedPart
from asynckit.tokenization.outputs.shards import ShardSettings, write_shard

UNITS: list[Documents] = [[[1, 2, 3], [], [4]], [], [[5, 6], [7, 8, 9, 10, 11]]]
DOCUMENTS = [document for unit in UNITS for document in unit]
FORMATS = ("megatron", "npy", "parquet", "arrow")


def settings_of(file_format: str, **others: Any) -> ShardSettings:
    return ShardSettings(file_format, others.pop("vocabulary", 1000), ("a.jsonl", "b.jsonl"), **others)


def shard_of(
    folder: Path, settings: ShardSettings, units: list[Documents] = UNITS, number: int = 0
) -> ShardRecord:
    parts = write_parts(folder / ".work", units, settings)
    return write_shard(folder, number, parts, settings, first_document=100, first_token=1000)


@pytest.mark.parametrize("pack_length", [None, 4])
@pytest.mark.parametrize("file_format", FORMATS)
def test_the_record_has_every_file_with_its_digest(
    tmp_path: Path, file_format: str, pack_length: int | None
) -> None:
    """Digests are of what lies on the disk, and nothing lies there without one."""
    record = shard_of(tmp_path, settings_of(file_format, pack_length=pack_length, loss_mask=True))
    for file in record.files:
        content = (tmp_path / file.name).read_bytes()
        assert (len(content), hashlib.sha256(content).hexdigest()) == (file.bytes, file.sha256)
    assert {file.name for file in record.files} == {
        path.name for path in tmp_path.glob("*.*") if path.is_file()
    }
    assert (record.documents, record.first_document, record.first_token) == (5, 100, 1000)
    assert record.tokens - record.padding == sum(map(len, DOCUMENTS))


@pytest.mark.parametrize("file_format", FORMATS)
def test_a_shard_written_again_has_the_same_bytes(tmp_path: Path, file_format: str) -> None:
    """What an interrupted call left is replaced."""
    settings = settings_of(file_format, pack_length=4)
    first = shard_of(tmp_path, settings)
    assert shard_of(tmp_path, settings) == first


@pytest.mark.parametrize(("vocabulary", "dtype"), [(1000, np.uint16), (65_500, np.int32)])
def test_megatron_reads_every_document(tmp_path: Path, vocabulary: int, dtype: Any) -> None:
    """Sequences, and the borders of documents, as Megatron's reader finds them."""
    shard_of(tmp_path, settings_of("megatron", vocabulary=vocabulary), number=7)
    dataset = MegatronReader(tmp_path / "data-00007")
    assert dataset.dtype == dtype
    assert [dataset[index].tolist() for index in range(len(dataset))] == DOCUMENTS
    assert dataset.document_indices.tolist() == [0, 1, 2, 3, 4, 5]


def test_megatron_reads_packed_sequences(tmp_path: Path) -> None:
    """They are what it takes for documents."""
    shard_of(tmp_path, settings_of("megatron", pack_length=4, loss_mask=True))
    dataset = MegatronReader(tmp_path / "data-00000")
    assert [dataset[index].tolist() for index in range(len(dataset))] == [
        [1, 2, 3, 4], [5, 6, 0, 0], [7, 8, 9, 10], [11, 0, 0, 0],
    ]  # fmt: skip
    mask = np.load(tmp_path / "data-00000.loss_mask.npy", mmap_mode="r")
    assert mask.tolist() == [1, 0, 1, 0, 1, 0, 0, 0, 1, 0, 1, 0, 1, 0, 0, 0]


def test_numpy_maps_documents(tmp_path: Path) -> None:
    """A flat array and the borders in it."""
    shard_of(tmp_path, settings_of("npy", loss_mask=True))
    tokens = np.load(tmp_path / "data-00000.npy", mmap_mode="r")
    offsets = np.load(tmp_path / "data-00000.offsets.npy", mmap_mode="r")
    assert tokens.dtype == np.uint16
    assert [part.tolist() for part in np.split(tokens, offsets[1:-1])] == DOCUMENTS
    mask = np.load(tmp_path / "data-00000.loss_mask.npy", mmap_mode="r")
    np.testing.assert_array_equal(mask, tokens % 2)


def test_numpy_maps_packed_sequences(tmp_path: Path) -> None:
    """Rows of one length, and the stretches of documents in them."""
    shard_of(tmp_path, settings_of("npy", pack_length=4, loss_mask=True, vocabulary=65_536))
    tokens = np.load(tmp_path / "data-00000.npy", mmap_mode="r")
    assert tokens.tolist() == [[1, 2, 3, 4], [5, 6, 0, 0], [7, 8, 9, 10], [11, 0, 0, 0]]
    segments = np.load(tmp_path / "data-00000.segments.npy", mmap_mode="r")
    assert segments.tolist() == [[0, 3], [3, 1], [4, 2], [8, 4], [12, 1]]
    assert np.load(tmp_path / "data-00000.loss_mask.npy").shape == (4, 4)


def table_of(folder: Path, file_format: str) -> Any:
    path = folder / f"data-00000.{file_format}"
    if file_format == "parquet":
        return pq.read_table(path, page_checksum_verification=True)
    with pa.memory_map(str(path)) as file:
        return pa.ipc.open_stream(file).read_all()


@pytest.mark.parametrize("file_format", ["parquet", "arrow"])
def test_a_table_has_a_row_per_document(tmp_path: Path, file_format: str) -> None:
    """Documents are numbered through the whole output."""
    shard_of(tmp_path, settings_of(file_format, loss_mask=True))
    table = table_of(tmp_path, file_format)
    assert table.column("input_ids").to_pylist() == DOCUMENTS
    assert table.column("loss_mask").to_pylist() == [[each % 2 for each in part] for part in DOCUMENTS]
    assert table.column("doc_id").to_pylist() == [100, 101, 102, 103, 104]


@pytest.mark.parametrize("file_format", ["parquet", "arrow"])
def test_a_table_has_a_row_per_packed_sequence(tmp_path: Path, file_format: str) -> None:
    """What the lengths leave is padding."""
    shard_of(tmp_path, settings_of(file_format, pack_length=4))
    rows = table_of(tmp_path, file_format).to_pylist()
    assert rows == [
        {"input_ids": [1, 2, 3, 4], "doc_id": [100, 102], "seq_lengths": [3, 1]},
        {"input_ids": [5, 6, 0, 0], "doc_id": [103], "seq_lengths": [2]},
        {"input_ids": [7, 8, 9, 10], "doc_id": [104], "seq_lengths": [4]},
        {"input_ids": [11, 0, 0, 0], "doc_id": [104], "seq_lengths": [1]},
    ]


def test_the_provenance_leads_back_to_the_input(tmp_path: Path) -> None:
    """Every stretch of tokens has its source and the place of its document there."""
    shard_of(tmp_path, settings_of("megatron", pack_length=4))
    columns = pq.read_table(tmp_path / "data-00000.provenance.parquet").to_pydict()
    assert columns == {
        "doc_id": [100, 102, 103, 104, 104],
        "source": ["a.jsonl"] * 5,
        "start": [0, 20, 0, 10, 10],
        "end": [9, 29, 9, 19, 19],
        "first_token": [0, 3, 4, 8, 12],
        "tokens": [3, 1, 2, 4, 1],
    }


@pytest.mark.parametrize("pack_length", [None, 4])
@pytest.mark.parametrize("file_format", FORMATS)
def test_a_shard_of_nothing_can_be_written(tmp_path: Path, file_format: str, pack_length: int | None) -> None:
    """Inputs without documents are no reason to fail."""
    settings = settings_of(file_format, pack_length=pack_length, loss_mask=True)
    record = shard_of(tmp_path, settings, units=[[]])
    assert (record.documents, record.tokens, record.sequences) == (0, 0, 0)


@pytest.mark.parametrize("file_format", FORMATS)
def test_no_shard_takes_in_a_torn_part(tmp_path: Path, file_format: str) -> None:
    """The bytes are compared while they are copied, and the file does not appear."""
    settings = settings_of(file_format)
    parts = write_parts(tmp_path / ".work", UNITS, settings)
    content = bytearray(parts[2].read_bytes())
    content[-64] ^= 1
    parts[2].write_bytes(content)
    with pytest.raises(DamagedPart):
        write_shard(tmp_path, 0, parts, settings, 0, 0)
    assert [path.name for path in tmp_path.iterdir()] == [".work"]


def test_no_shard_takes_in_ids_of_another_size(tmp_path: Path) -> None:
    """Sixteen bits read as thirty-two are other tokens."""
    parts = write_parts(tmp_path / ".work", UNITS, settings_of("npy"))
    with pytest.raises(DamagedPart, match="uint16"):
        write_shard(tmp_path, 0, parts, settings_of("npy", vocabulary=100_000), 0, 0)


@pytest.mark.parametrize(
    ("file_format", "ending"),
    [("megatron", "bin"), ("npy", "npy"), ("parquet", "parquet"), ("arrow", "arrow")],
)
def test_a_full_disk_is_an_error_for_the_person(tmp_path: Path, file_format: str, ending: str) -> None:
    """It names the file; nothing half-written stays."""
    settings = settings_of(file_format)
    parts = write_parts(tmp_path / ".work", [[[1] * 10, list(range(900))]], settings)
    with largest_file(100), pytest.raises(WorkFailed, match="free some space") as caught:
        write_shard(tmp_path, 0, parts, settings, 0, 0)
    assert caught.value.where == str(tmp_path / f"data-00000.{ending}")
    assert [path.name for path in tmp_path.iterdir()] == [".work"]
