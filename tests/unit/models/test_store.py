"""Keeps hostile names and foreign errors of remote stores out."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import fsspec
import pytest
from fsspec.implementations.memory import MemoryFileSystem

from asynckit.errors import AsynckitError, DependencyError, InputError, ModelNotFound
from asynckit.models.files import Selection
from asynckit.models.store import RemoteFolder, shown

ALL = Selection()


class OddStore(MemoryFileSystem):  # type: ignore[misc]  # fsspec has no types
    """A store whose listing and reading a test decides."""

    protocol = "odd"
    store: dict[str, Any] = {}  # noqa: RUF012 - as fsspec's own class has it
    pseudo_dirs = [""]  # noqa: RUF012
    names: tuple[str, ...] = ()
    fault: Exception | None = None

    @classmethod
    def _strip_protocol(cls, path: str) -> str:
        return str(super()._strip_protocol(path.removeprefix(f"{cls.protocol}://")))

    def find(self, *_: Any, **__: Any) -> dict[str, dict[str, Any]]:
        """List the names that the test set."""
        if self.fault:
            raise self.fault
        return {name: {"name": name, "type": "file", "size": 3} for name in self.names}

    def ukey(self, path: str) -> str:
        """Give a version for every file."""
        return f"version of {path}"

    def cat_file(self, *_: Any, **__: Any) -> bytes:
        """Give two bytes, whatever was asked for."""
        return b"ab"


@pytest.fixture
def odd() -> Iterator[type[OddStore]]:
    fsspec.register_implementation("odd", OddStore, clobber=True)
    yield OddStore
    OddStore.names, OddStore.fault = (), None


def test_files_are_listed_at_any_depth(tmp_path: Path) -> None:
    """Paths inside the folder, sizes and a version come from the store, sorted."""
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "b").write_text("bb")
    (tmp_path / "a").write_text("a")
    files = RemoteFolder(f"file://{tmp_path}").list_files(ALL)
    assert [(file.path, file.size) for file in files] == [("a", 1), ("sub/b", 2)]
    assert all(file.version.startswith("mtime=") for file in files)


@pytest.mark.parametrize(
    "name",
    ["/m/../../etc/passwd", "/m/a/../../b", "/other/a", "/m//a", "/m/./a", "/m/..", "/m/a\\..\\b", "/m/a\0b"],
)
def test_a_name_that_leads_out_of_the_folder_is_refused(odd: type[OddStore], name: str) -> None:
    """A hostile store cannot write outside the cache."""
    odd.names = (name,)
    with pytest.raises(InputError, match="unsafe file name"):
        RemoteFolder("odd://m").list_files(ALL)


def test_a_file_is_not_a_folder(odd: type[OddStore]) -> None:
    """Naming the weights themselves says to name their folder."""
    odd.names = ("/m",)
    with pytest.raises(InputError, match="name the folder"):
        RemoteFolder("odd://m").list_files(ALL)


def test_a_store_without_versions_is_asked_for_one(odd: type[OddStore]) -> None:
    """The key of fsspec itself stands in where a listing has neither tag nor time."""
    odd.names = ("/m/a",)
    assert RemoteFolder("odd://m").list_files(ALL)[0].version == "version of /m/a"


def test_a_short_read_is_an_error(odd: type[OddStore]) -> None:
    """A store that gives fewer bytes than asked cannot shorten a file silently."""
    odd.names = ("/m/a",)
    folder = RemoteFolder("odd://m")
    with pytest.raises(DependencyError, match="asked for 3 bytes from 0, got 2"):
        folder.read(folder.list_files(ALL)[0], 0, 3)


@pytest.mark.parametrize(
    "fault", [PermissionError("denied"), RuntimeError("botocore says\nmuch"), ValueError()]
)
def test_whatever_a_driver_raises_is_named(odd: type[OddStore], fault: Exception) -> None:
    """Drivers share no error type, and still nobody sees a traceback."""
    odd.fault = fault
    with pytest.raises(DependencyError, match=f"cannot be read: {type(fault).__name__}"):
        RemoteFolder("odd://m").list_files(ALL)


@pytest.mark.parametrize("url", [f"memory://{uuid4()}", f"file:///{uuid4()}"])
def test_an_empty_or_absent_folder_is_not_found(url: str) -> None:
    """A wrong address is told from a wrong model."""
    with pytest.raises(ModelNotFound, match="no folder with such files"):
        RemoteFolder(url).list_files(ALL)


def test_an_unknown_protocol_is_not_found() -> None:
    """A typing error in the protocol is named."""
    with pytest.raises(ModelNotFound, match="unknown protocol s4://"):
        RemoteFolder("s4://bucket/model")


@pytest.mark.parametrize(("protocol", "package"), [("s3", "s3fs"), ("gs", "gcsfs")])
def test_a_missing_driver_says_what_to_install(protocol: str, package: str) -> None:
    """The mend can be pasted into a shell."""
    try:
        __import__(package)
    except ImportError:
        with pytest.raises(DependencyError, match=f"pip install {package}"):
            RemoteFolder(f"{protocol}://bucket/model")
    else:
        pytest.skip(f"{package} is installed")


def test_hdfs_without_java_is_one_sentence() -> None:
    """The HDFS driver fails in its own way, and that is reported like the rest."""
    with pytest.raises(AsynckitError) as caught:
        RemoteFolder("hdfs://name-node.invalid:9000/model").list_files(ALL)
    assert caught.value.exit_code == 5


def test_passwords_are_not_shown() -> None:
    """An address in a message carries no secret."""
    assert shown("ftp://me:secret@host/a") == "ftp://me:***@host/a"
    assert shown("s3://bucket/a@b:c") == "s3://bucket/a@b:c"


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("s3://bucket/a.jsonl", "s3://bucket/a.jsonl"),
        ("ftp://me:secret@host/a", "ftp://me:***@host/a"),
        ("https://a.blob/x.jsonl?sv=2024&sig=ab%2Bc&sr=b", "https://a.blob/x.jsonl?sv=2024&sig=***&sr=b"),
        ("https://s3/x?X-Amz-Signature=0f&X-Amz-Date=1", "https://s3/x?X-Amz-Signature=***&X-Amz-Date=1"),
        ("404, url='https://me:secret@host/x?token=t'", "404, url='https://me:***@host/x?token=***'"),
        ("https://host/x?design=1&monkey=2", "https://host/x?design=1&monkey=2"),
    ],
)
def test_what_opens_an_address_is_not_shown(url: str, expected: str) -> None:
    """Names of inputs go into manifests, which are published."""
    assert shown(url) == expected
