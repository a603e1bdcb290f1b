"""Reading a ledger: the same answers whatever state a run left it in, and not a byte changed."""

import shutil
import sqlite3
from pathlib import Path

import pytest

from asynckit.errors import InputError
from asynckit.rollout.afterwards.ledger_reader import read_ledger
from asynckit.rollout.group import FinishedGroup, GroupStatus
from asynckit.rollout.ledger import Ledger
from asynckit.rollout.record import EngineInfo, Trajectory

BLANK = Trajectory("u", "b", 0, "completed", [], "sums", EngineInfo("", "", ""))


def state_of(folder: Path) -> dict[str, tuple[int, int]]:
    return {path.name: (path.stat().st_size, path.stat().st_mtime_ns) for path in folder.iterdir()}


def written(path: Path) -> Ledger:
    ledger = Ledger(path)
    ledger.submit(["a", "b", "c"])
    ledger.start("a")
    ledger.complete([FinishedGroup("b", GroupStatus.COMPLETED, (BLANK,))])
    ledger.commit("part-000000.jsonl", [FinishedGroup("c", GroupStatus.FAILED, (BLANK,))])
    return ledger


def summary_of(path: Path, *, live: bool) -> list[tuple[object, ...]]:
    with read_ledger(path, live=live) as ledger:
        assert [group.id for group in ledger.uncommitted()] == ["b"]
        assert ledger.problems() == []
        assert ledger.counts()["ended:failed"] == 1
        return [(each.id, each.state, each.status, each.part) for each in ledger.entries()]


EXPECTED = [
    ("a", "running", None, None),
    ("b", "completed", "completed", None),
    ("c", "committed", "failed", "part-000000.jsonl"),
]


def test_a_ledger_that_is_being_written_is_read_as_of_one_moment(tmp_path: Path) -> None:
    """The writer is not kept from going on, and the reader does not see half of what it does."""
    path = tmp_path / "ledger.sqlite"
    ledger = written(path)
    before = state_of(tmp_path)
    assert summary_of(path, live=True) == EXPECTED
    assert state_of(tmp_path) == before
    with read_ledger(path, live=True) as reader:
        first = reader.counts()
        ledger.give_back(["a"])
        ledger.submit(["d"])
        assert reader.counts() == first
    assert len(summary_of(path, live=True)) == 4


def test_a_closed_ledger_is_read_without_a_file_beside_it(tmp_path: Path) -> None:
    """SQLite's own read-only mode would leave two files behind, which another user could not even remove."""
    path = tmp_path / "ledger.sqlite"
    written(path).close()
    before = state_of(tmp_path)
    assert list(before) == ["ledger.sqlite"]
    assert summary_of(path, live=False) == EXPECTED
    assert state_of(tmp_path) == before


@pytest.mark.parametrize("shared_memory", [True, False])
def test_what_a_killed_run_had_not_moved_into_its_ledger_is_seen(tmp_path: Path, shared_memory: bool) -> None:
    """Transactions in the write-ahead file count, and stay where they are, on read-only media too."""
    writing, killed = tmp_path / "writing", tmp_path / "killed ?#%"
    writing.mkdir()
    killed.mkdir()
    ledger = written(writing / "ledger.sqlite")
    for path in writing.iterdir():
        if shared_memory or not path.name.endswith("-shm"):
            shutil.copy(path, killed)
    ledger.close()
    before = state_of(killed)
    assert before["ledger.sqlite-wal"][0] > 0
    killed.chmod(0o500)  # nothing can be made in it
    assert summary_of(killed / "ledger.sqlite", live=False) == EXPECTED
    assert state_of(killed) == before


def test_a_run_that_was_killed_before_its_first_entry_has_no_groups(tmp_path: Path) -> None:
    """The file is there and holds no table yet."""
    path = tmp_path / "ledger.sqlite"
    path.touch()
    with read_ledger(path, live=False) as ledger:
        assert list(ledger.entries()) == []
        assert list(ledger.uncommitted()) == []
        assert ledger.counts() == {}


def test_what_is_no_ledger_is_said_to_be_none(tmp_path: Path) -> None:
    """Missing, damaged, cut short, of another version, or with a record that is none."""
    path = tmp_path / "ledger.sqlite"
    with pytest.raises(InputError, match="missing"), read_ledger(path, live=False):
        pass
    path.write_bytes(b"not a database, and long enough to be taken for one" * 40)
    with pytest.raises(InputError, match="cannot be read"), read_ledger(path, live=False):
        pass
    path.unlink()
    written(path).close()
    whole = path.read_bytes()
    path.write_bytes(whole[:4096])
    with pytest.raises(InputError, match="cannot be read"), read_ledger(path, live=False) as ledger:
        list(ledger.entries())
    path.write_bytes(whole)
    database = sqlite3.connect(path)
    database.execute("UPDATE groups SET records = '{}' WHERE id = 'b'")
    database.commit()
    with pytest.raises(InputError, match="schema"), read_ledger(path, live=True) as ledger:
        list(ledger.uncommitted())
    database.execute("PRAGMA user_version = 99")
    database.commit()
    database.close()
    with pytest.raises(InputError, match="version 99"), read_ledger(path, live=False):
        pass
