"""A timeline of a run in Chrome's trace-event format, for https://ui.perfetto.dev and ``chrome://tracing``.

One event a line, each written as it happens and nothing kept, so that memory stays flat and a run that is
killed leaves a file that Perfetto reads: the array format may lack its closing bracket. A file that is closed
is strict JSON. A run that goes on adds to the file that is there.

Names and phases are those of the format's description by Duca and Sinclair ("Trace Event Format"): ``X``
complete, ``b`` and ``e`` begin and end of one that others may overlap, ``C`` counter, ``i`` instant, ``M``
names of processes and threads. A track is named ``process/thread``, such as ``rollouter-0/groups``.
"""

import json
import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO, Self

from asynckit.disk import writing
from asynckit.errors import InputError

_OPENING = b"[\n"
_SEPARATOR = b",\n"


class TraceWriter:
    """Writes events; may be called from several threads.

    Times are seconds on ``time.time()``'s clock. Keep the names of spans few, and put what tells one from
    another into ``args``: Perfetto draws the overlapping spans of one name together.

    Args:
        path: the file; one that is there is continued.

    Raises:
        InputError: the file is there and is no trace.
        WorkFailed: the disk refuses, then or later.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = threading.Lock()
        self._processes: dict[str, int] = {}
        self._threads: dict[str, int] = {}
        with writing(self._path):
            end, lines = self._recover()
            self._next_id = lines  # above every id of an earlier attempt: each took a line
            self._file = path.open("ab", buffering=0)
            self._file.truncate(end)
            if not end:
                self._file.write(_OPENING)

    def span(self, track: str, name: str, start: float, end: float, **args: Any) -> None:
        """Something that had a track for itself from ``start`` to ``end``."""
        self._write(track, name, "X", start, dur=max(0.0, round((end - start) * 1e6, 3)), args=args)

    def begin(self, track: str, name: str, time: float, **args: Any) -> int:
        """Something begins that others on the track may overlap; returns what ``end`` asks for."""
        with self._lock:
            self._next_id += 1
            number = self._next_id
        self._write(track, name, "b", time, cat=track, id=number, args=args)
        return number

    def end(self, track: str, name: str, number: int, time: float, **args: Any) -> None:
        """What began under this number ends."""
        self._write(track, name, "e", time, cat=track, id=number, args=args)

    def counter(self, name: str, time: float, value: float) -> None:
        """A number that is drawn over time, from now on this one."""
        self._write("run/counters", name, "C", time, args={"value": value})

    def instant(self, track: str, name: str, time: float, **args: Any) -> None:
        """Something that takes no time."""
        self._write(track, name, "i", time, s="t", args=args)

    def close(self) -> None:
        """End the array, so that the file is strict JSON."""
        with self._lock, writing(self._path), self._file:
            if self._path.stat().st_size > len(_OPENING):
                self._file.truncate(self._path.stat().st_size - len(_SEPARATOR))
                self._file.write(b"\n")
            self._file.write(b"]\n")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _write(self, track: str, name: str, phase: str, time: float, **rest: Any) -> None:
        with self._lock, writing(self._path):
            process, thread = self._place(track)
            event = {"name": name, "ph": phase, "ts": round(time * 1e6, 3), "pid": process, "tid": thread}
            self._put(event | rest)

    def _place(self, track: str) -> tuple[int, int]:
        """The numbers of a track's process and thread, which get their names when they first appear."""
        process, _, thread = track.partition("/")
        if process not in self._processes:
            self._processes[process] = len(self._processes) + 1
            self._put(_label("process_name", self._processes[process], 0, process))
        number = self._processes[process]
        if track not in self._threads:
            self._threads[track] = len(self._threads) + 1
            self._put(_label("thread_name", number, self._threads[track], thread or process, track=track))
        return number, self._threads[track]

    def _put(self, event: dict[str, Any]) -> None:
        # One call per event: a killed process leaves whole lines.
        self._file.write(json.dumps(event, separators=(",", ":"), allow_nan=False).encode() + _SEPARATOR)

    def _recover(self) -> tuple[int, int]:
        """Where an earlier attempt's last whole event ends, and how many it has; its tracks are kept."""
        if not self._path.exists():
            return 0, 0
        with self._path.open("r+b") as file:
            _reopen(file)
            opening = file.readline()
            if not opening.endswith(b"\n"):  # nothing, or the half of it
                return 0, 0
            if opening != _OPENING:
                raise InputError("is no trace", where=str(self._path), mend="move the file away")
            end, lines = len(_OPENING), 0
            for line in file:
                if not line.endswith(b"}" + _SEPARATOR):
                    break
                self._remember(line)
                end, lines = end + len(line), lines + 1
        return end, lines

    def _remember(self, line: bytes) -> None:
        if b'"ph":"M"' not in line:
            return
        event = json.loads(line.removesuffix(_SEPARATOR))
        if event["name"] == "process_name":
            self._processes[event["args"]["name"]] = event["pid"]
        else:
            self._threads[event["args"]["track"]] = event["tid"]


def _reopen(file: BinaryIO) -> None:
    """Let a closed array of events go on."""
    end = b"}\n]\n"
    if file.seek(0, os.SEEK_END) > len(end):
        file.seek(-len(end), os.SEEK_END)
        if file.read() == end:
            file.seek(-len(end), os.SEEK_END)
            file.write(b"}" + _SEPARATOR)
            file.truncate()
    file.seek(0)


def _label(kind: str, process: int, thread: int, name: str, **more: str) -> dict[str, Any]:
    return {
        "name": kind,
        "ph": "M",
        "ts": 0,
        "pid": process,
        "tid": thread,
        "args": {"name": name, **more},
    }


@contextmanager
def traced(trace: TraceWriter | None, track: str, name: str, **args: Any) -> Iterator[None]:
    """Draw what happens inside, where a trace is wanted."""
    if trace is None:
        yield
        return
    number = trace.begin(track, name, time.time(), **args)
    try:
        yield
    finally:
        trace.end(track, name, number, time.time())
