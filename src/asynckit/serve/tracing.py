"""Where the time of each request went, as a timeline for https://ui.perfetto.dev; see asynckit.trace_events.

Every HTTP server writes a file of its own, when a request has ended. A request lies in a row that no other
request needs at the time: its whole span, and below it queue, prefill, decode and detokenize.
"""

import logging
import time
from collections.abc import Callable
from pathlib import Path

from asynckit.disk import writing
from asynckit.errors import WorkFailed
from asynckit.serve.messages import Timing
from asynckit.trace_events import TraceWriter

MOST_BYTES = 256 * 2**20  # as much as Perfetto still opens with ease

_logger = logging.getLogger(__name__)


class Tracer:
    """Draws requests into one file, until it is full or the disk refuses, which is logged once.

    Args:
        path: the file, by convention ``trace-<process>.json``; one that is there is continued.
        most_bytes: about how large it may grow.
        clock: the clock of :class:`Timing`.

    Raises:
        InputError: the file is there and is no trace.
        WorkFailed: the disk refuses.
    """

    def __init__(
        self, path: Path, most_bytes: int = MOST_BYTES, clock: Callable[[], float] = time.monotonic
    ) -> None:
        with writing(path):
            path.parent.mkdir(parents=True, exist_ok=True)
        self._path, self._most_bytes, self._clock = path, most_bytes, clock
        self._process = path.stem.removeprefix("trace-")
        self._since_epoch = time.time() - clock()
        self._rows = Rows()
        self._writer: TraceWriter | None = TraceWriter(path)

    def request(self, id: str, owner: str, timing: Timing, finish: str) -> None:  # noqa: A002 - as everywhere
        """Draw a request, at the moment when the last of its text is here."""
        if self._writer is None:
            return
        try:
            self._draw(self._writer, id, owner, timing, finish)
            with writing(self._path):
                full = self._path.stat().st_size > self._most_bytes
        except WorkFailed as error:
            _logger.error("no more requests are traced: %s", error)  # noqa: TRY400 - nothing of ours to trace
            self.close()
        else:
            if full:
                _logger.warning("no more requests are traced: %s is full", self._path)
                self.close()

    def close(self) -> None:
        """End the file; requests that come later are not drawn."""
        writer, self._writer = self._writer, None
        try:
            if writer:
                writer.close()
        except WorkFailed as error:
            _logger.error("the trace has no end: %s", error)  # noqa: TRY400 - nothing of ours to trace

    def _draw(self, writer: TraceWriter, id: str, owner: str, timing: Timing, finish: str) -> None:  # noqa: A002
        moments = phases(timing, self._clock())
        begin, end = moments[0][1], moments[-1][2]
        track = f"{self._process}/requests {self._rows.take(begin, end) + 1:03}"
        shift = self._since_epoch
        args = {"id": id, "owner": owner, "finish": finish, "replica": timing.replica}
        writer.span(track, "request", begin + shift, end + shift, **args)
        for name, start, stop in moments:
            extra = {"seconds_in_detokenizer": timing.detokenized} if name == "detokenize" else {}
            writer.span(track, name, start + shift, stop + shift, **extra)


class Rows:
    """Which row of the timeline a request gets, so that none overlaps another; asked when each one ends."""

    def __init__(self) -> None:
        self._free_from: list[float] = []

    def take(self, begin: float, end: float) -> int:
        """The first row, from 0, that has been free since ``begin``; it is taken until ``end``."""
        for row, free_from in enumerate(self._free_from):
            if free_from <= begin:
                self._free_from[row] = end
                return row
        self._free_from.append(end)
        return len(self._free_from) - 1


def phases(timing: Timing, here: float) -> list[tuple[str, float, float]]:
    """Names, starts and ends of what a request went through; each begins where the one before ends.

    Args:
        timing: what it never came to (``started``, ``first_token``) is 0.
        here: when the last of its text arrived at the HTTP server.
    """
    reached = [
        ("queue", timing.started or timing.ended),
        ("prefill", timing.first_token or timing.ended if timing.started else 0.0),
        ("decode", timing.ended if timing.first_token else 0.0),
        ("detokenize", here),
    ]
    found, start = [], timing.arrived
    for name, end in reached:
        if end:
            end = max(start, end)  # noqa: PLW2901 - clocks of several processes differ by microseconds
            found.append((name, start, end))
            start = end
    return found
