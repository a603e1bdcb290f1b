"""``--against``: functions, revisions and configurations, through real git and real processes."""

import subprocess
from pathlib import Path

import pytest
from made_comparisons import write_module

from asynckit.bench.against import (
    Partner,
    compare_configurations,
    compare_functions,
    compare_revision,
    kind_of_partner,
)
from asynckit.bench.compare import Verdict
from asynckit.bench.config import BenchConfig
from asynckit.bench.side_messages import Job
from asynckit.errors import UsageError

QUICK = BenchConfig(device="cpu", cache="hot", warmup_seconds=0.01)
LITTLE, MUCH = 50, 500_000


def git(folder: Path, *arguments: str) -> str:
    who = ("-c", "user.name=A", "-c", "user.email=a@example.org")
    command = ["git", *who, *arguments]
    return subprocess.run(command, cwd=folder, check=True, capture_output=True, text=True).stdout


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """Two commits, the tag ``quick`` on the first, and a function that does far more since."""
    root = tmp_path / "repository"
    write_module(root / "tools", LITTLE)
    git(root, "init", "-q", "-b", "main")
    git(root, "add", ".")
    git(root, "commit", "-qm", "first")
    git(root, "tag", "quick")
    write_module(root / "tools", MUCH)
    git(root, "commit", "-qam", "second")
    return root


@pytest.mark.parametrize(
    ("value", "kind"),
    [
        ("hot:work", Partner.FUNCTION),
        ("package.hot:Thing.work@hook", Partner.FUNCTION),
        ("hot:work@other.module:hook", Partner.FUNCTION),
        ("conf/b.yaml", Partner.CONFIG),
        ("b.YML", Partner.CONFIG),
        ("main", Partner.REVISION),
        ("v0.1.0", Partner.REVISION),
        ("origin/feature-x", Partner.REVISION),
        ("HEAD~3", Partner.REVISION),
    ],
)
def test_what_a_partner_is(value: str, kind: Partner) -> None:
    """Nobody has to say which of the three is meant."""
    assert kind_of_partner(value) is kind


def test_the_files_are_compared_with_a_revision(repository: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each side measures its own files, from the folder where the person is; nothing is left behind."""
    monkeypatch.setenv("GIT_DIR", "/nowhere")  # as in a hook
    job = Job(name="", patterns=("hot:work",), bench=QUICK)
    found = compare_revision("quick", job, repository / "tools")
    commit = git_plainly(repository, "rev-parse", "quick").strip()
    assert (found.before, found.after) == (f"quick ({commit[:12]})", "the files as they are")
    assert found.comparisons[0].verdict is Verdict.SLOWER
    assert found.comparisons[0].regression
    assert len(git_plainly(repository, "worktree", "list").splitlines()) == 1
    assert not git_plainly(repository, "status", "--porcelain", "--ignored=no").replace(
        "?? tools/__pycache__/\n", ""
    )


def git_plainly(folder: Path, *arguments: str) -> str:
    """Without what hooks set."""
    return git(folder, "--git-dir", str(folder / ".git"), "--work-tree", str(folder), *arguments)


def test_a_revision_that_is_none(repository: Path, tmp_path: Path) -> None:
    """Near misses are suggested; outside of a repository there are none."""
    job = Job(name="", patterns=("hot:work",), bench=QUICK)
    with pytest.raises(UsageError, match=r"no revision 'quik' \(did you mean quick\?\)"):
        compare_revision("quik", job, repository)
    with pytest.raises(UsageError, match="no revision '--help'"):
        compare_revision("--help", job, repository)
    with pytest.raises(UsageError, match="is in no git repository"):
        compare_revision("main", job, tmp_path)


def test_two_functions_are_compared(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In this process, by their names."""
    write_module(tmp_path, LITTLE, "brief")
    write_module(tmp_path, MUCH, "lengthy")
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    found = compare_functions("lengthy:work", ("brief:work",), QUICK)
    assert (found.before, found.after) == ("lengthy:work", "brief:work")
    assert found.comparisons[0].verdict is Verdict.FASTER
    with pytest.raises(UsageError, match="is compared with one other"):
        compare_functions("lengthy:work", ("brief:work", "launch"), QUICK)
    with pytest.raises(UsageError, match="is compared with one other"):
        compare_functions("lengthy:work", (), QUICK)


def test_two_configurations_are_compared(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Cases of the suite, in a process each; on a CPU this one has nothing to time."""
    monkeypatch.chdir(tmp_path)
    before, after = (Job(name=name, patterns=("launch graph",), bench=QUICK) for name in ("a.yaml", "b.yaml"))
    found = compare_configurations(before, after)
    assert [(each.key, each.reason) for each in found.comparisons] == [
        ("launch graph x1000", "a.yaml: needs a GPU")
    ]
