"""Remote folders through fsspec: connecting, listing and reading, with every fault named.

A driver may raise anything: botocore, aiohttp and libhdfs share no base class below Exception.
``_named_faults`` is the one place where that is turned into errors of ours.
"""

import contextlib
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from asynckit.errors import AsynckitError, DependencyError, InputError, ModelNotFound
from asynckit.models.files import Selection

# What drivers call a file's version, best first. Access times are left out: reading changes no version.
_VERSION_KEYS = (
    *("ETag", "etag", "checksum", "md5Hash", "content_md5", "crc32c", "generation", "VersionId"),
    *("mtime", "modificationTime", "LastModified", "last_modified", "updated", "modified", "created"),
)


@dataclass(frozen=True)
class RemoteFile:
    """A file of a remote folder: path inside it, path in the store, bytes, what changes when it does."""

    path: str
    location: str
    size: int
    version: str


class RemoteFolder:
    """A folder at a URL; nothing is fetched before it is asked for.

    Raises:
        ModelNotFound: no driver knows the protocol.
        DependencyError: the driver is not installed or cannot be started.
    """

    def __init__(self, url: str) -> None:
        self.url = url
        self._store, self._root = _connect(url)

    def list_files(self, wanted: Selection) -> list[RemoteFile]:
        """The wanted files at any depth, sorted by path; read anew from the store each time."""
        with _named_faults(self.url):
            self._store.invalidate_cache()
            found = self._store.find(self._root, detail=True)
        files = [
            self._file(str(location), info) for location, info in found.items() if info["type"] == "file"
        ]
        files = [file for file in files if wanted.takes(file.path)]
        if not files:
            raise _nothing_there(self.url)
        return sorted(files, key=lambda file: file.path)

    def read(self, file: RemoteFile, start: int, end: int) -> bytes:
        """Bytes ``start`` to ``end`` of a file, by a ranged read; never fewer."""
        with _named_faults(self.url):
            data = bytes(self._store.cat_file(file.location, start=start, end=end))
            if len(data) != end - start:
                raise DependencyError(
                    f"{file.path}: asked for {end - start} bytes from {start}, got {len(data)}",
                    where=shown(self.url),
                    mend="try again; the file may be changing, or the store may not support ranged reads",
                )
        return data

    def _file(self, location: str, info: dict[str, Any]) -> RemoteFile:
        path = _path_inside(location, self._root, self.url)
        with _named_faults(self.url):
            version = version_of(self._store, location, info)
        return RemoteFile(path, location, int(info["size"]), version)


def version_of(store: Any, location: str, info: dict[str, Any]) -> str:
    """What changes when a file of an fsspec store does, by what the store says about the file."""
    for key in _VERSION_KEYS:
        if info.get(key) is not None:
            return f"{key}={info[key]}"
    return str(store.ukey(location))


def shown(url: str) -> str:
    """The URL with its password, and what signs it, hidden; likewise the URLs in a text."""
    without_password = re.sub(r"(?<=://)([^/@:\s]*):[^/@\s]*@", r"\1:***@", url)
    return _SIGNED.sub(r"\1***", without_password)


# Parameters of presigned addresses: S3's and Google's X-…-Signature, Azure's sig, and tokens.
_SIGNED = re.compile(
    r"""([?&][\w.-]*(?:\bsig|signature|token|credential|secret|password|\bkey|accesskeyid)=)[^&#\s'")]+""",
    re.IGNORECASE,
)


def _connect(url: str) -> tuple[Any, str]:
    """The fsspec filesystem for ``url`` and the folder's path in it."""
    from fsspec.core import url_to_fs
    from fsspec.registry import get_filesystem_class, known_implementations

    protocol = url.partition("://")[0]
    try:
        get_filesystem_class(protocol)
    except ValueError as error:
        mend = "use s3://, gs://, hdfs:// or another protocol that fsspec knows"
        raise ModelNotFound(f"unknown protocol {protocol}://", where=shown(url), mend=mend) from error
    except ImportError as error:
        mend = installation(protocol, known_implementations[protocol]["class"])
        raise DependencyError(
            f"the driver for {protocol}:// is not installed", where=shown(url), mend=mend
        ) from error
    with _named_faults(url):
        store, root = url_to_fs(url)
        return store, root.rstrip("/")


def installation(protocol: str, driver: str) -> str:
    """The command that installs the driver of a protocol, given the driver's dotted name."""
    package = driver.partition(".")[0]  # a driver outside fsspec is named on PyPI as its module is
    return f"pip install 'fsspec[{protocol}]'" if package == "fsspec" else f"pip install {package}"


@contextlib.contextmanager
def _named_faults(url: str) -> Iterator[None]:
    try:
        yield
    except AsynckitError:
        raise
    except (FileNotFoundError, NotADirectoryError) as error:
        raise _nothing_there(url) from error
    except Exception as error:
        reason = (str(error).splitlines() or [""])[0]
        raise DependencyError(
            f"cannot be read: {type(error).__name__}: {reason}",
            where=shown(url),
            mend="check address, credentials and network, and try again: what has arrived is kept",
        ) from error


def _nothing_there(url: str) -> ModelNotFound:
    return ModelNotFound("there is no folder with such files", where=shown(url), mend="check the address")


def _path_inside(location: str, root: str, url: str) -> str:
    """The path of ``location`` below ``root``; refuses one that leads out of the folder."""
    if location == root:
        raise InputError("that is a file", where=shown(url), mend="name the folder that it lies in")
    path = location.removeprefix(f"{root}/")
    unsafe = "\\" in path or "\0" in path or not {"", ".", ".."}.isdisjoint(path.split("/"))
    if path == location or unsafe:
        raise InputError(f"unsafe file name {location!r}", where=shown(url), mend="rename or remove the file")
    return path
