"""The task runner: starts the parts of a rollout, feeds them, watches them, and counts what comes out.

::

    Backlog ─generate_group─> FullyAsyncRollouter x N ─put─> MessageQueue ─get─> consume ─> Ledger, sink
                               └ RewardPool: RewardWorker x M     <──acknowledge──┘

    ============  =====================  =======================  =======================  ==================
    task          consumes               produces                 waits on                 unblocked by
    ============  =====================  =======================  =======================  ==================
    serve x N     the backlog            calls to its rollouter;  a free place, the        an answer, a group
                                         a new one when it dies   backlog                  given back
    consume       finished groups        ledger entries,          the queue                a put, a part's
                                         trajectory files                                  age, the closing
    watch         token, group counts    an error when nothing    the clock                the end of the run
                                         moves
    ============  =====================  =======================  =======================  ==================

A group is out from the moment it is taken from the backlog until the ledger has its records. If its rollouter
dies meanwhile, or the queue that held it, it goes back to the backlog and is generated again; if an earlier
attempt comes through after all, the ledger takes the first and drops the other. The queue is restarted by
Ray, rollouters by their ``serve`` task. The runner is itself a Ray actor, so the parts die with it, and the
run is then continued by another runner from the ledger. The first task that fails ends the run with its own
error; everything finished until then is written first.
"""

import asyncio
import logging
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ray
from ray.exceptions import RayActorError, RayTaskError, TaskCancelledError

from asynckit.errors import AsynckitError, DependencyError, WorkFailed
from asynckit.rollout.backlog import Backlog
from asynckit.rollout.cluster import replica_resources
from asynckit.rollout.group import FinishedGroup, Group
from asynckit.rollout.job import Job
from asynckit.rollout.ledger import NAME as LEDGER
from asynckit.rollout.ledger import Ledger
from asynckit.rollout.logs import log_to_file
from asynckit.rollout.message_queue import MessageQueue
from asynckit.rollout.record import Trajectory
from asynckit.rollout.recovery import recover, regroup, summarize
from asynckit.rollout.rollouter import FullyAsyncRollouter, RollouterStatistics, failed_group
from asynckit.rollout.run_directory import RunDirectory
from asynckit.rollout.sinks import TrajectorySink
from asynckit.rollout.summary import Summary

_BATCH = 64  # groups taken from the queue at a time
_WATCH_SECONDS = 5.0
_LONGEST_GET = 5.0  # seconds until the consumer looks around, in case the queue was closed and has died since
_DEATHS_IN_A_ROW = 5  # of one replica without a finished group in between

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
        log_to_file(job.folder, "task-runner", job.attempt)
        self._job = job
        self._groups = groups
        folder = RunDirectory(job.folder)
        self._claim = folder.claim()
        self._ledger = Ledger(folder.path / LEDGER)
        self._ledger.submit([group.id for group in groups])
        self._tally = recover(self._ledger, folder.trajectories)
        self._earlier_tokens = self._tally.tokens
        self._sink = TrajectorySink(
            folder.trajectories,
            format=job.rollout.format,
            part_samples=job.rollout.part_samples,
            part_seconds=job.rollout.part_seconds,
            on_part=self._committed,
        )
        owed = set(self._ledger.owed())
        self._backlog = Backlog(group for group in groups if group.id in owed)
        self._rollouters: dict[int, Any] = {}
        self._in_flight: dict[int, set[str]] = {replica: set() for replica in range(job.rollout.replicas)}
        self._starting: set[int] = set()
        self._queue: Any = None
        self._serving: list[asyncio.Task[None]] = []
        self._fed = asyncio.Event()
        self._stopping = False
        self._ready = self._over = False
        self._ended = len(groups) - len(owed)
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
        for task in self._serving:
            task.cancel()

    async def _start(self) -> None:
        """Start the queue and the rollouters, and wait until they can work."""
        job = self._job
        # Ray restarts a queue that dies under the same handle, and repeats the calls that it was in.
        options = {"num_cpus": 0, "max_concurrency": 1000, "max_restarts": -1, "max_task_retries": -1}
        self._queue = ray.remote(MessageQueue).options(**options).remote(job.rollout.queue_size)
        await asyncio.gather(*(self._start_replica(replica) for replica in self._in_flight))
        self._ready_at = time.time()
        self._ready = True
        log.info("%d engines are ready", job.rollout.replicas)

    async def _start_replica(self, replica: int) -> None:
        job = self._job
        resources = replica_resources(job.engine, job.rollout, ray.nodes())
        actor = ray.remote(FullyAsyncRollouter).options(max_concurrency=10_000, **resources)
        rollouter = actor.remote(job=job, queue=self._queue, name=f"rollouter-{replica}")
        self._rollouters[replica] = rollouter
        self._starting.add(replica)
        try:
            async with asyncio.timeout(job.rollout.startup_timeout):
                await rollouter.start.remote()
        except TimeoutError:
            raise DependencyError(
                f"engine {replica + 1} of {job.rollout.replicas}, asking for {resources}, did not start in "
                f"rollout.startup_timeout={job.rollout.startup_timeout:g} s",
                mend="ask for fewer replicas or resources than `ray status` shows, or wait longer",
            ) from None
        finally:
            self._starting.discard(replica)

    async def _work(self) -> None:
        await asyncio.to_thread(self._sink.append, self._left_over())
        async with asyncio.TaskGroup() as tasks:
            watch = tasks.create_task(self._watch(), name="watch")
            consume = tasks.create_task(self._consume(), name="consume")
            async with asyncio.TaskGroup() as serving:
                self._serving = [serving.create_task(self._serve(replica)) for replica in self._in_flight]
            self._last_end = time.time()
            self._fed.set()
            await self._queue.close.remote()
            await consume
            watch.cancel()

    def _left_over(self) -> list[Trajectory]:
        """Records that an earlier runner completed and did not write."""
        groups = self._ledger.uncommitted()
        self._tally.add(groups)
        return [trajectory for group in groups for trajectory in group.trajectories]

    def _slots(self) -> int:
        """Groups in flight per replica: twice what its engine runs at once, so that no place waits."""
        return 2 * -(-self._job.engine.max_running // self._job.rollout.n)

    async def _serve(self, replica: int) -> None:
        """Keep one rollouter busy until nothing is left to do, and replace it when it dies."""
        in_a_row = 0
        while not self._stopping:
            before = self._ended
            error: BaseException | None = None
            try:
                if replica not in self._rollouters:
                    await self._start_replica(replica)
                await self._feed(replica)
            except* RayActorError as died:
                error = died.exceptions[0]
            if error is None:
                return
            in_a_row = 1 if self._ended > before else in_a_row + 1
            await self._bury(replica)
            if in_a_row >= _DEATHS_IN_A_ROW:
                raise WorkFailed(
                    f"rollouter {replica} died {in_a_row} times in a row without finishing a group",
                    mend="see the run's logs folder and Ray's own logs; finished groups are on disk",
                ) from error
            log.warning("rollouter %d died and is started again: %s", replica, str(error).splitlines()[0])

    async def _feed(self, replica: int) -> None:
        """Send groups to a rollouter; cancelled, wait until the rollouter has let go of them.

        Raises:
            ExceptionGroup: with the RayActorError of a rollouter that died.
        """
        running, places = self._in_flight[replica], asyncio.Semaphore(self._slots())
        async with asyncio.TaskGroup() as tasks:
            while not self._stopping:
                await places.acquire()
                group = await self._backlog.take(lambda: not running)
                if group is None:
                    return
                running.add(group.id)
                task = tasks.create_task(self._generate(replica, group))
                task.add_done_callback(lambda _: places.release())
                if self._backlog.is_suspect(group.id):
                    await asyncio.wait([task])

    async def _generate(self, replica: int, group: Group) -> None:
        """Have one group generated and put into the queue."""
        attempt = self._ledger.start(group.id)
        if attempt is None:  # an earlier attempt came through after it had been given up
            await self._backlog.end([group.id])
            self._in_flight[replica].discard(group.id)
            return
        answer = self._rollouters[replica].generate_group.remote(group, attempt)
        try:
            await asyncio.shield(_as_future(answer))
        except asyncio.CancelledError:
            ray.cancel(answer)
            await asyncio.wait([_as_future(answer)], timeout=10.0)
            if not self._stopping:
                raise
        except TaskCancelledError:
            if not self._stopping:
                raise WorkFailed("somebody cancelled a group's task", mend="--resume goes on") from None
            return
        self._in_flight[replica].discard(group.id)
        await self._backlog.wake()

    async def _bury(self, replica: int) -> None:
        """Give back what a dead rollouter was at; a group that keeps killing its rollouters fails."""
        ray.kill(self._rollouters.pop(replica))  # also where only its process has gone
        lost, self._in_flight[replica] = self._in_flight[replica], set()
        limit = self._job.rollout.max_attempts
        groups = await self._backlog.give_back(lost, blamed=True)
        self._ledger.give_back([group.id for group in groups])
        poison = [group for group in groups if self._backlog.deaths(group.id) >= limit]
        await self._complete(
            failed_group(
                group, self._job, f"what generated it died {limit} times; it killed the last one alone"
            )
            for group in poison
        )

    async def _consume(self) -> None:
        """Enter finished groups into the ledger, acknowledge them, and write them."""
        incarnation = ""
        while True:
            last = self._fed.is_set()
            due = self._sink.due()
            wait = 0.0 if last else min(_LONGEST_GET, _LONGEST_GET if due is None else due)
            delivery = await self._queue.get.remote(_BATCH, wait)
            if incarnation not in ("", delivery.incarnation):
                await self._replace_lost()
            incarnation = delivery.incarnation
            if self._sink.due() == 0:
                await asyncio.to_thread(self._sink.flush)
            await self._complete(group for _, group in delivery.items)
            await self._queue.acknowledge.remote(delivery)
            if last and not delivery.items:
                return

    async def _replace_lost(self) -> None:
        """The queue has died: what it held is generated again."""
        held = set(self._backlog.out).difference(*self._in_flight.values())
        groups = await self._backlog.give_back(held, blamed=False)
        self._ledger.give_back([group.id for group in groups])
        log.warning("the message queue died; %d groups that it held are generated again", len(groups))

    async def _complete(self, groups: Iterable[FinishedGroup]) -> None:
        """Keep the records of finished groups, in the ledger first."""
        finished = list(groups)
        new = await asyncio.to_thread(self._ledger.complete, finished)
        self._tally.add(new)
        self._ended += len(new)
        await self._backlog.end(group.id for group in finished)
        await asyncio.to_thread(self._sink.append, [t for group in new for t in group.trajectories])
        self._moved.set()
        self._moved.clear()

    def _committed(self, part: Path, trajectories: Sequence[Trajectory]) -> None:
        """A part is on the disk."""
        self._ledger.commit(part.name, [(group.id, group.status) for group in regroup(trajectories)])

    async def _watch(self) -> None:
        """Raise when neither a token nor a group has moved for ``stall_timeout`` seconds."""
        limit = self._job.rollout.stall_timeout
        last, since = None, time.monotonic()
        while True:
            await asyncio.sleep(min(_WATCH_SECONDS, limit / 4))
            if self._starting:  # which has a limit of its own
                last = None
                continue
            try:
                async with asyncio.timeout(limit):
                    statistics = await self._statistics()
            except TimeoutError:
                raise WorkFailed(
                    f"an engine has not answered for rollout.stall_timeout={limit:g} s",
                    mend="see the run's logs folder; --resume goes on with the run",
                ) from None
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
        """Of the rollouters that live; their serve tasks see to the others."""
        answers = [_as_future(rollouter.statistics.remote()) for rollouter in self._rollouters.values()]
        found = await asyncio.gather(*answers, return_exceptions=True)
        for each in found:
            if isinstance(each, BaseException) and not isinstance(each, RayActorError):
                raise each
        return [each for each in found if not isinstance(each, BaseException)]

    async def _summarize(self, status: str) -> Summary:
        seconds = max(self._last_end - self._ready_at, 1e-9)
        return summarize(
            self._job,
            self._ledger,
            self._tally,
            status=status,
            tokens_per_second=(self._tally.tokens - self._earlier_tokens) / seconds,
            idle_ratio=await self._idle_ratio(seconds),
        )

    async def _idle_ratio(self, seconds: float) -> float | None:
        if not self._rollouters:
            return None
        try:
            async with asyncio.timeout(10.0):
                statistics = await self._statistics()
        except (RayTaskError, TimeoutError):
            return None  # the run's own error says why
        if not statistics:
            return None
        return max(0.0, 1 - sum(s.busy_seconds for s in statistics) / seconds / len(statistics))

    async def _close(self) -> None:
        """Stop the parts; those that don't answer within ten seconds are killed with the runner."""
        self._over = True
        self._moved.set()
        self._ledger.close()
        closing = [_as_future(rollouter.close.remote()) for rollouter in self._rollouters.values()]
        if closing:
            await asyncio.wait(closing, timeout=10.0)
        for actor in (*self._rollouters.values(), self._queue):
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
