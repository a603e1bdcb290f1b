"""The list of runs: every one is there, however it ended, with numbers that are those of its files."""

import json
import os
import shutil
from pathlib import Path

import pytest
from made_runs import N, make_run
from rich.console import Console

from asynckit.errors import InputError
from asynckit.rollout.afterwards.run_listing import list_runs, render, shown_size, to_dict
from asynckit.rollout.run_directory import RunDirectory


def stamped(path: Path, seconds: float) -> None:
    os.utime(path / "config.json", (seconds, seconds))


def test_every_run_is_listed_with_its_numbers(tmp_path: Path) -> None:
    """Done, killed, running and damaged runs, in folders of folders, the newest first."""
    make_run(tmp_path / "done", groups=3)
    make_run(
        tmp_path / "more" / "killed", "rollout.format=jsonl", groups=5, unwritten=2, owed=1, summary=False
    )
    running = make_run(tmp_path / "running", groups=5, owed=3, summary=False)
    make_run(tmp_path / "damaged", groups=2, summary=False)
    (tmp_path / "damaged" / "trajectories" / "part-000000.parquet").write_bytes(b"no")
    make_run(tmp_path / ".done.replaced-7", groups=1)
    (tmp_path / "something else").mkdir()
    for seconds, name in enumerate(("done", "more/killed", "running", "damaged")):
        stamped(tmp_path / name, 1e9 + seconds)
    lock = running.claim()
    found = list_runs(tmp_path)
    lock.release()
    assert [each.name for each in found] == ["damaged", "running", "more/killed", "done"]
    damaged, runs, killed, done = found
    assert "part-000000.parquet" in damaged.problem
    assert [each.status for each in found] == ["damaged", "running", "cut off", "done"]
    assert (runs.ended, runs.submitted, runs.samples["completed"]) == (2, 5, 2 * (N - 1))
    assert (killed.ended, killed.submitted) == (4, 5)
    assert killed.samples == {"completed": 4 * (N - 1), "truncated": 4}
    assert (killed.mean_reward, killed.tokens_per_second) == (0.5, None)
    assert (done.mean_reward, done.tokens_per_second, done.model) == (0.5, 12.5, "smollm2-135m-instruct")
    assert done.begun == "2001-09-09T01:46:40+00:00"
    assert done.bytes == sum(path.stat().st_size for path in (tmp_path / "done").rglob("*") if path.is_file())
    document = to_dict(tmp_path, found)
    assert [each["status"] for each in document["runs"]] == [each.status for each in found]


def test_a_run_itself_can_be_listed(tmp_path: Path) -> None:
    """The folder may be that of a run."""
    make_run(tmp_path / "one", groups=1)
    assert [each.name for each in list_runs(tmp_path / "one")] == ["one"]


@pytest.mark.parametrize("missing", ["config.json", "ledger.sqlite", "trajectories"])
def test_a_run_without_one_of_its_files_is_listed_as_damaged(tmp_path: Path, missing: str) -> None:
    """It takes space, and somebody may want to know."""
    run = make_run(tmp_path / "run", groups=1, summary=False)
    path = run.path / missing
    shutil.rmtree(path) if path.is_dir() else path.unlink()
    (entry,) = list_runs(tmp_path)
    assert entry.status == "damaged"
    assert missing.partition(".")[0] in entry.problem


@pytest.mark.parametrize(
    ("field", "value"),
    [("groups", 3), ("samples", [1]), ("schema", "other/1"), (None, [])],
)
def test_a_run_with_an_odd_summary_is_listed_as_damaged(
    tmp_path: Path, field: str | None, value: object
) -> None:
    """Whoever reads the list need not fear one broken file among many."""
    make_run(tmp_path / "sound", groups=1)
    path = make_run(tmp_path / "odd", groups=1).path / "summary.json"
    document = json.loads(path.read_text())
    path.write_text(json.dumps({**document, field: value} if field else value))
    problems = {each.name: each.problem for each in list_runs(tmp_path)}
    assert problems["sound"] == ""
    assert problems["odd"].startswith("summary.json: ")


def test_names_cannot_command_the_terminal(tmp_path: Path) -> None:
    """A folder's or a model's name is text, not markup and not an escape sequence."""
    make_run(tmp_path / "[red]\x1b[31mevil", groups=1)
    config = tmp_path / "[red]\x1b[31mevil" / "config.json"
    config.write_text(config.read_text().replace("smollm2-135m-instruct", "[/bold]\x9b2J"))
    console = Console(width=200, force_terminal=False)
    with console.capture() as capture:
        console.print(render(tmp_path, list_runs(tmp_path)))
    assert r"[red]\x1b[31mevil" in capture.get()
    assert r"[/bold]\x9b2J" in capture.get()
    assert not {"\x1b", "\x9b"} & set(capture.get())


def test_listing_changes_nothing(tmp_path: Path) -> None:
    """Not a file appears, and none is touched."""
    run = make_run(tmp_path / "run", groups=2, owed=1)
    before = {path: path.stat().st_mtime_ns for path in run.path.rglob("*")}
    list_runs(tmp_path)
    assert {path: path.stat().st_mtime_ns for path in run.path.rglob("*")} == before


def test_a_folder_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    """Nobody takes a typing mistake for an empty folder; an empty folder has no runs."""
    with pytest.raises(InputError, match="no such folder"):
        list_runs(tmp_path / "runs")
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match="not a folder"):
        list_runs(tmp_path / "file")
    assert list_runs(tmp_path) == []


def test_sizes_have_units() -> None:
    """Three digits or so, whatever the size."""
    sizes = (0, 999, 1000, 1_234_567, 5e9, 7e15)
    assert [shown_size(int(size)) for size in sizes] == [
        "0 B",
        "999 B",
        "1.0 kB",
        "1.2 MB",
        "5.0 GB",
        "7000.0 TB",
    ]


def test_a_run_that_has_just_begun_is_listed(tmp_path: Path) -> None:
    """Between the making of its folder and its first entry there is no ledger."""
    with RunDirectory.reserve(tmp_path / "run", overwrite=False) as (directory, accept):
        directory.write_config({"model": {"name": "m"}}, "digest", "identity")
        accept()
        (entry,) = list_runs(tmp_path)
    assert (entry.status, entry.model, entry.ended) == ("running", "m", 0)
