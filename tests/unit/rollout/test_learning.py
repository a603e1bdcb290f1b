"""Learning: the learner has every group once, and nothing is published before it is settled."""

import asyncio
from collections.abc import Sequence
from typing import Any

import pytest

from asynckit.rollout.backlog import Backlog
from asynckit.rollout.group import FinishedGroup, Group, GroupStatus
from asynckit.rollout.learning import Learning, StartsInTime
from asynckit.rollout.prompting.prompts import Prompt
from asynckit.rollout.record import EngineInfo, Trajectory
from asynckit.rollout.staleness import Policy, Schedule, Staleness


class Remote:
    """A method of an actor, without Ray."""

    def __init__(self, function: Any) -> None:
        self.remote = function


class Learner:
    """Writes down what it is asked for; fails where it is told to."""

    def __init__(self, diary: list[str], fails_at: int | None = None) -> None:
        self.train = Remote(self._train)
        self.weights = Remote(lambda version: f"weights {version}")
        self._diary = diary
        self._fails_at = fails_at

    async def _train(self, step: int, batch: Sequence[FinishedGroup]) -> None:
        if step == self._fails_at:
            raise RuntimeError("no memory")
        self._diary.append(f"train {step}: {' '.join(group.id for group in batch)}")


def group(name: str) -> Group:
    return Group(name, Prompt(0, name, None, None, "", {}, "here"), 1, 0, 0.0)


def finished(name: str, version: int = 0) -> FinishedGroup:
    info = EngineInfo("", "", "")
    record = Trajectory(name, name, 0, "completed", [], "", info, min_version=version, max_version=version)
    return FinishedGroup(name, GroupStatus.COMPLETED, (record,))


def make(schedule: Schedule, diary: list[str], **options: Any) -> tuple[Learning, Staleness, Backlog]:
    staleness = Staleness(schedule, options.pop("consumed", 0))
    backlog = Backlog(map(group, "abcdef"), StartsInTime(staleness))

    async def settle(groups: Sequence[FinishedGroup]) -> None:
        diary.extend(
            f"settle {each.id} {each.status} {each.trajectories[0].consumed_version}" for each in groups
        )

    async def publish(version: int, weights: Any) -> None:
        diary.append(f"publish {version}: {weights}")
        published.set()

    published = options.pop("published", asyncio.Event())
    learner = Learner(diary, **options)
    learning = Learning(learner, staleness, backlog, settle=settle, publish=publish, trace=None)
    return learning, staleness, backlog


async def test_a_version_comes_out_when_its_groups_are_settled() -> None:
    """Trained, then durable, then published; only then may more start."""
    diary: list[str] = []
    learning, _, backlog = make(Schedule(2, 2, 0.0, 0, Policy.PACE), diary)
    async with asyncio.timeout(5):
        running = asyncio.create_task(learning.run())
        for _ in range(2):
            assert await backlog.take(lambda: False)
        blocked = asyncio.create_task(backlog.take(lambda: False))
        await learning.offer([finished("b")])
        assert not blocked.done()
        await learning.offer([finished("a")])
        assert (await blocked) == group("c")
        learning.close()
        await running
    assert diary == ["train 0: a b", "settle a completed 0", "settle b completed 0", "publish 1: weights 1"]


async def test_what_is_too_old_is_settled_as_stale() -> None:
    """It is recorded as such, and the learner never has it."""
    diary: list[str] = []
    published = asyncio.Event()
    learning, _, backlog = make(Schedule(1, 1, 2.0, 0, Policy.DROP), diary, published=published)
    async with asyncio.timeout(5):
        running = asyncio.create_task(learning.run())
        for _ in range(2):
            await backlog.take(lambda: False)
        await learning.offer([finished("b")])
        await published.wait()
        await learning.offer([finished("a")])
        learning.close()
        await running
    assert "settle a stale None" in diary
    assert learning.waiting == 0


async def test_a_run_that_goes_on_publishes_where_it_was() -> None:
    """Rollouters that are new get the weights of the version that the run had reached."""
    diary: list[str] = []
    learning, staleness, _ = make(Schedule(2, 2, 0.0, 0, Policy.PACE), diary, consumed=5)
    learning.close()
    await learning.run()
    assert (staleness.version, learning.step) == (3, 3)  # the last batch had been smaller
    assert diary == ["publish 3: weights 3"]


async def test_a_learner_that_fails_settles_nothing() -> None:
    """Its batch is given to it again when the run goes on."""
    diary: list[str] = []
    learning, _, backlog = make(Schedule(1, 1, 0.0, 0, Policy.PACE), diary, fails_at=0)
    await backlog.take(lambda: False)
    await learning.offer([finished("a")])
    with pytest.raises(RuntimeError, match="no memory"):
        await learning.run()
    assert diary == []
    assert learning.busy_since is None
