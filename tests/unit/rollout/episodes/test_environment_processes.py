"""Episodes in processes of their own: what one does wrong costs nobody else, and nothing is left behind."""

import asyncio
import os
import signal
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from asynckit.errors import InputError, WorkFailed
from asynckit.rollout.episodes.environment_processes import EnvironmentProcesses
from asynckit.rollout.episodes.environments import Reply

GAME = """
import os
import subprocess
import sys
import time
from pathlib import Path


class Game:
    def __init__(self, seed):
        self.seed, self.heard = seed, []

    async def step(self, text):
        self.heard.append(text)
        acts = {
            "raise": lambda: 1 / 0,
            "exit": lambda: sys.exit(2),
            "die": lambda: os._exit(3),
            "hang": lambda: time.sleep(600),
            "shout": lambda: "x" * 2**25,
            "start": lambda: str(subprocess.Popen(["sleep", "600"]).pid),
            "who": lambda: str(os.getpid()),
            "nap": self.nap,
        }
        return acts[text]() if text in acts else f"{self.seed}: {' '.join(self.heard)}"

    def nap(self):
        Path("napping").touch()
        while not Path("wake").exists():
            time.sleep(0.01)

    def reward(self):
        return len(self.heard)

    def close(self):
        Path("closed").write_text("yes")
"""


@asynccontextmanager
async def games(folder: Path, limit: float = 20.0) -> AsyncIterator[EnvironmentProcesses]:
    """Processes for the class above, in ``folder``."""
    (folder / "games.py").write_text(GAME)
    processes = EnvironmentProcesses("games:Game", [str(folder)], limit, 60.0)
    await processes.start()
    try:
        yield processes
    finally:
        await processes.close()


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder of its own."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def alive(pid: int) -> bool:
    """Whether a process runs."""
    try:
        return "\nState:\tZ" not in Path(f"/proc/{pid}/status").read_text()
    except FileNotFoundError:
        return False


def gone(pid: int) -> bool:
    """Whether a process ends within seconds."""
    deadline = time.monotonic() + 10
    while alive(pid) and time.monotonic() < deadline:
        time.sleep(0.01)
    return not alive(pid)


def parent(pid: int) -> int:
    """The process that has started it."""
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])


async def test_an_episode_keeps_its_state_and_is_closed(here: Path) -> None:
    """Many at a time, each hears only its own."""
    async with games(here) as processes:

        async def play(seed: int) -> None:
            async with processes.episode({"seed": seed, "messages": []}) as game:
                assert await game.step("a") == Reply(f"{seed}: a")
                assert await game.step("b") == Reply(f"{seed}: a b")
                assert await game.reward() == 2.0

        await asyncio.gather(*map(play, range(8)))
    assert (here / "closed").read_text() == "yes"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("raise", r"step raised ZeroDivisionError: division by zero \(.*games\.py:16\)"),
        ("exit", "step raised SystemExit: 2"),
        ("die", "the environment's process died"),
        ("shout", "said more than"),
    ],
)
async def test_what_an_episode_does_wrong_costs_it_alone(here: Path, text: str, message: str) -> None:
    """The one beside it goes on, and so do new ones."""
    async with games(here) as processes, processes.episode({"seed": 1}) as other:
        async with processes.episode({"seed": 2}) as game:
            with pytest.raises(WorkFailed, match=message):
                await game.step(text)
        assert await other.step("a") == Reply("1: a")
        async with processes.episode({"seed": 3}) as another:
            assert await another.step("a") == Reply("3: a")


async def test_a_hang_is_killed(here: Path) -> None:
    """With everything that the environment has started."""
    async with games(here, limit=1.0) as processes:
        async with processes.episode({"seed": 1}) as game:
            children = [int((await game.step(what) or Reply("")).content) for what in ("who", "start")]
            with pytest.raises(WorkFailed, match=r"longer than rollout\.environment_timeout=1 s"):
                await game.step("hang")
        assert all(map(gone, children))


async def test_leaving_in_the_middle_of_a_call_leaves_nothing_behind(here: Path) -> None:
    """As a stopped run does: the hanging process is killed when its time is over."""
    async with games(here, limit=0.5) as processes:
        started = asyncio.Event()
        pid = 0

        async def play() -> None:
            nonlocal pid
            async with processes.episode({"seed": 1}) as game:
                pid = int((await game.step("who") or Reply("")).content)
                started.set()
                await game.step("hang")

        task = asyncio.create_task(play())
        await started.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert gone(pid)


async def test_an_episode_that_is_left_in_the_middle_of_a_call_is_closed_after_it(here: Path) -> None:
    """A stopped run lets environments give back what they hold."""
    async with games(here) as processes:
        game = asyncio.create_task(nap(processes))
        await asyncio.to_thread(wait_for, here / "napping")
        game.cancel()
        await asyncio.wait([game])
        (here / "wake").touch()
    assert (here / "closed").read_text() == "yes"


async def nap(processes: EnvironmentProcesses) -> None:
    """Be in a call until somebody wakes the environment."""
    async with processes.episode({"seed": 1}) as game:
        await game.step("nap")


def wait_for(path: Path) -> None:
    """Until there is such a file, or seconds have gone by."""
    deadline = time.monotonic() + 10
    while not path.exists():
        assert time.monotonic() < deadline
        time.sleep(0.01)


async def test_a_dead_host_takes_its_episodes_along_and_is_replaced(here: Path) -> None:
    """Whoever was at it hears so at once; later episodes have a new one."""
    async with games(here) as processes:
        async with processes.episode({"seed": 1}) as game:
            pid = int((await game.step("who") or Reply("")).content)
            os.kill(parent(pid), signal.SIGKILL)
            assert gone(pid)
            with pytest.raises(WorkFailed, match="died"):
                await game.step("a")
        async with processes.episode({"seed": 2}) as game:
            assert await game.step("a") == Reply("2: a")


async def test_a_class_that_can_t_be_loaded_says_so(here: Path) -> None:
    """The person's own error arrives, not the death of a process."""
    (here / "broken.py").write_text("1 / 0")
    processes = EnvironmentProcesses("broken:Game", [str(here)], 5.0, 60.0)
    with pytest.raises(InputError, match=r"ZeroDivisionError.*broken\.py:1"):
        await processes.start()


async def test_an_import_that_hangs_is_killed(here: Path) -> None:
    """Starting has a limit as everything has."""
    (here / "slow_game.py").write_text("import time\ntime.sleep(600)")
    processes = EnvironmentProcesses("slow_game:Game", [str(here)], 5.0, 0.5)
    with pytest.raises(WorkFailed, match=r"rollout\.startup_timeout=0\.5 s"):
        await processes.start()
