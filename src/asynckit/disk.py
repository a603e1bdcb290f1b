"""What the disk refuses, as an error for the person."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

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
