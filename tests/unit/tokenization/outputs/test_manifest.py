"""``manifest.json``."""

import json
from pathlib import Path

import pytest
from made_tokens import manifest_of, write_output

from asynckit.errors import InputError
from asynckit.tokenization.outputs.dataset import TokenDataset
from asynckit.tokenization.outputs.manifest import MANIFEST, read_manifest, write_manifest
from asynckit.tokenization.outputs.shards import ShardSettings

SETTINGS = ShardSettings("npy", 1000, ("a.jsonl",))


def test_a_manifest_comes_back(tmp_path: Path) -> None:
    """And writing it again gives the same bytes."""
    manifest = write_output(tmp_path, [[[[1, 2]]]], SETTINGS)
    content = (tmp_path / MANIFEST).read_bytes()
    assert read_manifest(tmp_path) == manifest
    write_manifest(tmp_path, read_manifest(tmp_path))
    assert (tmp_path / MANIFEST).read_bytes() == content


def test_a_folder_without_a_manifest_says_how_to_finish_it(tmp_path: Path) -> None:
    """It is what an interrupted command leaves."""
    with pytest.raises(InputError, match="run the same command again"):
        read_manifest(tmp_path)


def test_a_folder_that_is_not_there_says_which_one_is_meant(tmp_path: Path) -> None:
    """The mend names the flag that made it."""
    with pytest.raises(InputError, match="--out"):
        read_manifest(tmp_path / "none")


@pytest.mark.parametrize("content", ["", "{", "[]", '{"schema": "asynckit.tokens/1"}', '{"schema": 1}'])
def test_a_damaged_manifest_is_an_error(tmp_path: Path, content: str) -> None:
    """With its path."""
    (tmp_path / MANIFEST).write_text(content)
    with pytest.raises(InputError, match="damaged") as caught:
        read_manifest(tmp_path)
    assert caught.value.where == str(tmp_path / MANIFEST)


@pytest.mark.parametrize(
    ("key", "value"),
    [("format", "tar"), ("dtype", "float64"), ("pack_length", 0), ("shards", [{}]), ("more", 1)],
)
def test_a_value_that_cannot_be_is_an_error(tmp_path: Path, key: str, value: object) -> None:
    """Arrays are read as the manifest says."""
    write_output(tmp_path, [[[[1, 2]]]], SETTINGS)
    content = json.loads((tmp_path / MANIFEST).read_bytes())
    (tmp_path / MANIFEST).write_text(json.dumps(content | {key: value}))
    with pytest.raises(InputError, match=key):
        read_manifest(tmp_path)


def test_bytes_that_are_no_text_are_damage(tmp_path: Path) -> None:
    """Not a traceback."""
    (tmp_path / MANIFEST).write_bytes(b'{"schema": "\xff"}')
    with pytest.raises(InputError, match="damaged"):
        read_manifest(tmp_path)


def test_another_schema_is_named(tmp_path: Path) -> None:
    """A later version's folder is not taken for a damaged one."""
    (tmp_path / MANIFEST).write_text(json.dumps({"schema": "asynckit.tokens/2", "more": 1}))
    with pytest.raises(InputError, match=r"asynckit\.tokens/2"):
        read_manifest(tmp_path)


def test_shards_that_do_not_follow_one_another_are_refused(tmp_path: Path) -> None:
    """Positions would lead to other tokens."""
    manifest = write_output(tmp_path, [[[[1, 2]]], [[[3]]]], SETTINGS)
    write_manifest(tmp_path, manifest_of(manifest.shards[::-1], SETTINGS))
    with pytest.raises(InputError, match="does not follow"):
        TokenDataset.open(tmp_path)
