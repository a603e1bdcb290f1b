"""A run's ledger as a reader sees it: nothing in the run's folder is made, changed or locked for long.

SQLite in write-ahead mode keeps two more files beside the ledger, and makes them for readers too. So how the
ledger is opened depends on what is there. While a run writes, both files exist and SQLite's own locks keep
reader and writer apart. After a run that closed its ledger there is nothing but the one file, which is opened
as immutable. After one that was killed the write-ahead file still holds transactions, which a reader would
have to put in order: that is done with a copy.
"""

import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

from asynckit.errors import InputError
from asynckit.rollout.group import FinishedGroup, GroupStatus
from asynckit.rollout.ledger import SCHEMA_VERSION
from asynckit.rollout.record import from_json

_BUSY_SECONDS = 30.0
_COPIES = 3  # tries to copy a ledger that changes meanwhile


class Entry(NamedTuple):
    """One group.

    Attributes:
        id: the group.
        state: submitted, running, completed or committed.
        status: how it ended; None unless it did.
        part: name of the trajectory file that has it; None unless it is committed.
        has_records: whether the ledger holds its records.
    """

    id: str
    state: str
    status: str | None
    part: str | None
    has_records: bool


class LedgerReader:
    """What a ledger said at one moment; see :func:`read_ledger`."""

    def __init__(self, database: sqlite3.Connection, path: Path) -> None:
        self._database, self._path = database, path

    def entries(self) -> Iterator[Entry]:
        """Every group, in the order in which they were submitted."""
        query = "SELECT id, state, status, part, records IS NOT NULL FROM groups ORDER BY position"
        for group_id, state, status, part, has_records in self._rows(query):
            yield Entry(group_id, state, status, part, bool(has_records))

    def uncommitted(self) -> Iterator[FinishedGroup]:
        """The groups that are completed and in no trajectory file, with their records.

        Raises:
            InputError: a record is damaged; ``where`` is the ledger and the group.
        """
        query = "SELECT id, status, records FROM groups WHERE state = 'completed' ORDER BY position"
        for group_id, status, records in self._rows(query):
            where = f"{self._path}:{group_id}"
            try:
                lines = records.split("\n")
                ended = GroupStatus(status)
            except (AttributeError, ValueError) as error:
                raise InputError(
                    f"a completed group has no records or status: {error}", where=where
                ) from error
            yield FinishedGroup(group_id, ended, tuple(from_json(line, where=where) for line in lines))

    def counts(self) -> dict[str, int]:
        """How many groups are in each state, and under ``ended:STATUS`` how many ended that way."""
        found: dict[str, int] = {}
        for state, status, count in self._rows("SELECT state, status, COUNT(*) FROM groups GROUP BY 1, 2"):
            found[state] = found.get(state, 0) + count
            if status is not None:
                found[f"ended:{status}"] = found.get(f"ended:{status}", 0) + count
        return found

    def problems(self) -> list[str]:
        """What SQLite's own integrity check finds; empty when all is well."""
        return [text for (text,) in self._rows("PRAGMA integrity_check(10)") if text != "ok"]

    def _rows(self, query: str) -> Iterator[tuple[Any, ...]]:
        try:
            if not _version(self._database):
                return  # the run was killed before it had entered anything
            yield from self._database.execute(query)
        except sqlite3.DatabaseError as error:
            raise _damaged(error, self._path) from error


@contextmanager
def read_ledger(path: Path, *, live: bool, none_yet: bool = False) -> Iterator[LedgerReader]:
    """A ledger as it is now; what is read within the block is of one moment, even if a run goes on writing.

    Args:
        path: the file.
        live: whether a run may be writing it.
        none_yet: whether a missing ledger is one without groups.

    Raises:
        InputError: there is no such file, or it is damaged, or of another version.
    """
    if none_yet and not path.exists():
        with closing(sqlite3.connect(":memory:")) as nothing:
            yield LedgerReader(nothing, path)
        return
    if not path.is_file():
        raise InputError("the run's ledger is missing", where=str(path), mend="name the folder of a run")
    with _connected(path, live=live) as database:
        try:
            database.execute("BEGIN")
            version = _version(database)
        except sqlite3.DatabaseError as error:
            raise _damaged(error, path) from error
        if version not in (0, SCHEMA_VERSION):
            raise InputError(
                f"the run's ledger has version {version}, this asynckit reads {SCHEMA_VERSION}",
                where=str(path),
                mend="read it with the asynckit that wrote it",
            )
        yield LedgerReader(database, path)


@contextmanager
def _connected(path: Path, *, live: bool) -> Iterator[sqlite3.Connection]:
    journal = path.with_name(f"{path.name}-wal")
    with TemporaryDirectory(prefix="asynckit-") as scratch:
        how = "mode=ro"
        if not (live and journal.exists()):
            how = "immutable=1"
            if journal.exists() and journal.stat().st_size:
                path, how = _copied(path, journal, Path(scratch)), "mode=rw"
        uri = f"{path.absolute().as_uri()}?{how}"
        try:
            database = sqlite3.connect(uri, uri=True, isolation_level=None, timeout=_BUSY_SECONDS)
        except sqlite3.DatabaseError as error:
            raise _damaged(error, path) from error
        with closing(database):
            yield database


def _copied(path: Path, journal: Path, scratch: Path) -> Path:
    """The ledger's copy, with its write-ahead file, both of the same moment."""
    for _ in range(_COPIES):
        before = path.stat().st_mtime_ns, journal.stat().st_mtime_ns
        try:
            for each in (path, journal):
                shutil.copyfile(each, scratch / each.name)
            if before == (path.stat().st_mtime_ns, journal.stat().st_mtime_ns):
                return scratch / path.name
        except FileNotFoundError:  # whoever writes has just closed it
            continue
    raise InputError("the run's ledger is being written", where=str(path), mend="try again")


def _version(database: sqlite3.Connection) -> int:
    (version,) = database.execute("PRAGMA user_version").fetchone()
    return int(version)


def _damaged(error: sqlite3.DatabaseError, path: Path) -> InputError:
    return InputError(
        f"the run's ledger cannot be read: {error}", where=str(path), mend="the file is damaged"
    )
