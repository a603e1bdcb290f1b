"""Between the groups that have finished and a learner: what it gets when, and what follows from that.

The learner is given a batch, works on it, and has *had* it once the ledger says so; a run that is killed
before gives it the same groups again. Then, when its version has had its groups, the next one is published to
every rollouter before anything else is taken.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import Any

from ray.exceptions import RayTaskError

from asynckit.errors import WorkFailed
from asynckit.rollout.backlog import Backlog
from asynckit.rollout.group import FinishedGroup, GroupStatus, consumed_at, ended_as, oldest_version
from asynckit.rollout.job import Job
from asynckit.rollout.staleness import Schedule, Staleness
from asynckit.trace_events import TraceWriter, traced

Settle = Callable[[Sequence[FinishedGroup]], Awaitable[None]]
Publish = Callable[[int, Any], Awaitable[None]]


def staleness_of(job: Job, consumed: int) -> Staleness | None:
    """What follows a run's groups; None without a learner.

    Args:
        job: the run.
        consumed: groups that the learner has had.
    """
    if job.learner.kind == "none":
        return None
    return Staleness(Schedule.of(job.async_training, job.learner, mode=job.rollout.mode), consumed)


class StartsInTime:
    """What the backlog asks before a group starts: whether the learner can use it in time."""

    def __init__(self, staleness: Staleness) -> None:
        self._staleness = staleness

    def may_start(self, group_id: str) -> bool:
        """Whether this group may; one that starts again always may."""
        return self._staleness.has_begun(group_id) or self._staleness.may_start()

    def start(self, group_id: str) -> None:
        """This group does."""
        self._staleness.start(group_id)


class Learning:
    """Feeds one learner, on one event loop.

    Args:
        learner: handle of its actor.
        staleness: decides.
        backlog: is woken when more may start.
        settle: keeps the final records of groups that the learner has had, or never will.
        publish: brings a version and its weights to the rollouters.
        trace: where the learner's work is drawn, if anywhere.

    Attributes:
        step: batches that the learner has had.
        busy_since: when it began with the batch that it is at, on ``time.monotonic()``'s clock; None between.
        publishing: whether a version is on its way to the rollouters.
    """

    def __init__(
        self,
        learner: Any,
        staleness: Staleness,
        backlog: Backlog,
        *,
        settle: Settle,
        publish: Publish,
        trace: TraceWriter | None,
    ) -> None:
        self._learner = learner
        self._staleness = staleness
        self._backlog = backlog
        self._settle = settle
        self._publish = publish
        self._trace = trace
        self.step = -(-staleness.consumed // staleness.schedule.batch)
        self.busy_since: float | None = None
        self.publishing = False
        self._busy_seconds = 0.0
        self._groups: dict[str, FinishedGroup] = {}
        self._no_more = False
        self._changed = asyncio.Event()

    @property
    def busy_seconds(self) -> float:
        """For which the learner has trained."""
        now = 0.0 if self.busy_since is None else time.monotonic() - self.busy_since
        return self._busy_seconds + now

    @property
    def waiting(self) -> int:
        """Groups that wait for the learner."""
        return len(self._groups)

    async def offer(self, groups: Iterable[FinishedGroup]) -> None:
        """Groups that completed; the learner gets them when it is their turn."""
        for group in groups:
            self._staleness.start(group.id)  # nothing new, unless they are left from an earlier attempt
            oldest = oldest_version(group)
            self._staleness.finish(group.id, self._staleness.version if oldest is None else oldest)
            self._groups[group.id] = group
        await self._look_again()

    async def dismiss(self, group_ids: Iterable[str]) -> None:
        """Groups that ended without anything for the learner."""
        for group_id in group_ids:
            self._staleness.dismiss(group_id)
        await self._look_again()

    def close(self) -> None:
        """No more groups will come: the last batch may be smaller."""
        self._no_more = True
        self._changed.set()

    async def run(self) -> None:
        """Feed the learner until there is nothing left for it.

        Raises:
            AsynckitError: the learner or the disk fails.
        """
        if self._staleness.version:  # a run that goes on
            await self._publish_weights(self._staleness.version)
        while True:
            self._changed.clear()
            take = self._staleness.take(last=self._no_more)
            if take.stale:
                await self._settle(
                    [ended_as(self._groups.pop(each), GroupStatus.STALE) for each in take.stale]
                )
                await self._backlog.wake()
            if take.batch:
                await self._train(take.batch)
            elif self._no_more:
                return
            else:
                await self._changed.wait()

    async def _train(self, batch: Sequence[str]) -> None:
        version = self._staleness.version
        groups = [consumed_at(self._groups[each], version) for each in batch]
        self.busy_since = time.monotonic()
        try:
            with traced(self._trace, "learner/train", "batch", step=self.step, version=version):
                await self._learner.train.remote(self.step, groups)
        except RayTaskError as error:
            raise _learner_failed(error) from error
        finally:
            self._busy_seconds += time.monotonic() - self.busy_since
            self.busy_since = None
        self.step += 1
        await self._settle(groups)
        for group in groups:
            del self._groups[group.id]
        if self._staleness.publication_due:
            if not self._no_more or self._groups:  # else nobody samples with it
                await self._publish_weights(version + 1)
            self._staleness.publish()
        await self._backlog.wake()

    async def _publish_weights(self, version: int) -> None:
        self.publishing = True
        try:
            await self._publish(version, self._learner.weights.remote(version))
        finally:
            self.publishing = False

    async def _look_again(self) -> None:
        self._changed.set()
        await self._backlog.wake()


def _learner_failed(error: RayTaskError) -> WorkFailed:
    cause = error.cause
    return WorkFailed(
        f"the learner failed: {type(cause).__name__}: {cause}".splitlines()[0],
        mend="its batch has not been used; --resume gives it to the learner again",
    )
