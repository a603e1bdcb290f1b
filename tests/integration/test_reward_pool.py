"""Rewards in real Ray workers: whatever one does, its sample ends as documented, in bounded time."""

import asyncio
import os
import time
from collections.abc import AsyncIterator, Iterable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from ray_head import joined

from asynckit.errors import InputError
from asynckit.rollout.config import RewardConfig
from asynckit.rollout.prompting.prompts import Prompt
from asynckit.rollout.scoring.reward_pool import RewardPool
from asynckit.rollout.scoring.rewards import Failure, RewardInput, Score

PROMPT = Prompt(0, "2 + 3?", None, "5", "sums", {}, "f.jsonl:1")

REWARDS = r"""
import os, re, signal, subprocess, sys, time
from pathlib import Path

def in_c():
    re.match(r"(a+)+$", "a" * 60 + "b")      # holds the interpreter for ever

def deaf():
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGALRM):
        signal.signal(number, signal.SIG_IGN)
    time.sleep(600)

class Sudden(BaseException):
    pass

def score(response):
    if response == "in C": in_c()
    if response == "deaf": deaf()
    if response == "dies": os._exit(0)
    if response == "exits": sys.exit(0)
    if response == "interrupts": raise KeyboardInterrupt
    if response == "sudden": raise Sudden("no Exception")
    if response == "prints": print("stdout"); os.write(1, b"stdout\n")
    return {"nan": float("nan"), "inf": 10**400, "none": None, "text": "1.0"}.get(response, 1.0)

def quick(response):
    if response == "hangs": time.sleep(600)
    return 1.0

def leaves_children(response):
    child = subprocess.Popen(["sleep", "600"])
    forked = os.fork()
    if forked == 0:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        time.sleep(600)
    Path(response).write_text(f"{os.getpid()} {child.pid} {forked}")
    time.sleep(600)

class Judge:
    def __init__(self, mode="fine", log=""):
        if mode == "raises": raise OSError("no GPU")
        if mode == "dies": os._exit(1)
        if mode == "hangs": time.sleep(600)
        self.log = log
    async def score(self, response):
        return {"score": len(response), "words": 1}
    def close(self):
        Path(self.log).write_text("closed")
"""


@pytest.fixture(scope="module", autouse=True)
def _ray(shared_ray: dict[str, str]) -> Iterator[None]:
    with joined(shared_ray):
        yield


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with the module ``hostile``."""
    (tmp_path / "hostile.py").write_text(REWARDS)
    return tmp_path


@asynccontextmanager
async def pool_of(
    config: RewardConfig, folder: Path, startup_timeout: float = 60.0
) -> AsyncIterator[RewardPool]:
    """A pool that is started, and closed afterwards."""
    pool = RewardPool(config, [str(folder)], startup_timeout)
    await pool.start()
    yield pool
    await pool.close()


def responses(*texts: str) -> list[RewardInput]:
    return [RewardInput(text, PROMPT) for text in texts]


def all_end(pids: Iterable[int]) -> bool:
    """Whether the processes end within ten seconds."""
    deadline = time.monotonic() + 10
    while any(Path(f"/proc/{pid}").exists() for pid in pids):
        if time.monotonic() > deadline:
            return False
        time.sleep(0.05)
    return True


async def test_whatever_a_reward_does_costs_its_own_sample_only(folder: Path) -> None:
    """Hanging in C, ignoring signals, dying, exiting, and returning what is no score."""
    expected = {
        "fine": "",
        "in C": "longer than reward.timeout=2 s",
        "deaf": "longer than reward.timeout=2 s",
        "dies": "the reward's process died",
        "exits": "SystemExit: 0",
        "interrupts": "KeyboardInterrupt",
        "sudden": "Sudden: no Exception",
        "prints": "",
        "nan": "the reward is nan",
        "inf": "OverflowError",
        "none": "of type NoneType",
        "text": "of type str",
        "fine too": "",
    }
    async with pool_of(RewardConfig(name="hostile:score", timeout=2.0, workers=2), folder) as pool:
        scores = await pool.score(responses(*expected))
        assert pool.scored == len(expected)
    for said, score in zip(expected.values(), scores, strict=True):
        if said:
            assert isinstance(score, Failure)
            assert said in score.error
        else:
            assert score == Score(1.0)


async def test_the_others_of_a_quick_group_are_scored_when_one_hangs(folder: Path) -> None:
    """A group in one call shares one time-out, and only who overran it fails; from then on one by one."""
    async with pool_of(RewardConfig(name="hostile:quick", timeout=1.0), folder) as pool:
        while not pool._pools["hostile:quick"]._quick:
            await pool.score(responses("first"))
        group = ["fine"] * 39 + ["hangs"] + ["fine"] * 24
        scores = await pool.score(responses(*group))
        assert [isinstance(score, Failure) for score in scores] == [text == "hangs" for text in group]
        assert not pool._pools["hostile:quick"]._trusted


async def test_a_cancelled_call_leaves_no_process_and_no_worker_less(folder: Path, tmp_path: Path) -> None:
    """Children die with the worker, forked ones that ignore SIGTERM too, and its place is free again."""
    pipe = tmp_path / "pids"
    os.mkfifo(pipe)
    async with pool_of(RewardConfig(name="hostile:leaves_children", timeout=60.0), folder) as pool:
        task = asyncio.create_task(pool.score(responses(str(pipe))))
        pids = (await asyncio.to_thread(pipe.read_text)).split()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert len(pids) == 3
        assert await asyncio.to_thread(all_end, [int(pid) for pid in pids])
        inner = pool._pools["hostile:leaves_children"]
        assert inner._idle.qsize() == 1


@pytest.mark.parametrize(
    ("mode", "message", "seconds"),
    [("raises", "no GPU", 60.0), ("dies", "ended its process", 60.0), ("hangs", "longer than 3 s", 3.0)],
)
async def test_a_constructor_that_fails_says_so_before_anything_is_scored(
    folder: Path, mode: str, message: str, seconds: float
) -> None:
    """Raising, dying and hanging are all the reward's, by name."""
    config = RewardConfig(name="hostile:Judge", args={"mode": mode})
    with pytest.raises(InputError, match=message) as caught:
        async with pool_of(config, folder, seconds):
            pass
    assert caught.value.where == "hostile:Judge"


async def test_components_have_their_own_time_limits_and_are_closed(folder: Path, tmp_path: Path) -> None:
    """One that hangs is named and costs the sample; the classes' close() is called at the end."""
    log = tmp_path / "log"
    config = RewardConfig(
        components={"hostile:Judge": 0.5, "hostile:quick": 2.0}, args={"log": str(log)}, timeout=1.0
    )
    async with pool_of(config, folder) as pool:
        good, bad = await pool.score(responses("four", "hangs"))
    parts = {"hostile:Judge": 4.0, "hostile:Judge/words": 1.0, "hostile:quick": 1.0}
    assert good == Score(4.0, parts)
    assert bad == Failure("hostile:quick: the reward took longer than reward.timeout=1 s")
    assert log.read_text() == "closed"


async def test_mathematics_is_compared_in_a_worker(folder: Path) -> None:
    """Workers score in their main thread, where alarms work: what is endless is wrong, and no failure."""
    async with pool_of(RewardConfig(name="math_verify"), folder) as pool:
        scores = await pool.score(responses(r"\boxed{\frac{10}{2}}", r"\boxed{9^{9^{9^9}}}"))
    assert scores == [Score(1.0), Score(0.0, {"verifier_error": 1.0})]
