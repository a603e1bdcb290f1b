"""The folder that one run writes into, and the care taken when one is already there."""

import contextlib
import json
import os
import shutil
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from filelock import FileLock, Timeout

from asynckit.disk import whole_file
from asynckit.errors import ConfigError, UsageError, WorkFailed

LOCK = ".lock"
# Held by the process that writes the records: it may outlive a killed command by some seconds.
WRITER_LOCK = ".writer.lock"
_WRITER_SECONDS = 60.0
_LOOK_SECONDS = 0.5  # who looks whether a run is being written has its lock for an instant
CONFIG_SCHEMA = "asynckit.config/1"
# Everything that runs leave behind; --overwrite deletes these and nothing else.
OWN_NAMES = (
    "trajectories",
    "logs",
    "ledger.sqlite",
    "ledger.sqlite-wal",
    "ledger.sqlite-shm",
    "metrics.jsonl",
    "tensorboard",
    "wandb",
    "trace.json",
    "report.html",
    "summary.json",
    "config.json",
    LOCK,
    WRITER_LOCK,
)


@dataclass(frozen=True)
class RunDirectory:
    """Paths of one run. ``create`` makes the folder; files are replaced whole, never half written.

    Attributes:
        path: the folder; absolute when it comes from ``create``.
    """

    path: Path

    @property
    def trajectories(self) -> Path:
        """Folder of the trajectory parts."""
        return self.path / "trajectories"

    def logs(self, attempt: int) -> Path:
        """Folder of the logs of an attempt, from 1."""
        return self.path / "logs" / f"attempt-{attempt}"

    @classmethod
    def check(cls, path: str | Path, *, overwrite: bool) -> Self:
        """Say whether ``create`` may make this folder, without touching anything.

        Raises:
            UsageError: something is there that may not be replaced.
        """
        directory = cls(Path(path).expanduser().absolute())
        _refuse(directory.path, overwrite=overwrite)
        return directory

    @classmethod
    def create(cls, path: str | Path, *, overwrite: bool) -> Self:
        """Make the folder of a new run.

        With ``overwrite`` an earlier run is deleted, but only where a folder holds a run and nothing else.
        Call ``write_config`` next: a folder without it counts as no run.

        Raises:
            UsageError: something is there that may not be replaced, or the folder cannot be made.
            WorkFailed: the earlier run cannot be deleted.
        """
        directory = cls.check(path, overwrite=overwrite)
        if directory.path.is_dir() and any(directory.path.iterdir()):
            _delete_run(directory.path)
        try:
            directory.trajectories.mkdir(parents=True, exist_ok=True)
            directory.logs(1).mkdir(parents=True, exist_ok=True)
        except OSError as error:
            message = f"the run directory cannot be made: {error.strerror or error}"
            raise UsageError(message, where=str(path), mend="choose another --out") from error
        return directory

    @classmethod
    @contextlib.contextmanager
    def reserve(cls, path: str | Path, *, overwrite: bool) -> Iterator[tuple[Self, Callable[[], None]]]:
        """The folder of a new run, held against other processes, and a function that makes it final.

        An earlier run is moved aside, and deleted when the function is called. Without that call, and with
        nothing written, the new folder goes and the earlier run is back where it was.

        Raises:
            UsageError: something is there that may not be replaced, or another process writes there.
        """
        wanted = cls.check(path, overwrite=overwrite)
        earlier = cls._move_aside(wanted.path)
        directory = cls.create(wanted.path, overwrite=False)
        final = False

        def accept() -> None:
            nonlocal final
            final = True
            if earlier and earlier.is_dir():
                _delete_run(earlier)
                earlier.rmdir()

        with _held(directory.path):
            try:
                yield directory, accept
            finally:
                if not final and not any(directory.trajectories.iterdir()):
                    shutil.rmtree(directory.path, ignore_errors=True)
                    if earlier:
                        earlier.rename(directory.path)
                elif not final:
                    accept()

    @classmethod
    @contextlib.contextmanager
    def resume(cls, path: str | Path, *, identity: str) -> Iterator[tuple[Self, int]]:
        """The folder of a run that goes on, held against other processes, and which attempt this is.

        Args:
            path: the folder.
            identity: of the settings that it is to go on with.

        Raises:
            UsageError: there is no run, or another process writes there.
            ConfigError: the run was begun with settings that make other records.
        """
        directory = cls.check_resume(path, identity=identity)
        with _held(directory.path):
            cls.check_resume(path, identity=identity)  # again: somebody may have replaced it
            attempt = 1 + sum(
                entry.name.startswith("attempt-") for entry in (directory.path / "logs").iterdir()
            )
            directory.logs(attempt).mkdir()
            yield directory, attempt

    @classmethod
    def check_resume(cls, path: str | Path, *, identity: str) -> Self:
        """Say whether a run may go on with the settings of this identity, without touching anything.

        Raises:
            UsageError: there is no run.
            ConfigError: the run was begun with settings that make other records.
        """
        directory = cls(Path(path).expanduser().absolute())
        if not _is_run(directory.path):
            raise UsageError(
                "there is no run to resume", where=str(path), mend="name the folder of one: --out runs/NAME"
            )
        if json.loads(directory.config_path.read_bytes()).get("identity") != identity:
            raise ConfigError(
                "the run was begun with other settings, which make other records",
                where=str(directory.config_path),
                mend="put the file back as the run wrote it, or resume with the asynckit that began the run",
            )
        return directory

    def claim(self) -> FileLock:
        """Become the one process that writes records; the kernel takes it back when the process ends."""
        lock = FileLock(self.path / WRITER_LOCK)
        lock.acquire(timeout=_WRITER_SECONDS)
        return lock

    @property
    def config_path(self) -> Path:
        """The resolved settings that the run was begun with; a layer for the configuration loader."""
        return self.path / "config.json"

    @staticmethod
    def _move_aside(path: Path) -> Path | None:
        if not path.is_dir() or not any(path.iterdir()):
            return None
        aside = path.with_name(f".{path.name}.replaced-{os.getpid()}")
        with _held(path):
            try:
                path.rename(aside)
            except OSError as error:
                message = f"the earlier run cannot be moved aside: {error.strerror or error}"
                raise UsageError(message, where=str(path), mend="choose another --out") from error
        return aside

    def write_config(self, config: Mapping[str, Any], digest: str, identity: str) -> None:
        """Write ``config.json``: the resolved settings and their digests, which make this folder a run.

        Args:
            config: the settings.
            digest: of all of them.
            identity: of those that determine what the run produces.
        """
        content = {"schema": CONFIG_SCHEMA, "digest": digest, "identity": identity, "config": config}
        self._write_json("config.json", content)

    def write_summary(self, summary: Mapping[str, Any]) -> None:
        """Write ``summary.json``."""
        self._write_json("summary.json", summary)

    def read_summary(self) -> dict[str, Any] | None:
        """The summary of a run that came to its end; None if there is no readable one."""
        try:
            found = json.loads((self.path / "summary.json").read_bytes())
        except (OSError, ValueError):  # killed before it was written
            return None
        return found if isinstance(found, dict) and found.get("status") == "done" else None

    def _write_json(self, name: str, content: Mapping[str, Any]) -> None:
        text = json.dumps(content, indent=2, ensure_ascii=False, allow_nan=False)
        with whole_file(self.path / name) as file:
            file.write(text.encode() + b"\n")


def _refuse(path: Path, *, overwrite: bool) -> None:
    """Raise unless ``path`` is absent, an empty folder, or a run that may be deleted."""
    if not path.is_dir():
        if path.exists() or path.is_symlink():
            raise UsageError("is not a folder", where=str(path), mend="choose another --out")
        return
    if not any(path.iterdir()):
        return
    if not overwrite:
        mend = "replace it with --overwrite, or choose another --out"
        raise UsageError("the run directory exists and is not empty", where=str(path), mend=mend)
    if reason := _why_kept(path):
        mend = "choose another --out, or move it away yourself"
        raise UsageError(f"--overwrite does not delete this folder: {reason}", where=str(path), mend=mend)


def _why_kept(path: Path) -> str:
    """Why a folder may not be overwritten; empty when it holds one run and nothing else."""
    if path.is_symlink():
        return "it is a symbolic link"
    if path.resolve() in (Path.cwd(), *Path.cwd().parents):
        return "the working folder is in it"
    foreign = sorted({entry.name for entry in path.iterdir()} - _own_names())
    if foreign:
        return f"it holds {foreign[0]}, which no run writes"
    folders_only = all(entry.is_dir() for entry in path.rglob("*"))
    return "" if folders_only or _is_run(path) else "it has no config.json of an asynckit run"


@contextlib.contextmanager
def _held(path: Path) -> Iterator[None]:
    """Hold a run's lock; the kernel drops it with the process, however that ends.

    The task runner of a command that was killed is waited for: it ends by itself within seconds, and until
    then it may write.
    """
    lock = FileLock(path / LOCK)
    writer = FileLock(path / WRITER_LOCK)
    try:
        lock.acquire(timeout=_LOOK_SECONDS)
        try:
            with writer.acquire(timeout=_WRITER_SECONDS):
                pass
        except Timeout:
            lock.release()
            raise
    except Timeout as error:
        raise UsageError(
            "another process is writing this run",
            where=str(path),
            mend="wait for it, or choose another --out",
        ) from error
    try:
        yield
    finally:
        lock.release()


def _own_names() -> set[str]:
    return {*OWN_NAMES, *(f".{name}.tmp" for name in OWN_NAMES)}


def _is_run(path: Path) -> bool:
    try:
        config = json.loads((path / "config.json").read_bytes())
    except (OSError, ValueError):  # unreadable is as good as absent: the folder is kept
        return False
    return isinstance(config, dict) and str(config.get("schema", "")).startswith("asynckit.config/")


def _delete_run(path: Path) -> None:
    # config.json goes last: it marks a run, so a deletion that was interrupted can be repeated.
    try:
        for entry in sorted(path.iterdir(), key=lambda entry: entry.name == "config.json"):
            if entry.is_dir() and not entry.is_symlink():
                shutil.rmtree(entry)
            else:
                entry.unlink()
    except OSError as error:
        message = f"the earlier run cannot be deleted: {error.strerror or error}"
        raise WorkFailed(message, where=str(error.filename or path), mend="delete it yourself") from error
