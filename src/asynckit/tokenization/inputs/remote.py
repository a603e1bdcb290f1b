"""Files behind URLs, through fsspec, with every fault named.

A driver may raise anything: botocore, aiohttp and libhdfs share no base class below Exception.
"""

import contextlib
from collections.abc import Callable, Iterator
from typing import Any, BinaryIO, cast

from asynckit.errors import AsynckitError, DependencyError, InputError
from asynckit.models.store import installation, shown, version_of
from asynckit.tokenization.inputs.faults import Unusable


def ranges_of(url: str) -> Callable[[int, int], bytes]:
    """A function that gives the bytes ``[start, end)`` of a file, never fewer, by ranged reads."""
    store, path = connect(url)

    def read(start: int, end: int) -> bytes:
        with named_faults(url):
            data = bytes(store.cat_file(path, start=start, end=end)) if end > start else b""
        if len(data) != end - start:
            raise DependencyError(
                f"asked for {end - start} bytes from {start}, got {len(data)}",
                where=shown(url),
                mend="try again; the file may be changing, or the store may not support ranged reads",
            )
        return data

    return read


def opened(url: str) -> BinaryIO:
    """A file, to be read from its first byte on."""
    store, path = connect(url)
    with named_faults(url):
        return cast("BinaryIO", store.open(path, "rb", block_size=4 << 20, cache_type="readahead"))


def size_and_version(url: str) -> tuple[int, str]:
    """How many bytes a file has, and what changes when it does."""
    store, path = connect(url)
    with named_faults(url):
        info = store.info(path)
        if info["type"] == "directory":
            raise InputError("is a folder, not a file", where=shown(url), mend="name a file in it")
        if info.get("size") is None:
            mend = "copy the file here first"
            raise InputError("the server does not say how long it is", where=shown(url), mend=mend)
        return int(info["size"]), version_of(store, path, info)


def is_pattern(url: str) -> bool:
    """Whether ``url`` is a glob; a question mark begins the query of an address of the web."""
    return "*" in url or ("?" in url and not url.startswith(("http://", "https://")))


def matches(url: str) -> list[str]:
    """URLs of the files that a glob matches, sorted."""
    store, path = connect(url)
    with named_faults(url):
        found = store.glob(path, detail=True)
        return sorted(
            str(store.unstrip_protocol(name)) for name, info in found.items() if info["type"] == "file"
        )


def is_folder(url: str) -> bool:
    """Whether ``url`` is a folder."""
    store, path = connect(url)
    with named_faults(url):
        return bool(store.isdir(path))


def files_below(url: str) -> list[str]:
    """The files at any depth of a folder, relative to it."""
    store, path = connect(url)
    root = path.rstrip("/") + "/"
    with named_faults(url):
        return [str(name).removeprefix(root) for name in store.find(path)]


def connect(url: str) -> tuple[Any, str]:
    """The fsspec filesystem for ``url``, and the path in it.

    Raises:
        InputError: no driver knows the protocol.
        DependencyError: the driver is not installed, or cannot be started.
    """
    from fsspec.core import url_to_fs
    from fsspec.registry import get_filesystem_class, known_implementations

    protocol = url.partition("://")[0]
    try:
        get_filesystem_class(protocol)
    except ValueError as error:
        mend = "use s3://, gs://, hdfs:// or another protocol that fsspec knows"
        raise InputError(f"unknown protocol {protocol}://", where=shown(url), mend=mend) from error
    except ImportError as error:
        mend = installation(protocol.replace("https", "http"), known_implementations[protocol]["class"])
        raise DependencyError(
            f"the driver for {protocol}:// is not installed", where=shown(url), mend=mend
        ) from error
    with named_faults(url):
        store, path = url_to_fs(url)
        return store, path


@contextlib.contextmanager
def named_faults(url: str) -> Iterator[None]:
    """Turn what a driver raises into an error for a person."""
    try:
        yield
    except (AsynckitError, Unusable):
        raise
    except FileNotFoundError as error:
        raise InputError("there is no such file", where=shown(url), mend="check the address") from error
    except Exception as error:
        reason = (str(error).splitlines() or [""])[0]
        raise DependencyError(
            f"cannot be read: {type(error).__name__}: {shown(reason)}",
            where=shown(url),
            mend="check address, credentials and network, and run again",
        ) from error
