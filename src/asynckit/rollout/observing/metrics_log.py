"""Metrics over the time of a run: a line of ``metrics.jsonl`` each, and what else was asked for.

The file outlives whoever writes it: a line is on its way to the disk before ``append`` returns, and a run
that goes on cuts off the half line that a kill left and counts on. The other loggers are extras: they have
to work when the run begins, and one that fails later is reported and let go.
"""

import json
import logging
import threading
from collections.abc import Mapping, Sequence
from io import FileIO
from pathlib import Path
from typing import Self

from asynckit.disk import writing
from asynckit.errors import InputError
from asynckit.rollout.observing.loggers import Backend
from asynckit.rollout.observing.metrics import metrics_of
from asynckit.rollout.observing.snapshot import Snapshot

NAME = "metrics.jsonl"
_CLOSE_SECONDS = 30.0  # which a logger gets to send what it still holds

log = logging.getLogger(__name__)


class MetricsLog:
    """Appends the metrics of snapshots to ``metrics.jsonl``, and passes them on.

    For one owner, who calls ``append`` in a thread where it must not wait for a disk or a network.

    Args:
        folder: the run directory.
        backends: other loggers, as ``open_backends`` starts them; closed with the log.

    Attributes:
        step: of the next line; a run that goes on counts on.

    Raises:
        InputError: the file is there and is no such log.
        WorkFailed: the disk refuses.
    """

    def __init__(self, folder: Path, backends: Sequence[Backend] = ()) -> None:
        self._path = folder / NAME
        self._backends = list(backends)
        self._previous: Snapshot | None = None
        with writing(self._path):
            self.step, end = _continue(self._path)
            self._file = _open_at(self._path, end)

    def append(self, now: Snapshot) -> dict[str, float]:
        """Write one line; returns its metrics, whose rates are those since the line before.

        Raises:
            WorkFailed: the disk refuses.
        """
        metrics = metrics_of(self._previous, now)
        line = {"step": self.step, "seconds": round(now.seconds, 3), "version": now.version, **metrics}
        text = json.dumps(line, allow_nan=False) + "\n"
        with writing(self._path):
            self._file.write(text.encode())
        for backend in tuple(self._backends):
            self._pass_on(backend, metrics)
        self._previous = now
        self.step += 1
        return metrics

    def close(self) -> None:
        """Close the file and the other loggers, which get half a minute each."""
        self._file.close()
        for backend in self._backends:
            # A service that is gone can keep its library waiting for ever; the run doesn't.
            closing = threading.Thread(target=_close, args=(backend,), daemon=True)
            closing.start()
            closing.join(_CLOSE_SECONDS)
            if closing.is_alive():
                log.warning("the logger %s still has something to send; it is left alone", backend.name)
        self._backends.clear()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _pass_on(self, backend: Backend, metrics: Mapping[str, float]) -> None:
        try:
            backend.log(self.step, metrics)
        except Exception:  # whatever a logger's library raises, the run is worth more; it is reported here
            log.exception("the logger %s failed and gets no more; %s goes on", backend.name, NAME)
            self._backends.remove(backend)


def _close(backend: Backend) -> None:
    try:
        backend.close()
    except Exception:  # as above: the run has its own file
        log.exception("the logger %s failed at its end", backend.name)


def _continue(path: Path) -> tuple[int, int]:
    """The next step, and the byte at which the last whole line ends."""
    end, last = 0, b""
    if path.exists():
        with path.open("rb") as file:
            for line in file:
                if line.endswith(b"\n"):
                    end, last = end + len(line), line
    try:
        return (json.loads(last)["step"] + 1 if last else 0), end
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(
            f"the last line is no line of metrics: {error}", where=str(path), mend="move the file away"
        ) from error


def _open_at(path: Path, end: int) -> FileIO:
    """The file without what follows ``end``, for appending; every write goes to the kernel at once."""
    file = path.open("ab", buffering=0)
    file.truncate(end)
    return file
