"""Which files are read, and in which order."""

import gzip
import json
import os
import sys
import uuid
from collections.abc import Iterator
from pathlib import Path

import fsspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from read_inputs import read_inputs

from asynckit.errors import DependencyError, InputError, UsageError
from asynckit.tokenization.config import TokenizationConfig
from asynckit.tokenization.inputs.listing import list_sources

_LINE = '{"text": "a"}\n'


def _names(*inputs: object, **settings: str) -> list[str]:
    config = TokenizationConfig(**settings)  # type: ignore[arg-type] # settings are texts here
    return [source.name for source in list_sources(list(map(str, inputs)), config)]


def _make(folder: Path, *names: str) -> None:
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(_LINE)


def test_folders_are_read_at_every_depth_in_order(tmp_path: Path) -> None:
    """Sorted by path; hidden files, and files of unknown kinds, are left out."""
    _make(tmp_path, "b.jsonl", "a/z.jsonl", "a/.hidden.jsonl", ".git/x.jsonl", "c.bin", "Makefile")
    assert _names(tmp_path) == [str(tmp_path / "a/z.jsonl"), str(tmp_path / "b.jsonl")]


def test_a_readme_beside_data_is_no_document(tmp_path: Path) -> None:
    """Texts of a folder are read where nothing else is there, or where they are asked for."""
    _make(tmp_path, "README.md", "notes.txt")
    assert len(_names(tmp_path)) == 2
    _make(tmp_path, "data.jsonl")
    assert _names(tmp_path) == [str(tmp_path / "data.jsonl")]
    assert len(_names(tmp_path, input_format="text")) == 3


def test_files_come_once_where_they_come_first(tmp_path: Path) -> None:
    """A folder and a glob may hold the same file; one that is named twice by itself is a mistake."""
    _make(tmp_path, "a.jsonl", "b.jsonl")
    first, second = str(tmp_path / "a.jsonl"), str(tmp_path / "b.jsonl")
    assert _names(second, tmp_path, tmp_path / "*.jsonl") == [second, first]
    with pytest.raises(UsageError, match="is named twice"):
        _names(first, f"{tmp_path}/./a.jsonl")


@pytest.mark.skipif(sys.platform == "darwin", reason="its file system has only names in UTF-8")
def test_a_name_that_is_no_utf_8_is_refused(tmp_path: Path) -> None:
    """Manifests could not keep it."""
    Path(os.fsdecode(bytes(tmp_path) + b"/\xff.jsonl")).write_text(_LINE)
    with pytest.raises(InputError, match="its name is not valid UTF-8") as raised:
        _names(tmp_path)
    assert raised.value.where == f"{tmp_path}/\\udcff.jsonl"


def test_globs(tmp_path: Path) -> None:
    """They are sorted, reach any depth with **, and go into folders that they match."""
    _make(tmp_path, "x/b.jsonl", "x/y/a.jsonl", "c.jsonl")
    assert _names(tmp_path / "**/*.jsonl") == [
        str(tmp_path / name) for name in ("c.jsonl", "x/b.jsonl", "x/y/a.jsonl")
    ]
    assert _names(tmp_path / "x*") == [str(tmp_path / name) for name in ("x/b.jsonl", "x/y/a.jsonl")]
    assert _names(tmp_path / "[c].jsonl") == [str(tmp_path / "c.jsonl")]


def test_links(tmp_path: Path) -> None:
    """Snapshots of the Hub are links to files; a link that leads back up ends nothing but itself."""
    _make(tmp_path, "blobs/123")
    (tmp_path / "snapshot").mkdir()
    (tmp_path / "snapshot/a.jsonl").symlink_to(tmp_path / "blobs/123")
    (tmp_path / "snapshot/up").symlink_to(tmp_path / "snapshot")
    assert _names(tmp_path / "snapshot") == [str(tmp_path / "snapshot/a.jsonl")]
    (tmp_path / "snapshot/b.jsonl").symlink_to(tmp_path / "gone")
    with pytest.raises(InputError, match="leads nowhere"):
        _names(tmp_path / "snapshot")


@pytest.mark.parametrize(
    ("name", "error", "message", "mend"),
    [
        ("dat.jsonl", InputError, "there is no such file or folder", "did you mean data.jsonl?"),
        ("*.csv", InputError, "matches no file", "check the pattern"),
        ("empty", InputError, "the folder holds no files", ".jsonl"),
        ("pictures", InputError, "no files that can be read, only .png", ".jsonl"),
        ("data.bin", InputError, "does not tell its format", "--input-format"),
        ("data.parquet.gz", InputError, "Parquet inside gzip", "unpack"),
        ("pipe", InputError, "is no regular file", "read -"),
    ],
)
def test_what_cannot_be_read(
    tmp_path: Path, name: str, error: type[Exception], message: str, mend: str
) -> None:
    """Each is an error with the place and the mend, before any work begins."""
    _make(tmp_path, "data.jsonl", "data.bin", "data.parquet.gz", "pictures/a.png")
    (tmp_path / "empty").mkdir()
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(error, match=message) as caught:
        _names(tmp_path / name)
    assert caught.value.where == str(tmp_path / name)  # type: ignore[attr-defined] # all are AsynckitErrors
    assert mend in caught.value.mend  # type: ignore[attr-defined]


def test_nothing_is_no_input() -> None:
    """An empty list is refused: it would make an empty output."""
    with pytest.raises(UsageError, match="nothing to read"):
        _names()


def test_saved_datasets(tmp_path: Path) -> None:
    """What save_to_disk wrote is read without its caches; several splits are refused."""
    for split in ("train", "test"):
        _make(tmp_path, f"{split}/state.json", f"{split}/dataset_info.json")
        for name in ("data-00000-of-00001.arrow", "cache-1f.arrow"):
            table = pa.table({"text": [split]})
            with (
                pa.OSFile(str(tmp_path / split / name), "wb") as file,
                pa.ipc.new_stream(file, table.schema) as out,
            ):
                out.write_table(table)
    _make(tmp_path, "dataset_dict.json")
    assert read_inputs(tmp_path / "train").rows == [("train",)]
    with pytest.raises(UsageError, match="several splits: test, train") as caught:
        _names(tmp_path)
    assert f"{tmp_path}/train" in caught.value.mend
    (tmp_path / "train/indices.arrow").touch()
    with pytest.raises(InputError, match="separate order of its rows") as wrong:
        _names(tmp_path / "train")
    assert "flatten_indices" in wrong.value.mend


def test_snapshots_of_the_hub(tmp_path: Path) -> None:
    """Training and test data side by side are not read together unless a glob says so."""
    (tmp_path / "data").mkdir()
    for split in ("train", "test"):
        for number in range(2):
            pq.write_table(
                pa.table({"text": [f"{split}{number}"]}),
                tmp_path / f"data/{split}-0000{number}-of-00002.parquet",
            )
    _make(tmp_path, "README.md")
    with pytest.raises(UsageError, match="several splits: test, train") as caught:
        _names(tmp_path)
    assert f"{tmp_path}/data/train*.parquet" in caught.value.mend
    assert read_inputs(tmp_path / "data/train*.parquet").rows == [("train0",), ("train1",)]
    assert len(_names(tmp_path / "data/*.parquet")) == 4


def test_the_identity_changes_with_the_file(tmp_path: Path) -> None:
    """Size, time of change and sampled content are in it."""
    path = tmp_path / "a.jsonl"
    path.write_text(_LINE)
    config = TokenizationConfig()
    [before] = list_sources([str(path)], config)
    assert list_sources([str(path)], config) == [before]
    status = path.stat()
    path.write_text(_LINE.replace("a", "b"))
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert list_sources([str(path)], config)[0].identity != before.identity


@pytest.fixture
def store() -> Iterator[str]:
    """The URL of an empty folder in a store."""
    url = f"memory://{uuid.uuid4().hex}"
    yield url
    fsspec.filesystem("memory").rm(url, recursive=True)


def test_remote_inputs(store: str, tmp_path: Path) -> None:
    """Files, folders and globs of a store are read by range, or as a stream."""
    table = tmp_path / "a.parquet"
    pq.write_table(pa.table({"text": ["p"]}), table)
    lines = "".join(json.dumps({"text": f"line {number}"}) + "\n" for number in range(1000))
    memory = fsspec.filesystem("memory")
    for name, data in (
        ("a.jsonl", lines.encode()),
        ("b/c.jsonl.gz", gzip.compress(lines.encode())),
        ("p.parquet", table.read_bytes()),
        ("b/.hidden.jsonl", b"{"),
    ):
        memory.pipe(f"{store}/{name}", data)
    expected = [(f"line {number}",) for number in range(1000)]
    assert read_inputs(f"{store}/a.jsonl", unit_bytes=1024).rows == expected
    assert read_inputs(store, unit_bytes=1024).rows == [*expected, *expected, ("p",)]
    assert read_inputs(f"{store}/*.jsonl").rows == expected
    with pytest.raises(InputError, match="matches no file"):
        _names(f"{store}/*.csv")
    with pytest.raises(InputError, match="there is no such file"):
        _names(f"{store}/gone.jsonl")
    [source] = list_sources([f"{store}/a.jsonl"], TokenizationConfig())
    assert source.identity.startswith(f"{len(lines)} ")
    with pytest.raises(InputError, match="unknown protocol"):
        _names("nothing://x/a.jsonl")
    with pytest.raises(DependencyError, match="is not installed"):
        _names("abfs://x/a.jsonl")


@pytest.mark.parametrize("compressed", [False, True])
@pytest.mark.parametrize(
    ("form", "data"), [("jsonl", _LINE), ("csv", "text,id\na,1\n"), ("json", f"[{_LINE}]")]
)
def test_standard_input(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, form: str, data: str, compressed: bool
) -> None:
    """It needs a format, is unpacked by what it begins with, and nothing that was looked at is lost."""
    path = tmp_path / "in"
    path.write_bytes(gzip.compress(data.encode()) if compressed else data.encode())
    with path.open() as file:
        monkeypatch.setattr(sys, "stdin", file)
        assert read_inputs("-", input_format=form).rows == [("a",)]


def test_standard_input_needs_a_format() -> None:
    """Without a name it cannot be told, and files that are read in ranges cannot be piped."""
    with pytest.raises(UsageError, match="what standard input holds cannot be told"):
        _names("-")
    with pytest.raises(UsageError, match="Parquet cannot be read from standard input"):
        _names("-", input_format="parquet")
