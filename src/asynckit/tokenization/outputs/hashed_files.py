"""Files that appear whole, with the digest of what was written into them."""

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

from numpy.typing import NDArray

from asynckit.disk import whole_file
from asynckit.tokenization.outputs.manifest import FileRecord
from asynckit.tokenization.outputs.parts import as_bytes

_CHUNK = 1 << 20


class HashedFile:
    """Takes bytes from the first to the last; as much of a file as pyarrow asks of one."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._digest = hashlib.sha256()
        self._bytes = 0
        self.closed = False

    def write(self, data: Any) -> int:
        """Append any bytes-like object, a chunk at a time: hashed while they are in the processor's cache."""
        view = memoryview(data)
        for begin in range(0, len(view), _CHUNK):
            chunk = view[begin : begin + _CHUNK]
            self._digest.update(chunk)
            self._file.write(chunk)
        self._bytes += len(view)
        return len(view)

    def write_array(self, array: NDArray[Any]) -> None:
        """Append the bytes of an array."""
        self.write(as_bytes(array))

    def tell(self) -> int:
        """Bytes that were written."""
        return self._bytes

    def flush(self) -> None:
        """Nothing: the owner of the file syncs it."""

    def close(self) -> None:
        """Nothing, likewise; pyarrow closes what it has written to."""
        self.closed = True

    def record(self, name: str) -> FileRecord:
        """What was written."""
        return FileRecord(name, self._bytes, self._digest.hexdigest())


@contextmanager
def hashed_file(path: Path, files: list[FileRecord]) -> Iterator[HashedFile]:
    """A file to write that appears under ``path`` when it is complete and on the disk.

    Args:
        path: of the file.
        files: gets its record.

    Raises:
        WorkFailed: the disk refuses.
    """
    with whole_file(path) as file:
        hashed = HashedFile(file)
        yield hashed
    files.append(hashed.record(path.name))
