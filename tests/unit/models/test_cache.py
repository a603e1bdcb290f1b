"""Keeps the promises of the cache: whole folders only, built once, bounded waits."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from asynckit.errors import DependencyError
from asynckit.models.cache import build_once, cache_root, locked


def test_the_cache_is_chosen_by_argument_then_variable(tmp_path: Path, own_cache: Path) -> None:
    """model.cache_dir wins over ASYNCKIT_CACHE_DIR, which wins over the user's cache."""
    assert cache_root(str(tmp_path / "mine")) == tmp_path / "mine"
    assert cache_root(None) == own_cache


def test_without_settings_the_cache_is_the_users(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The default follows the platform's rule for cache folders."""
    monkeypatch.delenv("ASYNCKIT_CACHE_DIR")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache_root(None) == tmp_path / "asynckit"


def test_a_folder_is_built_once(tmp_path: Path) -> None:
    """What is in the cache is not built again."""
    built: list[Path] = []

    def build(folder: Path) -> None:
        built.append(folder)
        folder.mkdir()

    for _ in range(2):
        assert build_once(tmp_path / "x", build, doing="building", wait_seconds=1) == tmp_path / "x"
    assert built == [tmp_path / "x.partial"]


def test_a_crash_midway_leaves_nothing_that_looks_whole(tmp_path: Path) -> None:
    """A half-built folder is never returned, and the next call builds again."""

    def crash(folder: Path) -> None:
        folder.mkdir()
        raise RuntimeError("killed")

    with pytest.raises(RuntimeError, match="killed"):
        build_once(tmp_path / "x", crash, doing="building", wait_seconds=1)
    assert not (tmp_path / "x").exists()
    build_once(tmp_path / "x", lambda folder: folder.mkdir(exist_ok=True), doing="building", wait_seconds=1)
    assert (tmp_path / "x").is_dir()


def test_an_unwritable_cache_says_how_to_choose_another(tmp_path: Path) -> None:
    """A cache path that cannot be a folder ends in one sentence with a mend."""
    (tmp_path / "file").write_text("")
    with pytest.raises(DependencyError, match="ASYNCKIT_CACHE_DIR"):
        build_once(tmp_path / "file" / "x", Path.mkdir, doing="building", wait_seconds=1)


def test_a_full_disk_says_how_to_choose_another_cache(tmp_path: Path) -> None:
    """A failing write ends in one sentence with a mend."""

    def fail(folder: Path) -> None:
        raise OSError(28, "No space left on device", str(folder))

    with pytest.raises(DependencyError, match=r"No space left on device.*ASYNCKIT_CACHE_DIR"):
        build_once(tmp_path / "x", fail, doing="building", wait_seconds=1)


_HOLD = """
import sys
from pathlib import Path
from asynckit.models.cache import locked
with locked(Path(sys.argv[1]), "holding", 1):
    print("held", flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def holder(tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    """Another process, which holds the lock file until its stdin is closed."""
    command = [sys.executable, "-c", _HOLD, str(tmp_path / "lock")]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        assert process.stdout.readline() == "held\n"
        yield process


@pytest.mark.usefixtures("holder")
def test_the_wait_for_another_process_ends_with_a_message(tmp_path: Path) -> None:
    """A stuck process does not hang all others, and what it does is named."""
    with (
        pytest.raises(DependencyError, match="still converting x"),
        locked(tmp_path / "lock", "converting x", 0.1),
    ):
        pass


def test_the_lock_of_a_killed_process_is_free(holder: subprocess.Popen[str], tmp_path: Path) -> None:
    """A process killed by force leaves no stale lock behind."""
    holder.kill()
    holder.wait()
    with locked(tmp_path / "lock", "building", 60):
        pass
