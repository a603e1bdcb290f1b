"""The ledger: every group ends once, whatever dies in between."""

import sqlite3
from pathlib import Path
from typing import ClassVar
from uuid import uuid4

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    rule,
    run_state_machine_as_test,
)

from asynckit.errors import InputError, WorkFailed
from asynckit.rollout.group import FinishedGroup, GroupStatus
from asynckit.rollout.ledger import Ledger, has_finished
from asynckit.rollout.record import EngineInfo, Trajectory

IDS = [f"group-{index}" for index in range(6)]


def finished(group_id: str, text: str = "4") -> FinishedGroup:
    record = Trajectory(
        uid=f"{group_id}/0",
        group_id=group_id,
        sample_index=0,
        status="completed",
        messages=[{"role": "assistant", "content": text}],
        data_source="sums",
        engine=EngineInfo("torch", "tiny", "digest"),
    )
    return FinishedGroup(group_id, GroupStatus.COMPLETED, (record,))


def test_what_is_completed_outlives_the_process(tmp_path: Path) -> None:
    """Records and states are read back by another process's ledger, line breaks in texts included."""
    path = tmp_path / "ledger.sqlite"
    ledger = Ledger(path)
    ledger.submit(IDS)
    assert ledger.start(IDS[0]) == 1
    ledger.start(IDS[1])
    group = finished(IDS[1], "two\nlines\u2028and a half")
    assert ledger.complete([group]) == [group]
    later = Ledger(path)  # the first one was never closed
    assert later.owed() == [IDS[0], *IDS[2:]]
    assert later.uncommitted() == [group]
    later.commit("part-000000.parquet", [group])
    assert Ledger(path).uncommitted() == []
    assert Ledger(path).counts() == {"completed": 1}
    assert Ledger(path).parts() == {"part-000000.parquet"}


def test_attempts_are_counted(tmp_path: Path) -> None:
    """Over the death of what ran a group, and over that of the ledger's owner."""
    ledger = Ledger(tmp_path / "ledger.sqlite")
    ledger.submit(IDS)
    assert ledger.start(IDS[0]) == 1
    ledger.give_back([IDS[0]])
    assert ledger.owed() == IDS
    assert Ledger(tmp_path / "ledger.sqlite").start(IDS[0]) == 2


def test_a_run_is_worth_keeping_once_a_group_is_completed(tmp_path: Path) -> None:
    path = tmp_path / "ledger.sqlite"
    assert not has_finished(path)
    ledger = Ledger(path)
    ledger.submit(IDS)
    ledger.start(IDS[0])
    assert not has_finished(path)
    ledger.complete([finished(IDS[0])])
    assert has_finished(path)  # while it is open
    ledger.close()
    assert has_finished(path)
    path.write_bytes(b"what cannot be read may be worth something")
    assert has_finished(path)


@pytest.mark.parametrize("content", [b"no database at all, but long enough to look like one" * 20])
def test_a_file_that_is_no_ledger_is_refused(tmp_path: Path, content: bytes) -> None:
    """With its name, instead of a traceback or a new ledger in its place."""
    path = tmp_path / "ledger.sqlite"
    path.write_bytes(content)
    with pytest.raises(InputError, match="ledger"):
        Ledger(path)
    assert path.read_bytes() == content


def test_a_ledger_of_another_version_is_refused(tmp_path: Path) -> None:
    """A later asynckit may keep its books differently."""
    path = tmp_path / "ledger.sqlite"
    with sqlite3.connect(path) as database:
        database.execute("PRAGMA user_version = 7")
    database.close()
    with pytest.raises(InputError, match="version 7"):
        Ledger(path)


def test_a_full_disk_changes_nothing(tmp_path: Path) -> None:
    """What can't be written is refused as a whole, and can be tried again."""
    ledger = Ledger(tmp_path / "ledger.sqlite")
    ledger.submit(IDS)
    ledger._database.execute("PRAGMA max_page_count = 8")
    with pytest.raises(WorkFailed, match="--resume"):
        ledger.complete([finished(IDS[0]), finished(IDS[1], "x" * 100_000)])
    assert ledger.owed() == IDS
    ledger._database.execute("PRAGMA max_page_count = 1000000")
    assert len(ledger.complete([finished(IDS[0])])) == 1


class Books(RuleBasedStateMachine):
    """A ledger beside a model of what it should know."""

    folder: ClassVar[Path]

    @initialize()
    def begin(self) -> None:
        """A new ledger."""
        self.path = self.folder / f"{uuid4()}.sqlite"
        self.ledger = Ledger(self.path)
        self.ledger.submit(IDS)
        self.states = dict.fromkeys(IDS, "owed")

    @rule(group_id=st.sampled_from(IDS))
    def run(self, group_id: str) -> None:
        """A group starts, or it is too late for that."""
        assert (self.ledger.start(group_id) is None) == (self.states[group_id] != "owed")

    @rule(group_id=st.sampled_from(IDS))
    def lose(self, group_id: str) -> None:
        """What ran it dies."""
        self.ledger.give_back([group_id])

    @rule(ids=st.lists(st.sampled_from(IDS), unique=True))
    def complete(self, ids: list[str]) -> None:
        """Some of them have been completed before: an earlier attempt came through after all."""
        new = self.ledger.complete(map(finished, ids))
        assert [group.id for group in new] == [each for each in ids if self.states[each] == "owed"]
        self.states |= {group.id: "completed" for group in new}

    @rule()
    def commit(self) -> None:
        """Everything completed is written."""
        groups = self.ledger.uncommitted()
        self.ledger.commit("part", groups)
        self.states |= {group.id: "committed" for group in groups}

    @rule()
    def die_and_come_back(self) -> None:
        """The owner dies; its successor opens the file."""
        self.ledger = Ledger(self.path)
        self.ledger.submit(IDS)

    @invariant()
    def the_books_balance(self) -> None:
        """Every group is in one state, and in the right one."""
        if hasattr(self, "ledger"):
            owed, waiting = self.ledger.owed(), [group.id for group in self.ledger.uncommitted()]
            assert owed == [each for each in IDS if self.states[each] == "owed"]
            assert waiting == [each for each in IDS if self.states[each] == "completed"]
            assert sum(self.ledger.counts().values()) + len(owed) == len(IDS)


def test_any_history_keeps_the_books_balanced(tmp_path: Path) -> None:
    """Whatever runs, is lost, completes twice, is committed or dies: every group is in one state."""
    Books.folder = tmp_path
    run_state_machine_as_test(
        Books, settings=settings(max_examples=25, stateful_step_count=20, deadline=None)
    )
