"""Where metrics can go besides ``metrics.jsonl``: extras, which have to work when the run begins."""

import importlib.util
import logging
import os
import time
import uuid
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Protocol

from asynckit.disk import writing
from asynckit.errors import DependencyError

_PACKAGES = {
    "tensorboard": ("tensorboardX", "pip install 'asynckit[tensorboard]'"),
    "wandb": ("wandb", "pip install 'asynckit[wandb]'"),
}

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
    wanted = set(loggers)
    for name, (package, mend) in _PACKAGES.items():
        if name in wanted and importlib.util.find_spec(package) is None:
            raise DependencyError(
                f"the logger {name} needs the package {package}", where="rollout.loggers", mend=mend
            )


def open_backends(loggers: Iterable[str], folder: Path, config: Mapping[str, Any]) -> list[Backend]:
    """Start the loggers that were asked for; ``jsonl`` is always there and needs none.

    Args:
        loggers: jsonl, tensorboard, wandb.
        folder: the run directory.
        config: the resolved settings, secrets masked.

    Raises:
        DependencyError: a package is missing, or its service cannot be used.
        WorkFailed: the disk refuses.
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
    """Event files that ``tensorboard --logdir runs`` shows.

    Written here and at once: tensorboardX's ``SummaryWriter`` hands events to a thread, and once a full disk
    has ended that thread, its queue fills up and the next metric waits for ever.
    """

    name = "tensorboard"

    def __init__(self, folder: Path) -> None:
        from tensorboardX.event_file_writer import EventsWriter

        with writing(folder):
            folder.mkdir(exist_ok=True)
            self._writer = EventsWriter(str(folder / "events"), f".{os.getpid()}")

    def log(self, step: int, metrics: Mapping[str, float]) -> None:
        """Write the metrics as scalars."""
        from tensorboardX.proto.event_pb2 import Event
        from tensorboardX.proto.summary_pb2 import Summary

        values = [Summary.Value(tag=name, simple_value=value) for name, value in metrics.items()]
        self._writer.write_event(Event(wall_time=time.time(), step=step, summary=Summary(value=values)))
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
        try:
            import wandb
        except ImportError as error:
            raise DependencyError(
                f"wandb cannot be imported: {error}", where="rollout.loggers", mend=_PACKAGES["wandb"][1]
            ) from error
        identity = folder / "wandb" / "run-id"
        with writing(identity):
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
                settings=wandb.Settings(silent=True, console="off"),
            )
        except wandb.Error as error:
            raise DependencyError(
                f"wandb does not start: {error}",
                where="rollout.loggers",
                mend="run `wandb login`, or keep the data here with WANDB_MODE=offline",
            ) from error
        log.info("wandb writes to %s", self._run.dir)

    def log(self, step: int, metrics: Mapping[str, float]) -> None:
        """Hand the metrics to wandb's process."""
        self._run.log(dict(metrics), step=step)

    def close(self) -> None:
        """Wait until wandb has sent everything."""
        self._run.finish()
