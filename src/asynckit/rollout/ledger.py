"""What became of every group, on the disk before anybody relies on it.

A group goes ``submitted`` → ``running`` → ``completed`` → ``committed``, and back to ``submitted`` when what
ran it died. *Completed* means that its records are in the ledger, *committed* that they are in a trajectory
file. So a process may be killed at any moment: what is completed is never generated again, and what is
committed is never written again. In between a group is *settled* when its records are final: at once without
a learner, else when the learner has had it or never will.

The ledger is one SQLite file in write-ahead mode with one writer, the task runner. A transaction survives the
death of the process at once and that of the machine soon; a ledger that lags behind the trajectory files
after a power cut is brought up to date from them, see :mod:`asynckit.rollout.recovery`.
"""

import sqlite3
import threading
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

from asynckit.errors import InputError, WorkFailed
from asynckit.rollout.group import FinishedGroup, GroupStatus
from asynckit.rollout.record import from_json, to_json

NAME = "ledger.sqlite"
SCHEMA_VERSION = 2
_TABLES = """
CREATE TABLE groups (
    position INTEGER PRIMARY KEY,
    id TEXT NOT NULL UNIQUE,
    state TEXT NOT NULL DEFAULT 'submitted',
    attempts INTEGER NOT NULL DEFAULT 0,
    status TEXT,
    settled INTEGER NOT NULL DEFAULT 0,
    consumed_version INTEGER,
    records TEXT,
    part TEXT
) STRICT;
CREATE INDEX by_state ON groups (state);
"""


class Ledger:
    """The states of a run's groups.

    Args:
        path: the file; made if it is not there.

    Raises:
        InputError: the file is no ledger, or one of another version.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        # The sink's thread and the event loop take turns.
        self._lock = threading.Lock()
        self._database = sqlite3.connect(path, isolation_level=None, check_same_thread=False, timeout=30.0)
        try:
            self._prepare()
        except sqlite3.DatabaseError as error:
            self._database.close()
            raise InputError(
                f"the run's ledger cannot be read: {error}", where=str(path), mend="the file is damaged"
            ) from error

    def _prepare(self) -> None:
        self._database.execute("PRAGMA journal_mode = WAL")
        self._database.execute("PRAGMA synchronous = NORMAL")
        (version,) = self._database.execute("PRAGMA user_version").fetchone()
        if version not in (0, SCHEMA_VERSION):
            raise InputError(
                f"the run's ledger has version {version}, this asynckit writes {SCHEMA_VERSION}",
                where=str(self._path),
                mend="resume with the asynckit that began the run",
            )
        if version == 0:
            self._database.executescript(f"BEGIN; {_TABLES} PRAGMA user_version = {SCHEMA_VERSION}; COMMIT;")

    def submit(self, ids: Sequence[str]) -> None:
        """Enter new groups in order; those that are known keep their state."""
        with self._transaction() as database:
            database.executemany("INSERT OR IGNORE INTO groups (id) VALUES (?)", ((each,) for each in ids))

    def start(self, group_id: str) -> int | None:
        """A group starts to run; returns which attempt that is, from 1, or None: it has been completed."""
        with self._transaction() as database:
            row = database.execute(
                "UPDATE groups SET state = 'running', attempts = attempts + 1 "
                "WHERE id = ? AND state IN ('submitted', 'running') RETURNING attempts",
                (group_id,),
            ).fetchone()
        return row[0] if row else None

    def give_back(self, group_ids: Iterable[str]) -> None:
        """What ran these groups is gone, and so is what it had done."""
        with self._transaction() as database:
            database.executemany(
                "UPDATE groups SET state = 'submitted' WHERE id = ? AND state = 'running'",
                ((each,) for each in group_ids),
            )

    def complete(self, groups: Iterable[FinishedGroup], *, settled: bool = True) -> list[FinishedGroup]:
        """Keep the records of finished groups; returns the groups that had not been completed before.

        Args:
            groups: how they ended.
            settled: whether these are their final records.
        """
        new = []
        with self._transaction() as database:
            for group in groups:
                changed = database.execute(
                    "UPDATE groups SET state = 'completed', status = ?, settled = ?, records = ? "
                    "WHERE id = ? AND state IN ('submitted', 'running')",
                    (group.status.value, settled, _lines(group), group.id),
                )
                if changed.rowcount:
                    new.append(group)
        return new

    def settle(self, groups: Iterable[FinishedGroup]) -> None:
        """The learner has had these groups, or never will: these are their final records."""
        with self._transaction() as database:
            database.executemany(
                "UPDATE groups SET settled = 1, status = ?, consumed_version = ?, records = ? "
                "WHERE id = ? AND state = 'completed'",
                [
                    (group.status.value, group.trajectories[0].consumed_version, _lines(group), group.id)
                    for group in groups
                ],
            )

    def commit(self, part: str, groups: Iterable[FinishedGroup]) -> None:
        """The records of these groups are in a trajectory file, which is on the disk."""
        with self._transaction() as database:
            database.executemany(
                "UPDATE groups SET state = 'committed', status = ?, settled = 1, consumed_version = ?, "
                "records = NULL, part = ? WHERE id = ?",
                [
                    (group.status.value, group.trajectories[0].consumed_version, part, group.id)
                    for group in groups
                ],
            )

    def ids(self) -> list[str]:
        """All groups, in the order in which they were submitted."""
        return [row[0] for row in self._rows("SELECT id FROM groups ORDER BY position")]

    def owed(self) -> list[str]:
        """The groups that are not completed, in the order in which they were submitted."""
        return [
            row[0]
            for row in self._rows(
                "SELECT id FROM groups WHERE state IN ('submitted', 'running') ORDER BY position"
            )
        ]

    def uncommitted(self) -> list[FinishedGroup]:
        """The groups whose records are final and in no trajectory file."""
        return self._completed("settled = 1")

    def unsettled(self) -> list[FinishedGroup]:
        """The groups that are completed and that the learner still has to get."""
        return self._completed("settled = 0")

    def consumed(self) -> int:
        """How many groups the learner has had."""
        return int(self._rows("SELECT COUNT(*) FROM groups WHERE consumed_version IS NOT NULL")[0][0])

    def parts(self) -> set[str]:
        """Names of the trajectory files that the ledger knows."""
        return {row[0] for row in self._rows("SELECT DISTINCT part FROM groups WHERE part IS NOT NULL")}

    def counts(self) -> dict[str, int]:
        """How many groups are completed or committed, by how they ended."""
        return dict(
            self._rows("SELECT status, COUNT(*) FROM groups WHERE status IS NOT NULL GROUP BY status")
        )

    def _completed(self, condition: str) -> list[FinishedGroup]:
        rows = self._rows(
            "SELECT id, status, records FROM groups "  # noqa: S608 - the condition is one of ours
            f"WHERE state = 'completed' AND {condition} ORDER BY position"
        )
        return [
            FinishedGroup(
                group_id,
                GroupStatus(status),
                tuple(from_json(line, where=f"{self._path}:{group_id}") for line in records.split("\n")),
            )
            for group_id, status, records in rows
        ]

    def close(self) -> None:
        """Let go of the file."""
        with self._lock:
            self._database.close()

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        """All of the block's changes or none.

        Raises:
            WorkFailed: the disk refuses.
        """
        with self._lock:
            try:
                self._database.execute("BEGIN IMMEDIATE")
                try:
                    yield self._database
                except BaseException:
                    self._database.execute("ROLLBACK")
                    raise
                self._database.execute("COMMIT")
            except sqlite3.OperationalError as error:
                raise WorkFailed(
                    f"the run's ledger cannot be written: {error}",
                    where=str(self._path),
                    mend="free some space or mend the disk; then continue with --resume",
                ) from error

    def _rows(self, query: str) -> list[tuple[Any, ...]]:
        with self._lock:
            return list(self._database.execute(query))


def has_finished(path: Path) -> bool:
    """Whether the ledger under a path holds what must not be lost. Doubt counts as yes."""
    try:
        with closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True)) as database:
            query = "SELECT EXISTS (SELECT 1 FROM groups WHERE state IN ('completed', 'committed'))"
            return bool(database.execute(query).fetchone()[0])
    except sqlite3.Error:  # a reader needs a little room on the disk, too
        return path.is_file() and path.stat().st_size > 0


def _lines(group: FinishedGroup) -> str:
    return "\n".join(map(to_json, group.trajectories))
