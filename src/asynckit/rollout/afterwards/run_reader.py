"""A run as it lies on the disk, whether it is done, was cut off, or is being written right now.

Reading leaves the folder as it is. Whether somebody writes is seen from the run's locks: the kernel lets go
of them with the process, however that ended.
"""

import contextlib
import fcntl
import json
import os
from collections.abc import Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

from asynckit.errors import InputError
from asynckit.near_miss import did_you_mean
from asynckit.rollout.afterwards.ledger_reader import LedgerReader, read_ledger
from asynckit.rollout.ledger import NAME as LEDGER
from asynckit.rollout.record import Trajectory, check
from asynckit.rollout.run_directory import CONFIG_SCHEMA, LOCK, WRITER_LOCK
from asynckit.rollout.sinks import part_paths, read_part

RUNS = Path("runs")
SUMMARY_SCHEMA = "asynckit.summary/1"


@dataclass(frozen=True)
class FoundGroup:
    """The records of one group and the file that has them.

    Attributes:
        id: the group.
        file: ``part-000000.parquet`` and so on; the ledger's name where no part has them yet.
        trajectories: in the order in which they were written.
    """

    id: str
    file: str
    trajectories: tuple[Trajectory, ...]


@dataclass(frozen=True)
class Run:
    """The folder of one run.

    Attributes:
        path: absolute.
        running: whether some process held the run when it was looked up.
    """

    path: Path
    running: bool

    @property
    def trajectories(self) -> Path:
        """Folder of the trajectory parts."""
        return self.path / "trajectories"

    @property
    def config_path(self) -> Path:
        """The settings with which the run was begun."""
        return self.path / "config.json"

    def config(self) -> dict[str, Any]:
        """``config.json`` with its digests.

        Raises:
            InputError: it is missing, damaged, or no such file.
        """
        document = _read_json(self.config_path)
        if document is None:
            raise InputError(
                "config.json is missing, so this is not a whole run",
                where=str(self.path),
                mend="name the folder of a run, or put the file back",
            )
        if document.get("schema") != CONFIG_SCHEMA or not isinstance(document.get("config"), dict):
            raise InputError(
                f"not the settings of a run: the schema is {document.get('schema')!r}, not {CONFIG_SCHEMA}",
                where=str(self.config_path),
                mend="read it with the asynckit that wrote it",
            )
        return document

    def summary(self) -> dict[str, Any] | None:
        """``summary.json``; None where there is none: the run goes on, or was killed.

        Raises:
            InputError: it is damaged.
        """
        path = self.path / "summary.json"
        document = _read_json(path)
        if document is not None and document.get("schema") != SUMMARY_SCHEMA:
            raise InputError(
                f"the schema is {document.get('schema')!r}, not {SUMMARY_SCHEMA}",
                where=str(path),
                mend="read it with the asynckit that wrote it",
            )
        for name in ("groups", "samples"):
            if document is not None and not isinstance(document.get(name, {}), dict):
                raise InputError(f"{name} is no object", where=str(path), mend="the file is damaged")
        return document

    def status(self) -> str:
        """``running``, ``done``, ``failed``, ``interrupted``, or ``cut off``: killed without a word.

        A summary that counts other groups than the ledger is that of an earlier attempt.

        Raises:
            InputError: the summary or the ledger is damaged.
        """
        if self.running:
            return "running"
        summary = self.summary()
        if summary is None:
            return "cut off"
        with self.ledger() as ledger:
            counts = ledger.counts()
        ended = {name.removeprefix("ended:"): n for name, n in counts.items() if name.startswith("ended:")}
        told = summary.get("groups", {})
        agree = all(told.get(name, 0) == n for name, n in ended.items() if name != "cancelled")
        return str(summary.get("status")) if agree else "cut off"

    def ledger(self) -> AbstractContextManager[LedgerReader]:
        """The ledger, as of one moment; see :func:`asynckit.rollout.afterwards.ledger_reader.read_ledger`.

        A run that has just begun, or died then, has none yet.
        """
        none_yet = self.trajectories.is_dir() and not part_paths(self.trajectories)
        return read_ledger(self.path / LEDGER, live=self.running, none_yet=none_yet)

    def groups_submitted(self) -> int:
        """Groups that the run set out to do; 0 where its ledger can't be read."""
        try:
            with self.ledger() as ledger:
                return sum(1 for _ in ledger.entries())
        except InputError:  # for totals only; who reads the ledger for its content says what is wrong
            return 0

    def parts(self) -> list[Path]:
        """The trajectory files, in the order in which they were written.

        Raises:
            InputError: their folder is missing.
        """
        if not self.trajectories.is_dir():
            raise InputError(
                "the folder trajectories is missing, so this is not a whole run", where=str(self.path)
            )
        return part_paths(self.trajectories)

    def groups(self) -> Iterator[FoundGroup]:
        """Every group that has ended, each once: those in trajectory files, then those still in the ledger.

        Raises:
            InputError: a file cannot be read; ``where`` says which, and the line or row.
        """
        # The ledger first: what moves from it to a part meanwhile is then seen twice rather than never.
        with self.ledger() as ledger:
            waiting = {group.id: group for group in ledger.uncommitted()}
        for path in self.parts():
            for group_id, members in groupby(self.part(path), lambda each: each.group_id):
                waiting.pop(group_id, None)
                yield FoundGroup(group_id, path.name, tuple(members))
        for group in waiting.values():
            yield FoundGroup(group.id, LEDGER, tuple(_sound(each, LEDGER) for each in group.trajectories))

    def part(self, path: Path) -> Iterator[Trajectory]:
        """The records of one trajectory file.

        Raises:
            InputError: it cannot be read, or a record breaks the schema's rules.
        """
        return (_sound(each, str(path)) for each in read_part(path))


def _sound(each: Trajectory, file: str) -> Trajectory:
    """A record that keeps the schema's rules, so that whoever shows or exports it can rely on them."""
    try:
        check(each)
        texts = [text for message in each.messages for text in message.values()]
        assert all(isinstance(text, str) for text in texts), "a message without text"
        json.dumps([each.ground_truth, each.sampling, each.extra, vars(each.timing)], allow_nan=False)
    except (AssertionError, AttributeError, TypeError, ValueError) as error:
        raise InputError(
            f"a record breaks the schema's rules: {error}",
            where=f"{file}:{each.uid}",
            mend="asynckit runs audit finds all that do",
        ) from error
    return each


def find_run(name: str) -> Run:
    """The run in a folder, or the one of that name under ``runs/``.

    Raises:
        InputError: there is none.
    """
    given = Path(name).expanduser()
    path = given if os.path.exists(given) else RUNS / name  # noqa: PTH110 - no error for names that are too long
    if not os.path.exists(path):  # noqa: PTH110 - as above
        near = did_you_mean(given.name, _names_in(given.parent) | _names_in(RUNS))
        raise InputError("there is no such run", where=name, mend=near or "asynckit runs list shows them")
    if not path.is_dir():
        raise InputError("is not a folder", where=str(path), mend="name the folder of a run")
    if not may_read(path):
        raise InputError("you may not read this folder", where=str(path), mend="ask its owner")
    if not looks_like_run(path):
        within = sorted(_names_in(path))
        mend = f"name one of the runs in it, such as {path / within[0]}" if within else "asynckit runs list"
        raise InputError("there is no run in this folder: no config.json", where=str(path), mend=mend)
    return Run(path.absolute(), running=is_running(path))


def looks_like_run(path: Path) -> bool:
    """Whether a folder is that of a run, be it damaged."""
    if (path / LEDGER).exists():
        return True
    # A model's folder has a config.json too.
    return (path / "config.json").exists() and ((path / "trajectories").is_dir() or _has_run_config(path))


def may_read(path: Path) -> bool:
    """Whether this person may look into a folder."""
    return os.access(path, os.R_OK | os.X_OK)


def is_running(path: Path) -> bool:
    """Whether a process holds one of the run's locks.

    A shared lock is asked for and given back at once; that a beginning run waits out.
    """
    return any(_is_held(path / name) for name in (LOCK, WRITER_LOCK))


def _is_held(lock: Path) -> bool:
    try:
        descriptor = os.open(lock, os.O_RDONLY | os.O_NONBLOCK)
    except FileNotFoundError:
        return False
    except OSError as error:
        raise InputError(f"cannot be read: {error.strerror}", where=str(lock)) from error
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError as error:
        raise InputError(f"cannot be locked: {error.strerror}", where=str(lock)) from error
    finally:
        os.close(descriptor)
    return False


def _names_in(folder: Path) -> set[str]:
    with contextlib.suppress(OSError):  # only for a hint in an error that is raised anyway
        return {entry.name for entry in folder.iterdir() if entry.is_dir() and looks_like_run(entry)}
    return set()


def _has_run_config(path: Path) -> bool:
    with contextlib.suppress(OSError, ValueError):  # a file that is no run's; said where it is asked for
        document = json.loads((path / "config.json").read_bytes())
        return isinstance(document, dict) and document.get("schema") == CONFIG_SCHEMA
    return False


def _read_json(path: Path) -> dict[str, Any] | None:
    """The object in a file; None if there is no such file."""
    try:
        document = json.loads(path.read_bytes())
    except FileNotFoundError:
        return None
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(f"cannot be read: {error}", where=str(path), mend="the file is damaged") from error
    if not isinstance(document, dict):
        raise InputError("not a JSON object", where=str(path), mend="the file is damaged")
    return document
