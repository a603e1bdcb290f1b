"""Revisions of a git repository, checked out beside it for as long as they are measured."""

import os
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from asynckit.errors import DependencyError, UsageError, WorkFailed

_SECONDS = 60.0  # of git, at most
_CHECKOUT_SECONDS = 600.0
# Set inside hooks, where they would point every command at another repository than the one that is named.
_MISLEADING = ("GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE", "GIT_PREFIX", "GIT_COMMON_DIR")


def find_root(folder: Path) -> Path:
    """The repository that a folder belongs to.

    Raises:
        UsageError: it belongs to none.
        DependencyError: there is no git.
    """
    answer = _git(folder, "rev-parse", "--show-toplevel")
    if answer.returncode:
        raise UsageError(
            f"{folder} is in no git repository", where="--against", mend="go to the repository's folder"
        )
    return Path(answer.stdout.rstrip("\n"))


def find_commit(root: Path, revision: str) -> str | None:
    """The commit that a branch, tag or anything else that git understands names; None if it is none."""
    answer = _git(root, "rev-parse", "--verify", "--quiet", "--end-of-options", f"{revision}^{{commit}}")
    return None if answer.returncode else answer.stdout.strip()


def names(root: Path) -> list[str]:
    """Branches and tags."""
    return _git(root, "for-each-ref", "--format=%(refname:short)", "refs/heads", "refs/tags").stdout.split()


@contextmanager
def checked_out(root: Path, commit: str) -> Iterator[Path]:
    """A folder with the files of a commit, without submodules; it is gone afterwards.

    Raises:
        WorkFailed: git refuses, or the disk is full.
    """
    with tempfile.TemporaryDirectory(prefix="asynckit-", ignore_cleanup_errors=True) as folder:
        tree = Path(folder) / root.name
        # No hooks: what they do after a checkout is meant for a person's own folder.
        options = ("-c", "core.hooksPath=/dev/null", "worktree", "add", "--quiet", "--detach", "--force")
        answer = _git(root, *options, str(tree), commit, seconds=_CHECKOUT_SECONDS)
        try:
            if answer.returncode:
                told = answer.stderr.strip() or f"exit code {answer.returncode}"
                raise WorkFailed(f"git could not check out {commit}: {told}", where="--against")
            yield tree
        finally:
            _git(root, "worktree", "remove", "--force", "--force", str(tree))


def _git(folder: Path, *arguments: str, seconds: float = _SECONDS) -> subprocess.CompletedProcess[str]:
    environment = {name: value for name, value in os.environ.items() if name not in _MISLEADING}
    command = ["git", "-C", str(folder), *arguments]
    try:
        return subprocess.run(
            command,
            env=environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            encoding="utf-8",
            errors="surrogateescape",
            timeout=seconds,
            check=False,
        )
    except FileNotFoundError:
        raise DependencyError("there is no git", where="--against", mend="install git") from None
    except subprocess.TimeoutExpired:
        raise WorkFailed(f"git {arguments[0]} took more than {seconds:g} s", where=str(folder)) from None
