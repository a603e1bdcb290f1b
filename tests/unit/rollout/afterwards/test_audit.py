"""The audit: holds for what a rollout writes, and names exactly what has been tampered with."""

import json
import shutil
import sqlite3
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from made_runs import N, make_run

from asynckit.config.recorded import read_recorded
from asynckit.rollout.afterwards.audit import audit
from asynckit.rollout.afterwards.audit_records import terms_of
from asynckit.rollout.afterwards.audit_report import Audit, Check
from asynckit.rollout.afterwards.run_reader import find_run
from asynckit.rollout.ledger import Ledger
from asynckit.rollout.record import Trajectory, from_row, to_row
from asynckit.rollout.sinks import read_part

LEARNER = ("learner.kind=simulated", "async_training.max_staleness=2")


def audited(path: Path) -> Audit:
    recorded = read_recorded(path / "config.json")
    root = recorded.root
    terms = terms_of(
        root.rollout,
        root.sampling.seed,
        root.async_training,
        root.learner,
        recorded.identity,
        intact=recorded.intact,
    )
    return audit(find_run(str(path)), terms)


def broken(path: Path) -> dict[str, Check]:
    return {check.name: check for check in audited(path).broken}


def change_row(part: Path, row: int, change: Callable[[dict[str, Any]], None]) -> str:
    """Change one record of a Parquet file; returns its uid."""
    table = pq.read_table(part, partitioning=None)
    rows = table.to_pylist()
    change(rows[row])
    pq.write_table(pa.Table.from_pylist(rows, schema=table.schema), part)
    return str(rows[row]["uid"])


def consumed(each: Trajectory) -> Trajectory:
    return replace(each, consumed_version=each.max_version + 1 if each.max_version is not None else None)


@pytest.mark.parametrize("kind", ["parquet", "jsonl"])
def test_everything_holds_for_a_run_that_came_to_its_end(tmp_path: Path, kind: str) -> None:
    """Every check is made, in either format, over several parts and several batches of rows."""
    run = make_run(tmp_path / "run", f"rollout.format={kind}", *LEARNER, groups=300, change=consumed)
    result = audited(run.path)
    assert [check.verdict for check in result.checks] == ["holds"] * len(result.checks), result.broken
    assert (result.status, result.records) == ("done", 300 * N)
    assert result.ages == {1: 300 * (6 + 7 + 8 + 9 - 2 * N), 2: 300 * 2 * N}
    assert json.loads(json.dumps(result.to_dict()))["holds"] is True
    result.raise_for_findings()


def test_a_killed_run_holds_and_says_what_is_owed(tmp_path: Path) -> None:
    """What is in the ledger alone is checked too; an unfinished part and owed groups are no fault."""
    run = make_run(tmp_path / "run", groups=6, unwritten=2, owed=1, summary=False)
    (run.trajectories / ".part-000007.parquet.tmp").write_bytes(b"begun")
    result = audited(run.path)
    verdicts = {check.name: check.verdict for check in result.checks}
    assert verdicts.pop("summary") == "not checked"
    assert set(verdicts.values()) == {"holds"}
    assert result.records == 5 * N
    covers = {check.name: check.covers for check in result.checks}
    assert "1 owed" in covers["ends"]
    assert "not over" in covers["ends"]
    assert "1 found" in covers["temporaries"]


def test_a_part_that_the_ledger_does_not_know_yet_is_no_fault_of_a_killed_run(tmp_path: Path) -> None:
    """It was renamed into place just before the end; --resume enters it."""
    run = make_run(tmp_path / "run", groups=2, summary=False)
    with sqlite3.connect(run.path / "ledger.sqlite") as database:
        database.execute("UPDATE groups SET state = 'running', status = NULL, part = NULL")
    database.close()
    assert broken(run.path) == {}
    run.write_summary({"schema": "asynckit.summary/1", "status": "done", "groups": {}})
    assert {"ledger", "ends", "summary"} == set(broken(run.path))


FOLLOWS = {
    "a status that is none": {"ledger", "summary"},
    "no engine": {"groups", "advantages", "summary"},
}
ROW_FAULTS: dict[str, tuple[str, Callable[[dict[str, Any]], None]]] = {
    "a mask that is too short": ("records", lambda row: row["response_mask"].pop()),
    "a logprob that is none": ("records", lambda row: row["logprobs"].__setitem__(0, float("nan"))),
    "spans that leave a token out": ("records", lambda row: row["version_spans"][1].update(start=3)),
    "a status that is none": ("records", lambda row: row.update(status="finished")),
    "JSON that is none": ("records", lambda row: row.update(sampling="{")),
    "JSON with a NaN": ("records", lambda row: row.update(extra='{"a": NaN}')),
    "no engine": ("records", lambda row: row.update(engine=None)),
    "versions that go back": (
        "versions",
        lambda row: row.update(
            version_spans=[{**row["version_spans"][0], "version": 9}, row["version_spans"][1]],
            max_version=9,
            min_version=1,
        ),
    ),
    "another uid": ("uids", lambda row: row.update(uid="0" * 32)),
    "another advantage": ("advantages", lambda row: row.update(advantage=0.5)),
    "no advantage": ("advantages", lambda row: row.update(advantage=None)),
}


@pytest.mark.parametrize("fault", ROW_FAULTS)
def test_a_fault_in_one_record_is_found_in_its_row(tmp_path: Path, fault: str) -> None:
    """The finding names the file, the row and the uid, and no other check cries."""
    name, change = ROW_FAULTS[fault]
    run = make_run(tmp_path / "run", groups=4)
    uid = change_row(run.trajectories / "part-000001.parquet", 2, change)
    found = broken(run.path)
    # Some faults show elsewhere as well: without its engine, for one, a record is missing from its group.
    assert set(found) - FOLLOWS.get(fault, set()) == {name}
    (finding,) = found[name].findings
    assert (finding.where, finding.uid) == ("trajectories/part-000001.parquet:row 3", uid)


@pytest.mark.parametrize("column", ["messages", "ground_truth", "data_source"])
def test_another_prompt_is_found_by_its_hash(tmp_path: Path, column: str) -> None:
    """A group's id binds the prompt, the answer and the source, which the first record of the group shows."""
    run = make_run(tmp_path / "run", groups=4)
    texts = {"messages": [{"role": "user", "content": "5?"}], "ground_truth": '"7"', "data_source": "other"}
    change_row(run.trajectories / "part-000000.parquet", 0, lambda row: row.update({column: texts[column]}))
    assert set(broken(run.path)) == {"names"}


def test_another_seed_is_found(tmp_path: Path) -> None:
    """Responses that another seed made are not those of this group."""
    run = make_run(tmp_path / "run", groups=2)
    change_row(
        run.trajectories / "part-000000.parquet", 0, lambda row: row.update(sampling='{"seed": 1, "n": 4}')
    )
    assert "seed" in broken(run.path)["names"].findings[0].problem


def test_a_sample_that_is_there_twice_is_found(tmp_path: Path) -> None:
    """In its own group the number of samples is wrong as well."""
    run = make_run(tmp_path / "run", "rollout.format=jsonl", groups=2)
    (part,) = run.trajectories.iterdir()
    lines = part.read_text().splitlines(keepends=True)
    part.write_text("".join([*lines, lines[-1]]))
    found = broken(run.path)
    assert set(found) == {"unique", "groups", "advantages", "summary"}
    assert found["unique"].findings[0].where == "trajectories/part-000000.jsonl:9"


def test_a_lost_sample_is_found(tmp_path: Path) -> None:
    """A group with a hole in it is named."""
    run = make_run(tmp_path / "run", "rollout.format=jsonl", groups=2)
    (part,) = run.trajectories.iterdir()
    lines = part.read_text().splitlines(keepends=True)
    part.write_text("".join(lines[:1] + lines[2:]))
    assert "0, 2, 3" in broken(run.path)["groups"].findings[0].problem


@pytest.mark.parametrize("kind", ["parquet", "jsonl"])
@pytest.mark.parametrize("keep", [0, 0.5, 0.98])
def test_a_truncated_part_is_found(tmp_path: Path, kind: str, keep: float) -> None:
    """It is named as unreadable or cut off, its groups as missing, and the rest is still audited."""
    run = make_run(tmp_path / "run", f"rollout.format={kind}", groups=6)
    part = run.trajectories / f"part-000001.{kind}"
    part.write_bytes(part.read_bytes()[: int(keep * part.stat().st_size)])
    found = broken(run.path)
    assert {"ledger", "summary"} <= set(found) or {"groups", "summary"} <= set(found)
    if keep or kind == "parquet":
        assert found["files"].findings[0].where.startswith(f"trajectories/part-000001.{kind}")


def test_a_flipped_byte_is_found(tmp_path: Path) -> None:
    """Pages of Parquet parts carry checksums, so that no damage to a value goes unseen."""
    run = make_run(tmp_path / "run", groups=2)
    part = run.trajectories / "part-000000.parquet"
    whole, records = part.read_bytes(), list(read_part(part))
    for place in range(40, len(whole) // 2, max(1, len(whole) // 40)):
        part.write_bytes(whole[:place] + bytes([whole[place] ^ 0x10]) + whole[place + 1 :])
        assert broken(run.path) or list(read_part(part)) == records, place


def test_a_missing_and_a_foreign_part_are_found(tmp_path: Path) -> None:
    """Ledger and files are compared in both directions."""
    run = make_run(tmp_path / "run", groups=6)
    other = make_run(tmp_path / "other", "sampling.seed=0", "sampling.temperature=0.5", groups=2)
    (run.trajectories / "part-000001.parquet").unlink()
    shutil.copy(other.trajectories / "part-000000.parquet", run.trajectories / "part-000009.parquet")
    problems = {finding.problem for finding in broken(run.path)["ledger"].findings}
    assert "the ledger names it, and it is not there" in problems
    assert "the ledger does not know this group" in problems
    assert any("has no records there" in problem for problem in problems)


def test_a_group_in_another_part_or_with_another_end_is_found(tmp_path: Path) -> None:
    """The ledger's word on each group is compared with the records."""
    run = make_run(tmp_path / "run", groups=4)
    with sqlite3.connect(run.path / "ledger.sqlite") as database:
        database.execute("UPDATE groups SET part = 'part-000001.parquet' WHERE position = 1")
        database.execute("UPDATE groups SET status = 'failed' WHERE position = 2")
        database.execute("UPDATE groups SET state = 'lost' WHERE position = 4")
    database.close()
    found = broken(run.path)
    assert found["ledger"].broken == 3
    assert "no state lost" in found["ends"].findings[0].problem


def test_an_owed_group_of_a_run_that_is_over_is_found(tmp_path: Path) -> None:
    """A run that says done has nothing left to do."""
    run = make_run(tmp_path / "run", groups=3, owed=1)
    assert broken(run.path) == {}
    summary = json.loads((run.path / "summary.json").read_text())
    run.write_summary({**summary, "status": "done"})
    assert set(broken(run.path)) == {"ends"}


@pytest.mark.parametrize(
    ("name", "value"),
    [("mean_reward", 0.25), ("response_tokens", 1), ("samples", {}), ("submitted", 3), ("files", [])],
)
def test_a_summary_that_says_otherwise_is_found(tmp_path: Path, name: str, value: object) -> None:
    """Every number that people quote is counted again."""
    run = make_run(tmp_path / "run", groups=4)
    summary = json.loads((run.path / "summary.json").read_text())
    run.write_summary({**summary, name: value})
    (finding,) = broken(run.path)["summary"].findings
    assert finding.problem.startswith(f"{name} is ")


def test_settings_that_were_changed_afterwards_are_found(tmp_path: Path) -> None:
    """Raising the bound in config.json does not make stale tokens fresh."""
    run = make_run(tmp_path / "run", *LEARNER, groups=2)
    text = run.config_path.read_text()
    run.config_path.write_text(text.replace('"max_staleness": 2', '"max_staleness": 9'))
    assert set(broken(run.path)) == {"settings"}


def test_a_token_that_was_too_old_is_found(tmp_path: Path) -> None:
    """Token by token: the response's newest token may be fresh while its oldest is not."""
    run = make_run(tmp_path / "run", *LEARNER, groups=4, change=consumed)
    assert broken(run.path) == {}
    part = run.trajectories / "part-000001.parquet"
    uid = change_row(part, 1, lambda row: row.update(consumed_version=3))
    finding = broken(run.path)["staleness"].findings[0]
    assert finding.uid == uid
    assert finding.problem == "a token was 3 versions old, 2 is allowed"
    change_row(part, 1, lambda row: row.update(consumed_version=0))
    assert "newer than its learner" in broken(run.path)["staleness"].findings[0].problem


def test_a_token_that_the_policy_did_not_sample_has_no_age(tmp_path: Path) -> None:
    """What a tool wrote does not go stale."""

    def masked(each: Trajectory) -> Trajectory:
        length = len(each.response_ids)
        mask = [0, 0, *[1] * (length - 2)]
        logprobs = [-0.25 * bit for bit in mask]
        return replace(consumed(each), response_mask=mask, logprobs=logprobs)

    run = make_run(tmp_path / "run", "learner.kind=simulated", groups=3, change=masked)
    result = audited(run.path)
    assert result.broken == []
    assert list(result.ages) == [1]


def test_nothing_was_consumed_where_there_is_no_learner(tmp_path: Path) -> None:
    """A version at which nobody trained is a lie."""
    run = make_run(tmp_path / "run", groups=2, change=consumed)
    assert set(broken(run.path)) == {"staleness"}


def test_a_file_that_a_dead_process_left_is_found(tmp_path: Path) -> None:
    """In a run that is over nothing is half written."""
    run = make_run(tmp_path / "run", groups=2)
    (run.path / ".summary.json.tmp").touch()
    assert broken(run.path)["temporaries"].findings[0].where == ".summary.json.tmp"


def test_damage_to_the_ledger_does_not_keep_the_files_from_being_checked(tmp_path: Path) -> None:
    """Without the ledger nobody knows the groups' places, and that is said."""
    run = make_run(tmp_path / "run", groups=2)
    (run.path / "ledger.sqlite").write_bytes(b"x" * 5000)
    result = audited(run.path)
    verdicts = {check.name: check.verdict for check in result.checks}
    assert verdicts["ledger"] == "broken"
    assert verdicts["names"] == "not checked"
    assert verdicts["records"] == verdicts["uids"] == verdicts["groups"] == "holds"
    assert result.records == 2 * N


def test_failed_and_thrown_away_groups_hold(tmp_path: Path) -> None:
    """A failed sample has no advantage, and its group's end is failed."""

    def change(each: Trajectory) -> Trajectory:
        if each.sample_index:
            return replace(each, reward=1.0, advantage=0.0)
        return replace(each, status="failed", error="no", reward=None, advantage=None)

    run = make_run(tmp_path / "run", groups=3, change=change)
    assert broken(run.path) == {}
    assert Ledger(run.path / "ledger.sqlite").counts() == {"failed": 3}
    rows = [to_row(each) for each in read_part(run.trajectories / "part-000000.parquet")]
    assert from_row(rows[0]).status == "failed"
