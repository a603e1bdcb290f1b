"""The stored bytes of a source: by range, or one after another."""

import contextlib
import io
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, BinaryIO, cast

from asynckit.errors import InputError
from asynckit.tokenization.inputs import remote
from asynckit.tokenization.inputs.names import STANDARD_INPUT, is_url
from asynckit.tokenization.records import Source

ReadRange = Callable[[int, int], bytes]


@contextlib.contextmanager
def ranges_of(source: Source) -> Iterator[ReadRange]:
    """A function that gives the stored bytes ``[start, end)``, never fewer.

    Raises:
        InputError: the source cannot be read, or is shorter than it was.
        DependencyError: its store cannot be reached.
    """
    if is_url(source.name):
        yield remote.ranges_of(source.name)
        return
    with opened(source) as file:
        yield lambda start, end: _read_range(file, start, end, source.name)


def opened(source: Source) -> BinaryIO:
    """The source from its first stored byte on, to be closed by the caller.

    Raises:
        InputError: it cannot be read.
        DependencyError: its store cannot be reached.
    """
    if source.name == STANDARD_INPUT:
        return cast("BinaryIO", _StandardInput())
    if is_url(source.name):
        return remote.opened(source.name)
    with named_faults(source.name):
        return Path(source.name).open("rb", buffering=0)


@contextlib.contextmanager
def beginning_of(source: Source) -> Iterator[BinaryIO]:
    """The source from its first stored byte on, for a look: what is read of standard input is put back."""
    with opened(source) as file:
        yield file
        if isinstance(file, _StandardInput):
            file.put_back()


class _StandardInput(io.RawIOBase):
    """Standard input from where nobody has read it yet."""

    _ahead = b""  # what was put back; there is one standard input

    def __init__(self) -> None:
        self._file = sys.stdin.fileno()
        self._taken: list[bytes] = []
        self._pending = _StandardInput._ahead
        _StandardInput._ahead = b""

    def readable(self) -> bool:
        """It is there to be read."""
        return True

    def readinto(self, buffer: Any) -> int:
        """Some bytes, and 0 at the end."""
        data = self._pending[: len(buffer)] or os.read(self._file, len(buffer))
        self._pending = self._pending[len(buffer) :]
        buffer[: len(data)] = data
        self._taken.append(data)
        return len(data)

    def put_back(self) -> None:
        """Let the next reader have what this one took."""
        _StandardInput._ahead = b"".join(self._taken) + self._pending


def faults_named(name: str) -> contextlib.AbstractContextManager[None]:
    """Turn what goes wrong while a source is read into an error for a person."""
    return remote.named_faults(name) if is_url(name) else named_faults(name)


@contextlib.contextmanager
def named_faults(name: str) -> Iterator[None]:
    """Turn what the operating system says about a file into an error for a person."""
    try:
        yield
    except IsADirectoryError as error:
        raise InputError("is a folder, not a file", where=name, mend="name a file in it") from error
    except OSError as error:
        mend = "check the path and its permissions"
        raise InputError(f"cannot be read: {error.strerror or error}", where=name, mend=mend) from error


def _read_range(file: BinaryIO, start: int, end: int, name: str) -> bytes:
    with named_faults(name):
        data = os.pread(file.fileno(), end - start, start)
        while len(data) < end - start:
            more = os.pread(file.fileno(), end - start - len(data), start + len(data))
            if not more:
                raise shorter(name)
            data += more
    return data


def shorter(name: str) -> InputError:
    """That a source ends before its end."""
    mend = "let nobody write to the inputs meanwhile, and run again"
    return InputError("became shorter while it was read", where=name, mend=mend)
