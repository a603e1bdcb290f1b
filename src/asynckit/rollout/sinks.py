"""Where finished trajectories go: numbered part files, each written whole.

Samples wait in memory until a part is full or its oldest sample has waited long enough. A part is then
written under a hidden name, synced and renamed, so every file named ``part-*`` is complete whatever dies.
Samples reach the disk in the order they were appended: the first ``samples_written`` are durable.
"""

import re
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import BinaryIO

from asynckit.disk import whole_file
from asynckit.errors import InputError
from asynckit.rollout.record import (
    Trajectory,
    arrow_schema,
    check,
    from_json,
    from_row,
    require_schema,
    to_json,
    to_row,
)

_PART = re.compile(r"part-(\d+)\.(parquet|jsonl)")


class TrajectorySink:
    """Writes trajectories into parts in a folder, for one owner who calls ``flush`` when ``due()`` says so.

    Attributes:
        samples_written: trajectories in complete parts, since this sink was made.
        parts: paths of those parts.
    """

    def __init__(
        self,
        folder: Path,
        format: str,  # noqa: A002  # the name of the setting
        part_samples: int,
        part_seconds: float,
        clock: Callable[[], float] = time.monotonic,
        on_part: Callable[[Path, Sequence[Trajectory]], None] = lambda *_: None,
    ) -> None:
        """Continue after the parts that ``folder`` already has.

        Args:
            folder: an existing folder.
            format: ``parquet`` or ``jsonl``.
            part_samples: a part is written once this many samples wait. One ``append`` is never divided, so a
                part may be longer.
            part_seconds: a part is written once its first sample has waited this long.
            clock: seconds, never going back.
            on_part: called after a part is on the disk, with its path and its trajectories.
        """
        self._on_part = on_part
        self.samples_written = 0
        self.parts: list[Path] = []
        self._folder, self._format = folder, format
        self._part_samples, self._part_seconds, self._clock = part_samples, part_seconds, clock
        self._waiting: list[Trajectory] = []
        self._waiting_since = 0.0
        # An owner on an event loop writes in threads, and may close while a thread still writes.
        self._writing = threading.RLock()
        self._next = max((number for number, _ in _parts(folder)), default=-1) + 1

    def append(self, trajectories: Sequence[Trajectory]) -> None:
        """Take trajectories in, and write a part if one is full or due.

        Raises:
            WorkFailed: the disk refuses the part; its samples are kept for the next try.
        """
        for trajectory in trajectories:
            check(trajectory)
        with self._writing:
            if trajectories and not self._waiting:
                self._waiting_since = self._clock()
            self._waiting.extend(trajectories)
            if len(self._waiting) >= self._part_samples or self.due() == 0:
                self.flush()

    def due(self) -> float | None:
        """Seconds until ``flush`` is due, 0 when it is overdue, None while nothing waits."""
        if not self._waiting:
            return None
        return max(0.0, self._waiting_since + self._part_seconds - self._clock())

    def flush(self) -> None:
        """Write what waits as one part; nothing when nothing waits.

        Raises:
            WorkFailed: the disk refuses; earlier parts stay, and the samples are kept for the next try.
        """
        with self._writing:
            if self._waiting:
                self._write_part()

    def close(self) -> None:
        """Write what waits.

        Raises:
            WorkFailed: the disk refuses.
        """
        self.flush()

    def _write_part(self) -> None:
        path = self._folder / f"part-{self._next:06d}.{self._format}"
        with whole_file(path) as file:
            _WRITERS[self._format](self._waiting, file)
        self._next += 1
        self.parts.append(path)
        self.samples_written += len(self._waiting)
        written, self._waiting = self._waiting, []
        self._on_part(path, written)


def read_trajectories(folder: Path) -> Iterator[Trajectory]:
    """Yield the trajectories of all parts in ``folder``, of either format, in the order they were written.

    Raises:
        InputError: the folder or a part cannot be read; ``where`` is the file and line or row.
    """
    if not folder.is_dir():
        raise InputError(
            "no such folder of trajectories", where=str(folder), mend="name runs/<name>/trajectories"
        )
    for _, path in _parts(folder):
        yield from read_part(path)


def read_part(path: Path) -> Iterator[Trajectory]:
    """Yield the trajectories of one part.

    Raises:
        InputError: it cannot be read; ``where`` is the file and line or row.
    """
    yield from _READERS[path.suffix](path)


def part_paths(folder: Path) -> list[Path]:
    """The complete parts in a folder, in the order they were written."""
    return [path for _, path in _parts(folder)]


def _parts(folder: Path) -> list[tuple[int, Path]]:
    named = ((_PART.fullmatch(path.name), path) for path in folder.iterdir())
    return sorted((int(match[1]), path) for match, path in named if match)


def _write_parquet(trajectories: list[Trajectory], file: BinaryIO) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    table = pa.Table.from_pylist([to_row(trajectory) for trajectory in trajectories], schema=arrow_schema())
    pq.write_table(table, file, compression="zstd", write_page_checksum=True)


def _write_json_lines(trajectories: list[Trajectory], file: BinaryIO) -> None:
    file.writelines(to_json(trajectory).encode() + b"\n" for trajectory in trajectories)


_WRITERS = {"parquet": _write_parquet, "jsonl": _write_json_lines}


def _read_parquet(path: Path) -> Iterator[Trajectory]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with pq.ParquetFile(path, page_checksum_verification=True) as file:
            schema = (file.schema_arrow.metadata or {}).get(b"asynckit.schema", b"").decode()
            require_schema(schema, str(path))
            rows = (row for batch in file.iter_batches(batch_size=1024) for row in batch.to_pylist())
            for number, row in enumerate(rows, start=1):
                yield from_row(row, where=f"{path}:row {number}")
    except (pa.ArrowException, OSError) as error:
        raise InputError(f"cannot be read: {error}", where=str(path), mend="the file is damaged") from error


def _read_json_lines(path: Path) -> Iterator[Trajectory]:
    try:
        with path.open(encoding="utf-8", newline="\n") as file:
            for number, line in enumerate(file, start=1):
                yield from_json(line, where=f"{path}:{number}")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"cannot be read: {error}", where=str(path), mend="the file is damaged") from error


_READERS = {".parquet": _read_parquet, ".jsonl": _read_json_lines}
