"""The run directory: made once, replaced only on request, and nobody's files are lost."""

import contextlib
import json
from pathlib import Path

import pytest

from asynckit.disk import whole_file
from asynckit.errors import UsageError, WorkFailed
from asynckit.rollout.run_directory import LOCK, WRITER_LOCK, RunDirectory, _why_kept


def finished_run(path: Path) -> RunDirectory:
    run = RunDirectory.create(path, overwrite=False)
    run.write_config({"rollout": {"n": 4}}, "abc", "xyz")
    run.write_summary({"samples": 8})
    (run.trajectories / "part-000000.jsonl").write_text("{}\n")
    (run.logs(1) / "rollouter.log").write_text("hello")
    return run


def tree(path: Path) -> list[str]:
    return sorted(str(entry.relative_to(path)) for entry in path.rglob("*"))


@pytest.mark.parametrize("exists", [False, True])
def test_a_new_run_gets_its_folders_and_files(tmp_path: Path, exists: bool) -> None:
    """The layout is what the docs promise, also in an empty folder that is already there."""
    path = tmp_path / "runs" / "a"
    if exists:
        path.mkdir(parents=True)
    run = finished_run(path)
    assert (run.trajectories, run.logs(1)) == (path / "trajectories", path / "logs" / "attempt-1")
    config = json.loads((path / "config.json").read_text())
    assert config == {
        "schema": "asynckit.config/1",
        "digest": "abc",
        "identity": "xyz",
        "config": {"rollout": {"n": 4}},
    }
    assert json.loads((path / "summary.json").read_text()) == {"samples": 8}
    assert not list(path.glob(".*"))


def test_an_existing_run_is_refused_unless_asked(tmp_path: Path) -> None:
    """Results of hours are not replaced by a repeated command."""
    before = tree(finished_run(tmp_path / "a").path)
    with pytest.raises(UsageError, match="--overwrite"):
        RunDirectory.create(tmp_path / "a", overwrite=False)
    assert tree(tmp_path / "a") == before


def test_overwrite_replaces_a_run(tmp_path: Path) -> None:
    """Nothing of the earlier run stays, so nothing can be mixed up."""
    finished_run(tmp_path / "a")
    RunDirectory.create(tmp_path / "a", overwrite=True)
    assert tree(tmp_path / "a") == ["logs", "logs/attempt-1", "trajectories"]
    RunDirectory.create(tmp_path / "a", overwrite=True)
    RunDirectory.create(tmp_path / "new", overwrite=True)


def test_a_run_that_never_began_leaves_the_earlier_one(tmp_path: Path) -> None:
    """An engine that can't start must not cost the results that are there."""
    before = tree(finished_run(tmp_path / "a").path)
    with pytest.raises(ZeroDivisionError), RunDirectory.reserve(tmp_path / "a", overwrite=True):
        raise ZeroDivisionError
    assert [path for path in tree(tmp_path / "a") if path not in (LOCK, WRITER_LOCK)] == before
    with pytest.raises(ZeroDivisionError), RunDirectory.reserve(tmp_path / "b", overwrite=False):
        raise ZeroDivisionError
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a"]


def test_what_was_written_is_kept_whatever_happens(tmp_path: Path) -> None:
    """A part file on disk makes the run final."""
    finished_run(tmp_path / "a")
    with (
        contextlib.suppress(ZeroDivisionError),
        RunDirectory.reserve(tmp_path / "a", overwrite=True) as (run, _),
    ):
        (run.trajectories / "part-000000.jsonl").write_text("{}")
        raise ZeroDivisionError
    assert (tmp_path / "a" / "trajectories" / "part-000000.jsonl").read_text() == "{}"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a"]


def test_a_run_in_progress_is_not_overwritten(tmp_path: Path) -> None:
    """Two processes never write into one folder."""
    with RunDirectory.reserve(tmp_path / "a", overwrite=False) as (run, accept):
        accept()
        run.write_config({}, "d", "i")
        with (
            pytest.raises(UsageError, match="another process"),
            RunDirectory.reserve(run.path, overwrite=True),
        ):
            pass


@pytest.mark.parametrize(
    ("file", "content"),
    [
        ("thesis.tex", "years of work"),
        ("config.json", '{"model_type": "llama"}'),
        ("config.json", "[]"),
        ("config.json", "{"),
        ("logs/mine.log", "someone else's logs"),
    ],
)
def test_overwrite_never_deletes_what_is_no_run(tmp_path: Path, file: str, content: str) -> None:
    """`--out ~/thesis --overwrite` is refused, whatever is in there."""
    (tmp_path / file).parent.mkdir(exist_ok=True)
    (tmp_path / file).write_text(content)
    with pytest.raises(UsageError, match="does not delete"):
        RunDirectory.create(tmp_path, overwrite=True)
    assert (tmp_path / file).read_text() == content


def test_overwrite_spares_a_run_with_a_persons_file_in_it(tmp_path: Path) -> None:
    """Notes put beside the results are not part of the run."""
    run = finished_run(tmp_path / "a")
    (run.path / "notes.md").write_text("mine")
    before = tree(run.path)
    with pytest.raises(UsageError, match=r"holds notes\.md"):
        RunDirectory.create(run.path, overwrite=True)
    assert tree(run.path) == before


def test_overwrite_does_not_follow_links(tmp_path: Path) -> None:
    """A link in the place of a run, or inside one, never leads the deletion elsewhere."""
    run, other = finished_run(tmp_path / "a"), tmp_path / "other"
    (tmp_path / "link").symlink_to(run.path)
    with pytest.raises(UsageError, match="symbolic link"):
        RunDirectory.create(tmp_path / "link", overwrite=True)
    other.mkdir()
    (other / "keep").write_text("mine")
    (run.path / "report.html").symlink_to(other)
    RunDirectory.create(run.path, overwrite=True)
    assert tree(other) == ["keep"]


@pytest.mark.parametrize("inside", [".", "logs"])
def test_overwrite_spares_the_working_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, inside: str
) -> None:
    """`--out .` and `--out ..` do not delete the ground one stands on."""
    run = finished_run(tmp_path / "a")
    before = tree(run.path)
    monkeypatch.chdir(run.path / inside)
    with pytest.raises(UsageError, match="working folder"):
        RunDirectory.create("." if inside == "." else "..", overwrite=True)
    assert tree(run.path) == before


def test_the_root_is_safe() -> None:
    """A mistyped variable in `--out $RUNS/` cannot empty the machine; only the deciding function is asked."""
    assert _why_kept(Path("/")) == "the working folder is in it"


@pytest.mark.parametrize("overwrite", [False, True])
def test_a_file_in_its_place_is_refused(tmp_path: Path, overwrite: bool) -> None:
    """A file, a dangling link or a file as parent: no folder can be made, and nothing is deleted for it."""
    (tmp_path / "file").write_text("mine")
    (tmp_path / "dangling").symlink_to(tmp_path / "nowhere")
    for path in ("file", "dangling", "file/run"):
        with pytest.raises(UsageError):
            RunDirectory.create(tmp_path / path, overwrite=overwrite)
    assert (tmp_path / "file").read_text() == "mine"


def test_a_file_that_fails_half_way_leaves_the_old_one(tmp_path: Path) -> None:
    """Readers never see half a file, and a failed write costs nothing that was there."""
    path = tmp_path / "summary.json"
    path.write_text("old")
    with pytest.raises(TypeError), whole_file(path) as file:
        file.writelines([b"ne", "w"])  # type: ignore[list-item]  # the second write fails
    assert tree(tmp_path) == ["summary.json"]
    assert path.read_text() == "old"


def test_a_vanished_run_directory_is_a_failure(tmp_path: Path) -> None:
    """Writing into a deleted folder names the path."""
    run = RunDirectory(tmp_path / "gone")
    with pytest.raises(WorkFailed, match=r"gone/summary\.json"):
        run.write_summary({})


@pytest.mark.parametrize("how", ["resume", "overwrite"])
def test_whoever_still_writes_is_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    """The task runner of a killed command may live on for seconds: two writers would overwrite parts."""
    monkeypatch.setattr("asynckit.rollout.run_directory._WRITER_SECONDS", 0.05)
    run = finished_run(tmp_path / "a")
    writer = run.claim()
    again: contextlib.AbstractContextManager[object] = (
        RunDirectory.resume(run.path, identity="xyz")
        if how == "resume"
        else RunDirectory.reserve(run.path, overwrite=True)
    )
    with pytest.raises(UsageError, match="another process"), again:
        pass
    writer.release()
    with RunDirectory.resume(run.path, identity="xyz") as (_, attempt):
        assert attempt == 2
