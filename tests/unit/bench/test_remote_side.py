"""The side in a process of its own: started, asked, and ended whatever it does."""

from pathlib import Path

import pytest
from made_comparisons import write_module

from asynckit.bench.config import BenchConfig
from asynckit.bench.remote_side import RemoteSide
from asynckit.bench.side_messages import Job
from asynckit.errors import DependencyError, InputError, UsageError, WorkFailed

QUICK = BenchConfig(device="cpu", cache="hot", warmup_seconds=0.01)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_module(tmp_path)
    return tmp_path


def job(folder: Path, *patterns: str, **more: object) -> Job:
    return Job(name="side", patterns=patterns, root=str(folder), folder=str(folder), bench=QUICK, **more)  # type: ignore[arg-type]


def test_rounds_are_timed_in_another_process(folder: Path) -> None:
    """What the function prints doesn't get in the way of the answers."""
    with RemoteSide(job(folder, "hot:work", "hot:shout")) as side:
        assert side.keys == ["hot:work", "hot:shout"]
        assert side.device == "cpu"
        assert not side.open("hot:shout").reason
        assert side.seconds() > 0


def test_a_function_that_raises_costs_its_case_only(folder: Path) -> None:
    """The process goes on."""
    with RemoteSide(job(folder, "hot:lose", "hot:work")) as side:
        assert "RuntimeError: lost" in side.open("hot:lose").reason
        assert not side.open("hot:work").reason
        (folder / "raise").touch()
        with pytest.raises(WorkFailed, match="side: failed in a later round: RuntimeError: told to"):
            side.seconds()


def test_a_function_that_never_returns_is_stopped(folder: Path) -> None:
    """Every wait has an end."""
    side = RemoteSide(job(folder, "hot:work"), round_seconds=0.2)
    side.open("hot:work")
    (folder / "block").touch()
    with pytest.raises(WorkFailed, match=r"gave no answer for 0\.2 s and was stopped"):
        side.seconds()
    with pytest.raises(WorkFailed, match="its process was killed by SIGKILL"):
        side.seconds()
    side.close()


def test_a_process_that_dies_is_told(folder: Path) -> None:
    """With how it ended."""
    with RemoteSide(job(folder, "hot:work")) as side:
        side.open("hot:work")
        (folder / "die").touch()
        with pytest.raises(WorkFailed, match="its process ended with exit code 3"):
            side.seconds()


def test_errors_keep_their_kind(folder: Path) -> None:
    """So that the command ends with their exit code; and they name the side."""
    with pytest.raises(InputError, match=r"side: hot:wrok: hot has no 'wrok' \(did you mean work\?\)"):
        RemoteSide(job(folder, "hot:wrok"))


def test_code_from_elsewhere_is_refused(folder: Path) -> None:
    """An installed module is the same on both sides: a verdict on it would be SAME whatever was changed."""
    with pytest.raises(InputError, match="not from the revision: the sides would be alike"):
        RemoteSide(job(folder, "platform:machine"))


def test_the_suite_of_another_repository_is_refused(folder: Path) -> None:
    """Its revisions don't change what asynckit's cases measure."""
    with pytest.raises(UsageError, match="not asynckit's"):
        RemoteSide(job(folder, "launch"))


def test_an_asynckit_without_the_suite_is_refused(tmp_path: Path) -> None:
    """A revision from before there were cases has none to compare."""
    (tmp_path / "src" / "asynckit").mkdir(parents=True)
    (tmp_path / "src" / "asynckit" / "__init__.py").touch()
    with pytest.raises(DependencyError, match="has no cases of bench-cuda yet"):
        RemoteSide(job(tmp_path, "launch"))


def test_an_asynckit_is_measured_by_this_one(tmp_path: Path) -> None:
    """Of another revision only what is named is imported: measuring is the same on both sides."""
    package = tmp_path / "src" / "asynckit"
    package.mkdir(parents=True)
    (package / "__init__.py").touch()
    (package / "hot.py").write_text("from asynckit.cold import work\n")
    (package / "cold.py").write_text("def work():\n    return sum(range(100))\n")
    with RemoteSide(job(tmp_path, "asynckit.hot:work")) as side:
        assert not side.open("asynckit.hot:work").reason
        assert side.seconds() > 0
