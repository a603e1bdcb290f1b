"""Finding a run and saying how it stands, without touching it."""

import json
import shutil
import threading
from dataclasses import replace
from pathlib import Path

import pytest
from made_runs import N, make_run, one_group, sums

from asynckit.errors import InputError
from asynckit.rollout.afterwards.run_reader import find_run, is_running
from asynckit.rollout.ledger import Ledger
from asynckit.rollout.recovery import regroup
from asynckit.rollout.run_directory import RunDirectory


def test_a_run_is_found_by_folder_and_by_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Both what the shell completes and what a person remembers."""
    monkeypatch.chdir(tmp_path)
    make_run(Path("runs/first"), groups=1)
    assert find_run("first").path == find_run("runs/first").path == tmp_path / "runs" / "first"


def test_what_is_no_run_is_said_to_be_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A near name is suggested, and a folder of runs is told from a run."""
    monkeypatch.chdir(tmp_path)
    make_run(Path("runs/first"), groups=1)
    (tmp_path / "empty").mkdir()
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "config.json").write_text("{}")
    for name, message, mend in (
        ("frist", "no such run", "did you mean first?"),
        ("f" * 5000, "no such run", "runs list"),
        ("empty", "no run in this folder", "runs list"),
        ("model", "no run in this folder", "runs list"),
        ("runs", "no run in this folder", "runs/first"),
        ("runs/first/config.json", "not a folder", "name the folder"),
    ):
        with pytest.raises(InputError, match=message) as caught:
            find_run(name)
        assert mend in caught.value.mend


def test_a_damaged_run_is_found_and_its_damage_named(tmp_path: Path) -> None:
    """Each file that is missing or broken is the one that the error is about."""
    run = make_run(tmp_path / "run", groups=1)
    found = find_run(str(tmp_path / "run"))
    summary = tmp_path / "run" / "summary.json"
    summary.write_text("{")
    with pytest.raises(InputError, match="cannot be read") as caught:
        found.summary()
    assert caught.value.where == str(summary)
    summary.write_text("[]")
    with pytest.raises(InputError, match="not a JSON object"):
        found.status()
    run.config_path.write_text('{"schema": "other"}')
    with pytest.raises(InputError, match="the schema is 'other'"):
        found.config()
    run.config_path.unlink()
    with pytest.raises(InputError, match=r"config\.json is missing"):
        find_run(str(tmp_path / "run")).config()
    shutil.rmtree(run.trajectories)
    with pytest.raises(InputError, match="trajectories is missing"):
        list(found.groups())


def test_a_run_that_is_written_is_seen_by_its_lock(tmp_path: Path) -> None:
    """By the lock of the command, or of the task runner, which may outlive it."""
    with RunDirectory.reserve(tmp_path / "run", overwrite=False) as (directory, accept):
        accept()
        assert is_running(directory.path)
    assert not is_running(directory.path)
    lock = directory.claim()
    assert is_running(directory.path)
    lock.release()
    assert not is_running(directory.path)


def test_looking_does_not_keep_a_run_from_beginning(tmp_path: Path) -> None:
    """Nobody is told that another process writes because somebody listed runs."""
    done = threading.Event()

    def look() -> None:
        while not done.is_set():
            is_running(tmp_path / "run")

    looking = threading.Thread(target=look)
    looking.start()
    try:
        for number in range(100):
            with RunDirectory.reserve(tmp_path / "run", overwrite=number > 0) as (directory, accept):
                directory.write_config({}, "digest", "identity")
                accept()
    finally:
        done.set()
        looking.join()


def test_the_status_is_that_of_the_newest_attempt(tmp_path: Path) -> None:
    """A summary from before a resumed run was killed says nothing about that run."""
    make_run(tmp_path / "done", groups=2)
    assert find_run(str(tmp_path / "done")).status() == "done"
    make_run(tmp_path / "killed", groups=3, unwritten=1, summary=False)
    assert find_run(str(tmp_path / "killed")).status() == "cut off"
    run = make_run(tmp_path / "resumed", groups=3, owed=1)
    assert find_run(str(run.path)).status() == "interrupted"
    ledger = Ledger(run.path / "ledger.sqlite")
    (owed,) = ledger.owed()
    (group,) = regroup(one_group(sums(1)[0], "identity"))
    ledger.commit("part-000009.parquet", [replace(group, id=owed)])
    ledger.close()
    assert find_run(str(run.path)).status() == "cut off"


def test_records_that_are_in_no_part_yet_are_read_from_the_ledger(tmp_path: Path) -> None:
    """Nothing that a killed run had finished is missing, and nothing is there twice."""
    run = make_run(tmp_path / "run", "rollout.format=jsonl", groups=5, unwritten=2, owed=1, summary=False)
    groups = list(find_run(str(run.path)).groups())
    assert [group.file for group in groups] == [*["part-000000.jsonl"] * 2, *["ledger.sqlite"] * 2]
    assert {len(group.trajectories) for group in groups} == {N}
    assert len({group.id for group in groups}) == 4


def test_a_record_that_breaks_the_rules_is_not_passed_on(tmp_path: Path) -> None:
    """Who shows or exports records need not expect what cannot be."""
    run = make_run(tmp_path / "run", "rollout.format=jsonl", groups=1)
    (part,) = run.trajectories.iterdir()
    lines = part.read_text().splitlines()
    record = json.loads(lines[1])
    for changed in ({"response_mask": [1]}, {"extra": {"a": float("nan")}}, {"messages": [{"role": 1}]}):
        line = json.dumps({**record, **changed})
        part.write_text("\n".join([lines[0], line, *lines[2:]]) + "\n")
        with pytest.raises(InputError, match="breaks the schema's rules") as caught:
            list(find_run(str(run.path)).groups())
        assert record["uid"] in caught.value.where
