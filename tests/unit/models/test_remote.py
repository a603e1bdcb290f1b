"""Keeps copies of remote folders whole, unmixed and fetched once."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

import fsspec
import pytest
from fsspec.implementations.memory import MemoryFileSystem

from asynckit.errors import DependencyError
from asynckit.models import remote
from asynckit.models.files import model_files
from asynckit.models.remote import copy_to_local


class FlakyStore(MemoryFileSystem):  # type: ignore[misc]  # fsspec has no types
    """A memory store that counts what is read and breaks off after ``allowance`` bytes."""

    protocol = "flaky"
    store: ClassVar[dict[str, Any]] = {}
    pseudo_dirs: ClassVar[list[str]] = [""]
    read_bytes: ClassVar[int] = 0
    allowance: ClassVar[float] = float("inf")

    @classmethod
    def _strip_protocol(cls, path: str) -> str:
        return str(super()._strip_protocol(path.removeprefix(f"{cls.protocol}://")))

    def cat_file(self, path: str, start: int | None = None, end: int | None = None, **options: Any) -> bytes:
        """Read as the memory store does, until the allowance is spent."""
        if FlakyStore.read_bytes >= FlakyStore.allowance:
            raise ConnectionResetError("the line went dead")
        data = bytes(super().cat_file(path, start=start, end=end, **options))
        FlakyStore.read_bytes += len(data)
        return data


@pytest.fixture
def flaky(monkeypatch: pytest.MonkeyPatch) -> Iterator[FlakyStore]:
    """A flaky store with two files of 10 kB in ``flaky://m``, read in pieces of 1000 bytes."""
    fsspec.register_implementation("flaky", FlakyStore, clobber=True)
    monkeypatch.setattr(remote, "CHUNK_BYTES", 1000)
    FlakyStore.store.clear()
    FlakyStore.read_bytes, FlakyStore.allowance = 0, float("inf")
    store = FlakyStore()
    store.pipe_file("/m/a.json", bytes(range(250)) * 40)
    store.pipe_file("/m/sub/b.json", b"b" * 10_000)
    yield store
    FlakyStore.store.clear()


def test_a_folder_is_copied_whole_and_once(flaky: FlakyStore, tmp_path: Path) -> None:
    """Content and layout are those of the source, and the second call reads nothing."""
    copy = copy_to_local("flaky://m", tmp_path)
    assert (copy / "a.json").read_bytes() == bytes(range(250)) * 40
    assert (copy / "sub" / "b.json").read_bytes() == b"b" * 10_000
    assert copy_to_local("flaky://m", tmp_path) == copy
    assert flaky.read_bytes == 20_000


def test_an_interrupted_copy_goes_on_where_it_stopped(flaky: FlakyStore, tmp_path: Path) -> None:
    """After a fault no byte is fetched twice, and nothing half-made is returned."""
    FlakyStore.allowance = 13_000
    with pytest.raises(DependencyError, match=r"ConnectionResetError.*what has arrived is kept"):
        copy_to_local("flaky://m", tmp_path)
    assert [path.suffix for path in (tmp_path / "remote").iterdir() if path.is_dir()] == [".partial"]
    FlakyStore.allowance = float("inf")
    copy = copy_to_local("flaky://m", tmp_path)
    assert flaky.read_bytes == 20_000
    assert (copy / "a.json").read_bytes() == bytes(range(250)) * 40
    assert (copy / "sub" / "b.json").read_bytes() == b"b" * 10_000
    assert sorted(path.name for path in copy.rglob("*")) == ["a.json", "b.json", "sub"]


def test_a_changed_source_is_copied_anew(flaky: FlakyStore, tmp_path: Path) -> None:
    """A copy is never a mixture of two versions, and an interrupted one of an old version is removed."""
    FlakyStore.allowance = 13_000
    with pytest.raises(DependencyError):
        copy_to_local("flaky://m", tmp_path)
    FlakyStore.allowance = float("inf")
    flaky.pipe_file("/m/a.json", b"new" * 1000)
    copy = copy_to_local("flaky://m", tmp_path)
    assert (copy / "a.json").read_bytes() == b"new" * 1000
    assert [path for path in (tmp_path / "remote").iterdir() if path.is_dir()] == [copy]


@pytest.mark.usefixtures("flaky")
def test_a_source_that_changes_meanwhile_is_refused(tmp_path: Path) -> None:
    """A trainer that saves over the folder during the copy is noticed."""
    original = FlakyStore.cat_file

    class ChangingStore(FlakyStore):
        protocol = "changing"

        def cat_file(
            self, path: str, start: int | None = None, end: int | None = None, **options: Any
        ) -> bytes:
            if path.endswith("b.json") and start == 0:
                self.pipe_file("/m/a.json", b"changed")
            return original(self, path, start, end, **options)

    fsspec.register_implementation("changing", ChangingStore, clobber=True)
    with pytest.raises(DependencyError, match="changed while it was copied"):
        copy_to_local("changing://m", tmp_path)
    assert not [path for path in (tmp_path / "remote").iterdir() if path.is_dir()]
    assert (copy_to_local("flaky://m", tmp_path) / "a.json").read_bytes() == b"changed"


@pytest.mark.usefixtures("flaky")
def test_a_partial_file_that_is_too_long_is_not_used(tmp_path: Path) -> None:
    """Sizes are verified before a file gets its name."""
    FlakyStore.allowance = 1000
    with pytest.raises(DependencyError):
        copy_to_local("flaky://m", tmp_path)
    FlakyStore.allowance = float("inf")
    partial = next((tmp_path / "remote").rglob("a.json.partial"))
    partial.write_bytes(b"x" * 10_001)
    with pytest.raises(DependencyError, match=r"longer than a\.json"):
        copy_to_local("flaky://m", tmp_path)
    assert (copy_to_local("flaky://m", tmp_path) / "a.json").read_bytes() == bytes(range(250)) * 40


def test_only_wanted_files_are_copied(flaky: FlakyStore, tmp_path: Path) -> None:
    """Pickles and other formats stay where they are."""
    flaky.pipe_file("/m/pytorch_model.bin", b"pickle")
    copy = copy_to_local("flaky://m", tmp_path, files=model_files(code=False))
    assert [path.name for path in copy.iterdir()] == ["a.json"]


def test_empty_files_are_copied(flaky: FlakyStore, tmp_path: Path) -> None:
    """A file of no bytes arrives as one."""
    flaky.pipe_file("/m/empty.txt", b"")
    assert (copy_to_local("flaky://m", tmp_path) / "empty.txt").read_bytes() == b""


def test_a_disk_that_is_too_small_is_told_before_the_copy(
    flaky: FlakyStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody waits an hour to learn that the disk is full."""
    monkeypatch.setattr("shutil.disk_usage", lambda _: type("Usage", (), {"free": 10})())
    with pytest.raises(DependencyError, match="GB free"):
        copy_to_local("flaky://m", tmp_path)
    assert flaky.read_bytes == 0


def test_progress_goes_to_stderr(
    flaky: FlakyStore, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A bar is drawn when it is asked for, and never on stdout."""
    copy_to_local("flaky://m", tmp_path / "quiet")
    assert capsys.readouterr() == ("", "")
    copy_to_local("flaky://m", tmp_path / "loud", progress=True)
    out, err = capsys.readouterr()
    assert out == ""
    assert "20.0k/20.0k" in err
    assert flaky.read_bytes == 40_000


_COPY = """
import os, sys
from pathlib import Path
import fsspec
from fsspec.implementations.local import LocalFileSystem
from asynckit.models.remote import copy_to_local

class CountingStore(LocalFileSystem):
    protocol = "counting"
    def cat_file(self, path, start=None, end=None, **options):
        with open(sys.argv[3], "a") as log:
            log.write(f"{end - start}\\n")
        return super().cat_file(path, start=start, end=end, **options)
    @classmethod
    def _strip_protocol(cls, path):
        return super()._strip_protocol(path.removeprefix("counting://"))

fsspec.register_implementation("counting", CountingStore)
print(copy_to_local("counting://" + sys.argv[1], Path(sys.argv[2])))
"""


def test_ten_processes_copy_once(tmp_path: Path) -> None:
    """However many workers start at once, every byte is fetched once and all get the same folder."""
    source = tmp_path / "source"
    source.mkdir()
    for name in "abc":
        (source / f"{name}.json").write_bytes(name.encode() * 100_000)
    log = tmp_path / "log"
    command = [sys.executable, "-c", _COPY, str(source), str(tmp_path / "cache"), str(log)]
    processes = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(10)]
    answers = [process.communicate(timeout=120)[0] for process in processes]
    assert [process.returncode for process in processes] == [0] * 10
    assert len(set(answers)) == 1
    assert sum(map(int, log.read_text().split())) == 300_000
    assert (Path(answers[0].strip()) / "c.json").read_bytes() == b"c" * 100_000
