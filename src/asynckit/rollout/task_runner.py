"""The task runner: starts the parts of a rollout, feeds them, watches them, and counts what comes out.

::

    groups ─generate_group─> FullyAsyncRollouter x N ─put─> MessageQueue ─get─> consume ─> TrajectorySink
                               └ RewardPool: RewardWorker x M    <──acknowledge──┘

    ============  =====================  =======================  =======================  ==================
    task          consumes               produces                 waits on                 unblocked by
    ============  =====================  =======================  =======================  ==================
    feed x slots  the next group         a finished group, which  the rollouter's answer   the queue taking
                                         the rollouter queues                              the finished group
    consume       finished groups        trajectory files         the queue                a put, a part's
                                                                                           age, the closing
    watch         token, group counts    an error when nothing    the clock                the end of the run
                                         moves
    ============  =====================  =======================  =======================  ==================

The runner is itself a Ray actor, so the parts die with it. The first task that fails ends the run with its
own error; everything finished until then is written first.
"""

import asyncio
import logging
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import ray
from ray.exceptions import RayActorError, RayTaskError, TaskCancelledError

from asynckit.errors import AsynckitError, DependencyError, WorkFailed
from asynckit.rollout.cluster import replica_resources
from asynckit.rollout.group import FinishedGroup, Group, GroupStatus
from asynckit.rollout.job import Job
from asynckit.rollout.logs import log_to_file
from asynckit.rollout.message_queue import MessageQueue
from asynckit.rollout.rollouter import FullyAsyncRollouter, RollouterStatistics
from asynckit.rollout.run_directory import RunDirectory
from asynckit.rollout.sinks import TrajectorySink
from asynckit.rollout.summary import Summary, Tally, percentile

_BATCH = 64  # groups taken from the queue at a time
_WATCH_SECONDS = 5.0

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Progress:
    """How far the run is: engines ready, groups ended, mean reward and tokens so far, whether it is over."""

    ready: bool
    ended: int
    mean_reward: float | None
    tokens: int
    over: bool


class FullyAsyncTaskRunner:
    """Runs one job; made to run as a Ray actor.

    Args:
        job: the job.
        groups: what to generate, in order.
    """

    def __init__(self, job: Job, groups: list[Group]) -> None:
        log_to_file(job.folder, "task-runner")
        self._job = job
        self._groups = groups
        self._tally = Tally()
        self._sink = TrajectorySink(
            RunDirectory(job.folder).trajectories,
            format=job.rollout.format,
            part_samples=job.rollout.part_samples,
            part_seconds=job.rollout.part_seconds,
        )
        self._rollouters: list[Any] = []
        self._queue: Any = None
        self._feeds: list[asyncio.Task[None]] = []
        self._stopping = False
        self._ready = self._over = False
        self._ended = 0
        self._moved = asyncio.Event()
        self._ready_at = self._last_end = time.time()

    async def run(self) -> Summary:
        """Run the job to its end and return what it did; the summary is also in the run directory.

        Raises:
            AsynckitError: what ended the run early; finished groups are on disk.
        """
        status = "failed"
        try:
            await self._start()
            await self._work()
            status = "interrupted" if self._stopping else "done"
        except Exception as error:
            log.exception("the run failed")
            raise _first_cause(error) from error
        finally:
            await asyncio.to_thread(self._sink.close)
            summary = await self._summarize(status)
            RunDirectory(self._job.folder).write_summary(summary.to_dict())
            await self._close()
        return summary

    async def progress(self, seen: int) -> Progress:
        """Wait until more than ``seen`` groups have ended, a second has passed, or the run is over."""
        try:
            async with asyncio.timeout(1.0):
                while self._ended <= seen and not self._over:
                    await self._moved.wait()
        except TimeoutError:
            pass
        return Progress(self._ready, self._ended, self._tally.mean_reward, self._tally.tokens, self._over)

    async def stop(self) -> None:
        """Cancel the groups in flight; ``run`` then ends as interrupted, with everything finished on disk."""
        log.info("asked to stop")
        self._stopping = True
        for feed in self._feeds:
            feed.cancel()

    async def _start(self) -> None:
        """Start the queue and the rollouters, and wait until they can work."""
        job = self._job
        self._queue = (
            ray.remote(MessageQueue).options(num_cpus=0, max_concurrency=1000).remote(job.rollout.queue_size)
        )
        rollouter = ray.remote(FullyAsyncRollouter)
        resources = replica_resources(job.engine, job.rollout, ray.nodes())
        for replica in range(job.rollout.replicas):
            actor = rollouter.options(max_concurrency=10_000, **resources)
            self._rollouters.append(actor.remote(job=job, queue=self._queue, name=f"rollouter-{replica}"))
        try:
            async with asyncio.timeout(job.rollout.startup_timeout):
                await asyncio.gather(*(rollouter.start.remote() for rollouter in self._rollouters))
        except TimeoutError:
            raise DependencyError(
                f"{job.rollout.replicas} engines asking for {resources} each did not start within "
                f"rollout.startup_timeout={job.rollout.startup_timeout:g} s",
                mend="ask for fewer replicas or resources than `ray status` shows, or wait longer",
            ) from None
        self._ready_at = time.time()
        self._ready = True
        log.info("%d engines are ready, each with %s", job.rollout.replicas, resources)

    async def _work(self) -> None:
        remaining = iter(self._groups)
        async with asyncio.TaskGroup() as tasks:
            watch = tasks.create_task(self._watch(), name="watch")
            consume = tasks.create_task(self._consume(), name="consume")
            async with asyncio.TaskGroup() as feeds:
                for rollouter in self._rollouters:
                    for _ in range(self._slots()):
                        self._feeds.append(feeds.create_task(self._feed(rollouter, remaining)))
            self._last_end = time.time()
            await self._queue.close.remote()
            await consume
            watch.cancel()

    def _slots(self) -> int:
        """Groups in flight per replica: twice what its engine runs at once, so that no place waits."""
        return 2 * -(-self._job.engine.max_running // self._job.rollout.n)

    async def _feed(self, rollouter: Any, remaining: Iterator[Group]) -> None:
        """Send one group after another to a rollouter; cancelled, wait until the rollouter has let go."""
        for group in remaining:
            if self._stopping:
                return
            answer = rollouter.generate_group.remote(group)
            try:
                await asyncio.shield(_as_future(answer))
            except asyncio.CancelledError:
                ray.cancel(answer)
                await asyncio.wait([_as_future(answer)], timeout=10.0)
                if self._stopping:
                    return
                raise
            except TaskCancelledError:
                return
            except RayActorError as error:
                raise WorkFailed(
                    "a rollouter died, or the message queue under it",
                    mend="see the run's logs folder and Ray's own logs; finished groups are on disk",
                ) from error
            self._ended += 1
            self._moved.set()
            self._moved.clear()

    async def _consume(self) -> None:
        """Write finished groups; acknowledge them once the sink has them."""
        while True:
            batch = await self._queue.get.remote(_BATCH, self._sink.due())
            if self._sink.due() == 0:
                await asyncio.to_thread(self._sink.flush)
            if not batch and await self._queue.drained.remote():
                return
            groups: list[FinishedGroup] = [group for _, group in batch]
            await asyncio.to_thread(self._sink.append, [t for group in groups for t in group.trajectories])
            self._tally.add(groups)
            await self._queue.acknowledge.remote([tag for tag, _ in batch])

    async def _watch(self) -> None:
        """Raise when neither a token nor a group has moved for ``stall_timeout`` seconds."""
        limit = self._job.rollout.stall_timeout
        last, since = None, time.monotonic()
        while True:
            await asyncio.sleep(min(_WATCH_SECONDS, limit / 4))
            async with asyncio.timeout(limit):
                statistics = await self._statistics()
            now = (self._ended, *((s.sampled_tokens, s.prefilled_tokens, s.scored) for s in statistics))
            if now != last:
                last, since = now, time.monotonic()
            elif time.monotonic() - since > limit:
                queue = await self._queue.statistics.remote()
                raise WorkFailed(
                    f"nothing has moved for rollout.stall_timeout={limit:g} s: {self._ended} of "
                    f"{len(self._groups)} groups have ended; the queue is {queue}",
                    mend="look at the reward function first; --verbose shows more",
                )

    async def _statistics(self) -> list[RollouterStatistics]:
        return list(await asyncio.gather(*(rollouter.statistics.remote() for rollouter in self._rollouters)))

    async def _summarize(self, status: str) -> Summary:
        tally, job = self._tally, self._job
        groups = {s.value: tally.groups[s.value] for s in GroupStatus}
        groups[GroupStatus.CANCELLED] += len(self._groups) - sum(groups.values())
        seconds = max(self._last_end - self._ready_at, 1e-9)
        return Summary(
            status=status,
            groups=groups,
            samples=dict(tally.samples),
            submitted=len(self._groups),
            mean_reward=tally.mean_reward,
            response_tokens=tally.tokens,
            tokens_per_second=tally.tokens / seconds,
            response_length_p50=percentile(tally.lengths, 0.5),
            response_length_p95=percentile(tally.lengths, 0.95),
            idle_ratio=await self._idle_ratio(seconds),
            seconds=time.time() - job.began,
            files=[str(part.relative_to(job.folder)) for part in self._sink.parts],
            errors=dict(tally.errors.most_common(10)),
            folder=str(job.folder),
        )

    async def _idle_ratio(self, seconds: float) -> float | None:
        if not self._rollouters:
            return None
        try:
            async with asyncio.timeout(10.0):
                statistics = await self._statistics()
        except (RayActorError, RayTaskError, TimeoutError):
            return None  # an engine that is gone can't be asked; the run's own error says so
        return max(0.0, 1 - sum(s.busy_seconds for s in statistics) / seconds / len(statistics))

    async def _close(self) -> None:
        """Stop the parts; those that don't answer within ten seconds are killed with the runner."""
        self._over = True
        self._moved.set()
        closing = [_as_future(rollouter.close.remote()) for rollouter in self._rollouters]
        if closing:
            await asyncio.wait(closing, timeout=10.0)
        for actor in (*self._rollouters, self._queue):
            if actor is not None:
                ray.kill(actor)


async def _await(answer: Any) -> Any:
    return await answer


def _as_future(answer: Any) -> asyncio.Future[Any]:
    return asyncio.ensure_future(_await(answer))


def _first_cause(error: Exception) -> Exception:
    """The error that a person can act on, unwrapped from TaskGroup's and Ray's layers."""
    while isinstance(error, ExceptionGroup):
        error = error.exceptions[0]
    if isinstance(error, RayTaskError) and isinstance(error.cause, AsynckitError):
        return error.cause
    if isinstance(error, RayActorError):
        # Ray's own text spans many lines, with colours.
        return WorkFailed(
            "a part of the run died (a rollouter, the message queue or a reward worker)",
            mend="see the run's logs folder and Ray's own logs; finished groups are on disk",
        )
    return error
