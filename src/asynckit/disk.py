"""What the disk refuses, as an error for the person."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from asynckit.errors import WorkFailed


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Turn the disk's refusal to write ``path`` into an error that says what to do.

    Raises:
        WorkFailed: the disk refused.
    """
    try:
        yield
    except OSError as error:
        mend = "free some space or mend the disk; what was written before is complete"
        raise WorkFailed(
            f"cannot be written: {error.strerror or error}", where=str(path), mend=mend
        ) from error


@contextmanager
def whole_file(path: Path) -> Iterator[BinaryIO]:
    """A file to write that appears under ``path`` only when it is complete and on the disk.

    It is written under a hidden name beside ``path``, synced, and renamed; readers see all or nothing.

    Raises:
        WorkFailed: the disk refuses; whatever was under ``path`` is still there.
    """
    hidden = path.with_name(f".{path.name}.tmp")
    with writing(path):
        try:
            with hidden.open("wb") as file:
                yield file
                file.flush()
                os.fsync(file.fileno())
            hidden.replace(path)
            _sync_folder(path.parent)
        finally:
            hidden.unlink(missing_ok=True)


def _sync_folder(folder: Path) -> None:
    """Make the renames in a folder survive a power cut."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
