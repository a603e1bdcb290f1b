"""Metrics over the time of a run: a line of ``metrics.jsonl`` each, and what else was asked for.

The file outlives whoever writes it: a line is on its way to the disk before ``append`` returns, and a run
that goes on cuts off the half line that a kill left and counts on. The other loggers are extras: they have
to work when the run begins, and one that fails later is reported and let go.
"""

import importlib.util
import json
import logging
import threading
import time
import uuid
from collections.abc import Iterable, Mapping, Sequence
from io import FileIO
from pathlib import Path
from typing import Any, Protocol, Self

from asynckit.errors import DependencyError, InputError
from asynckit.rollout.metrics import metrics_of
from asynckit.rollout.run_directory import writing
from asynckit.rollout.snapshot import Snapshot

NAME = "metrics.jsonl"
LOGGERS = ("jsonl", "tensorboard", "wandb")
_PACKAGES = {
    "tensorboard": ("tensorboardX", "pip install 'asynckit[tensorboard]'"),
    "wandb": ("wandb", "pip install 'asynckit[wandb]'"),
}
_CLOSE_SECONDS = 30.0  # which a logger gets to send what it still holds

log = logging.getLogger(__name__)


class Backend(Protocol):
    """A logger beside the file; may raise whatever its library raises."""

    name: str

    def log(self, step: int, metrics: Mapping[str, float]) -> None:
        """Take the metrics of a step; steps rise."""

    def close(self) -> None:
        """Send what is still held."""


def require_loggers(loggers: Iterable[str]) -> None:
    """Raise unless the packages of these loggers are installed; cheap, and before anything starts.

    Raises:
        DependencyError: one is missing.
    """
    for name in loggers:
        package, mend = _PACKAGES.get(name, ("json", ""))
        if importlib.util.find_spec(package) is None:
            raise DependencyError(
                f"the logger {name} needs the package {package}", where="rollout.loggers", mend=mend
            )


def open_backends(loggers: Iterable[str], folder: Path, config: Mapping[str, Any]) -> list[Backend]:
    """Start the loggers that were asked for; ``jsonl`` is always there and needs none.

    Args:
        loggers: names out of ``LOGGERS``.
        folder: the run directory.
        config: the resolved settings, secrets masked.

    Raises:
        DependencyError: a package is missing, or its service cannot be used.
    """
    wanted = set(loggers)
    require_loggers(wanted)
    backends: list[Backend] = []
    if "tensorboard" in wanted:
        backends.append(TensorBoard(folder / "tensorboard"))
    if "wandb" in wanted:
        backends.append(WeightsAndBiases(folder, config))
    return backends


class TensorBoard:
    """Event files that ``tensorboard --logdir runs`` shows."""

    name = "tensorboard"

    def __init__(self, folder: Path) -> None:
        from tensorboardX import SummaryWriter

        self._writer = SummaryWriter(str(folder))

    def log(self, step: int, metrics: Mapping[str, float]) -> None:
        """Write the metrics as scalars, and flush."""
        now = time.time()
        for name, value in metrics.items():
            self._writer.add_scalar(name, value, step, walltime=now)
        self._writer.flush()

    def close(self) -> None:
        """Close the file."""
        self._writer.close()


class WeightsAndBiases:
    """A run of wandb, with its own settings from ``WANDB_*``; a run that goes on is the same run there.

    Raises:
        DependencyError: wandb does not start: no key, no network.
    """

    name = "wandb"

    def __init__(self, folder: Path, config: Mapping[str, Any]) -> None:
        import wandb

        identity = folder / "wandb" / "run-id"
        if not identity.exists():
            identity.parent.mkdir(exist_ok=True)
            identity.write_text(uuid.uuid4().hex[:12], encoding="ascii")
        try:
            self._run = wandb.init(
                id=identity.read_text(encoding="ascii"),
                resume="allow",
                name=folder.name,
                dir=str(folder),
                config=dict(config),
            )
        except wandb.Error as error:
            raise DependencyError(
                f"wandb does not start: {error}",
                where="rollout.loggers",
                mend="run `wandb login`, or keep the data here with WANDB_MODE=offline",
            ) from error

    def log(self, step: int, metrics: Mapping[str, float]) -> None:
        """Hand the metrics to wandb's process."""
        self._run.log(dict(metrics), step=step)

    def close(self) -> None:
        """Wait until wandb has sent everything."""
        self._run.finish()


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
        """Close the file and the loggers, which get half a minute each."""
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
