"""What ``datasets`` reads beside Arrow shards."""

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from made_tokens import Documents, write_output

from asynckit.tokenization.outputs.shards import ShardSettings

SHARDS: list[list[Documents]] = [[[[1, 2], [3]]], [[[4, 5, 6]]]]
SETTINGS = ShardSettings("arrow", 1000, ("a.jsonl",))


def state_of(folder: Path) -> Any:
    return json.loads((folder / "state.json").read_bytes())


def test_the_state_names_the_shards_in_order(tmp_path: Path) -> None:
    """And each is a stream that can be mapped, which is how the library opens them."""
    write_output(tmp_path, SHARDS, SETTINGS)
    names = [file["filename"] for file in state_of(tmp_path)["_data_files"]]
    assert names == ["data-00000.arrow", "data-00001.arrow"]
    rows = []
    for name in names:
        with pa.memory_map(str(tmp_path / name)) as file:
            rows += pa.ipc.open_stream(file).read_all().column("input_ids").to_pylist()
    assert rows == [[1, 2], [3], [4, 5, 6]]


def test_the_fingerprint_changes_with_the_data_alone(tmp_path: Path) -> None:
    """The library names its caches by it."""
    for name, shards in (("a", SHARDS), ("b", SHARDS), ("c", SHARDS[:1])):
        write_output(tmp_path / name, shards, SETTINGS)
    first, again, other = (state_of(tmp_path / name)["_fingerprint"] for name in "abc")
    assert first == again != other


@pytest.mark.parametrize("file_format", ["megatron", "npy", "parquet"])
def test_other_formats_have_no_state(tmp_path: Path, file_format: str) -> None:
    """The library would look for Arrow streams."""
    write_output(tmp_path, SHARDS, ShardSettings(file_format, 1000, ("a.jsonl",)))
    assert not (tmp_path / "state.json").exists()
