"""Rollouters that die, with a real Ray: a group that keeps killing them ends, and the others don't suffer."""

import asyncio
import os
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import ray
from jobs import make_job
from ray import cloudpickle
from ray_head import joined

from asynckit.rollout import replicas
from asynckit.rollout.backlog import Backlog
from asynckit.rollout.group import FinishedGroup, Group, GroupStatus
from asynckit.rollout.job import Job
from asynckit.rollout.ledger import Ledger
from asynckit.rollout.prompting.prompts import Prompt
from asynckit.rollout.recording import failed_group
from asynckit.rollout.replicas import Replicas
from asynckit.rollout.rollouter import RollouterStatistics

POISON = "g3"


class Rollouter:
    """Dies of one group; has the weights that it was told last."""

    def __init__(self, **_: Any) -> None:
        self._version = 0

    async def start(self) -> None:
        """Nothing takes time here."""

    async def update_weights(self, version: int, new: Any) -> None:
        """Remember."""
        assert new == f"weights {version}"
        self._version = version

    async def live(self) -> None:
        """Until it dies."""
        await asyncio.Event().wait()

    async def generate_group(self, group: Group, attempt: int) -> str:
        """Take a moment, so that several are in flight together."""
        assert attempt
        await asyncio.sleep(0.02)
        if group.id == POISON:
            os._exit(1)
        return ""  # the queue that there is none of

    async def statistics(self) -> RollouterStatistics:
        """Of the version alone."""
        return RollouterStatistics(version=self._version)

    async def close(self) -> None:
        """Nothing is held."""


@pytest.fixture
def _ray(monkeypatch: pytest.MonkeyPatch, shared_ray: dict[str, str]) -> Iterator[None]:
    """A Ray of two CPUs, whose workers know this module's rollouter."""
    cloudpickle.register_pickle_by_value(sys.modules[__name__])
    monkeypatch.setattr(replicas, "FullyAsyncRollouter", Rollouter)
    with joined(shared_ray):
        yield
    cloudpickle.unregister_pickle_by_value(sys.modules[__name__])


@pytest.mark.usefixtures("_ray")
async def test_a_group_that_keeps_killing_rollouters_fails_alone(tmp_path: Path) -> None:
    """After ``max_attempts`` deaths; every other group comes through, also those that were at its side."""
    job = make_job("rollout.replicas=2", "rollout.n=1", "engine.max_running=4", folder=tmp_path)
    groups = [Group(f"g{i}", Prompt(i, f"{i}", None, None, "", {}, "here"), 1, 0, 0.0) for i in range(12)]
    ledger = Ledger(tmp_path / "ledger.sqlite")
    ledger.submit([group.id for group in groups])
    backlog, ends = Backlog(groups), {}

    async def complete(finished: Sequence[FinishedGroup]) -> None:
        for each in finished:
            ends[each.id] = each.status
        await backlog.end(each.id for each in finished)

    rollouters = Replicas(job, backlog, ledger, complete, None)
    await rollouters.publish(3, ray.put("weights 3"))
    async with asyncio.timeout(120):
        serving = asyncio.create_task(rollouters.serve(None))
        # What has come through is out until somebody takes it in, as the consumer of the queue does.
        while not backlog.done:
            through = set(backlog.out) - rollouters.in_flight() - {POISON}
            await complete([completed(group, job) for group in groups if group.id in through])
            await asyncio.sleep(0.01)
        await serving
        await rollouters.refresh()
    assert ends.pop(POISON) is GroupStatus.FAILED
    assert ends == {group.id: GroupStatus.COMPLETED for group in groups if group.id != POISON}
    assert {each.version for each in rollouters.snapshots() if each.state == "running"} == {3}
    await rollouters.close()
    ledger.close()


def completed(group: Group, job: Job) -> FinishedGroup:
    return FinishedGroup(group.id, GroupStatus.COMPLETED, failed_group(group, job, "-").trajectories)
