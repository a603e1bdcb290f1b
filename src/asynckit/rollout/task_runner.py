"""The task runner: starts the parts of a rollout, watches them, and counts what comes out.

::

    Backlog ─generate_group─> FullyAsyncRollouter x N ─put─> MessageQueue ─get─> consume ─> Ledger ─> sink
       ^                       ^ └ RewardPool: RewardWorker x M     <──acknowledge──┘ │        ^
       │                       │                                                      v        │
       └─────may start─────────┼───────────── Staleness <───────────────────────> Learning ────┘
                               └────────────update_weights─────────────────────────┘ └─train─> learner

    ============  =====================  =======================  =======================  ==================
    task          consumes               produces                 waits on                 unblocked by
    ============  =====================  =======================  =======================  ==================
    serve x N     the backlog            calls to its rollouter;  a free place, the        an answer, a group
                                         a new one when it dies   backlog                  given back, a batch
    consume       finished groups        ledger entries,          the queue                a put, a part's
                                         trajectory files                                  age, the closing
    learn         completed groups       batches, versions        the learner, the         the next group, the
                                                                  rollouters' updates      end of the serving
    watch         token, group counts    an error when nothing    the clock                the end of the run
                                         moves
    ============  =====================  =======================  =======================  ==================

A group is out from the moment it is taken from the backlog until the ledger has its records. If its rollouter
dies meanwhile, or the queue that held it, it goes back to the backlog and is generated again; if an earlier
attempt comes through after all, the ledger takes the first and drops the other. The queue and the learner are
restarted by Ray, rollouters by their ``serve`` task. The runner is itself a Ray actor, so the parts die with
it, and the run is then continued by another runner from the ledger. The first task that fails ends the run
with its own error; everything finished until then is written first.
"""

import asyncio
import contextlib
import logging
import pickle
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import ray

from asynckit.errors import AsynckitError, DependencyError, WorkFailed
from asynckit.rollout.backlog import Backlog
from asynckit.rollout.group import FinishedGroup, GroupStatus
from asynckit.rollout.job import Job
from asynckit.rollout.learning import Learning, StartsInTime, staleness_of
from asynckit.rollout.ledger import NAME as LEDGER
from asynckit.rollout.ledger import Ledger
from asynckit.rollout.logs import log_to_file
from asynckit.rollout.message_queue import MessageQueue
from asynckit.rollout.observing.monitor import Monitor
from asynckit.rollout.observing.snapshot import Progress, Snapshot
from asynckit.rollout.observing.watchdog import Standstill, what_is_stuck
from asynckit.rollout.ray_errors import as_future, first_cause
from asynckit.rollout.record import Trajectory
from asynckit.rollout.recovery import recover, regroup, summarize
from asynckit.rollout.replicas import Replicas
from asynckit.rollout.run_directory import RunDirectory
from asynckit.rollout.simulated_learner import SimulatedLearner
from asynckit.rollout.sinks import TrajectorySink
from asynckit.rollout.summary import Summary
from asynckit.rollout.supply import Supply
from asynckit.trace_events import traced

_BATCH = 64  # groups taken from the queue at a time
_WATCH_SECONDS = 5.0
_CLOSE_SECONDS = 5.0
_LONGEST_GET = 5.0  # seconds until the consumer looks around, in case the queue was closed and has died since
# Ray restarts a part that dies under the same handle, and repeats the calls that it was in.
_RESTARTED = {"num_cpus": 0, "max_concurrency": 1000, "max_restarts": -1, "max_task_retries": -1}
# A learner may be what a batch kills again and again.
_LEARNER = _RESTARTED | {"max_restarts": 5, "max_task_retries": 3}

log = logging.getLogger(__name__)


class FullyAsyncTaskRunner:
    """Runs one job; made to run as a Ray actor.

    Args:
        job: the job.
        supply: what to generate.
    """

    def __init__(self, job: Job, supply: Supply) -> None:
        log_to_file(job.folder, "task-runner", job.attempt)
        self._job = job
        self._supply = supply
        self._opened = self._ready = self._over = False
        self._stop = asyncio.Event()
        self._fed = asyncio.Event()
        self._moved = asyncio.Event()
        self._ended = 0
        self._learning: Learning | None = None
        self._queue: Any = None
        self._learner: Any = None
        self._ready_at = self._last_end = time.time()

    def _open(self) -> None:
        """Open the run's files; not in the constructor, whose errors Ray reports as the actor's death."""
        job, supply = self._job, self._supply
        folder = RunDirectory(job.folder)
        self._claim = folder.claim()
        self._ledger = Ledger(folder.path / LEDGER)
        self._tally = recover(self._ledger, folder.trajectories)
        supply.restore(self._ledger.ids(), self._ledger.counts().get(GroupStatus.FILTERED, 0))
        self._ledger.submit([group.id for group in supply.groups])
        self._earlier_tokens = self._tally.tokens
        self._sink = TrajectorySink(
            folder.trajectories,
            format=job.rollout.format,
            part_samples=job.rollout.part_samples,
            part_seconds=job.rollout.part_seconds,
            on_part=self._committed,
        )
        owed = set(self._ledger.owed())
        self._staleness = staleness_of(job, self._ledger.consumed())
        admission = StartsInTime(self._staleness) if self._staleness else None
        self._backlog = Backlog((group for group in supply.groups if group.id in owed), admission)
        self._monitor = Monitor(job)
        self._replicas = Replicas(job, self._backlog, self._ledger, self._complete, self._monitor.trace)
        self._ended = len(supply.groups) - len(owed)
        self._opened = True

    async def run(self) -> Summary:
        """Run the job to its end and return what it did; the summary is also in the run directory.

        Raises:
            AsynckitError: what ended the run early; finished groups are on disk.
        """
        status = "failed"
        try:
            self._open()
            await self._start()
            await self._work()
            owes = bool(self._ledger.owed() or self._ledger.unsettled())
            status = "interrupted" if owes else "done"
        except Exception as error:
            log.exception("the run failed")
            self._last_end = time.time()
            raise first_cause(error) from error
        finally:
            if self._opened:
                summary = await self._end(status)
            self._over = True
            self._moved.set()
        return summary

    async def progress(self, seen: int) -> Progress:
        """Wait until more than ``seen`` groups have ended, a second has passed, or the run is over."""
        try:
            async with asyncio.timeout(1.0):
                while self._ended <= seen and not self._over:
                    await self._moved.wait()
        except TimeoutError:
            pass
        snapshot = self._snapshot() if self._opened else Snapshot(0.0, len(self._supply.groups))
        return Progress(self._ready, self._over, self._ended, snapshot)

    async def stop(self) -> None:
        """Cancel the groups in flight; ``run`` then ends as interrupted, with everything finished on disk."""
        log.info("asked to stop")
        self._stop.set()
        if self._opened:
            self._replicas.stop()

    async def _start(self) -> None:
        """Start the queue and the learner, and give them what an earlier runner left."""
        self._queue = ray.remote(MessageQueue).options(**_RESTARTED).remote(self._job.rollout.queue_size)
        try:
            async with asyncio.timeout(self._job.rollout.startup_timeout):
                self._replicas.queue = await self._queue.incarnation.remote()
        except TimeoutError:
            raise DependencyError(
                "the message queue did not start", where="rollout.startup_timeout"
            ) from None
        left = self._ledger.uncommitted()
        self._tally.add(left)
        await self._write(left)
        if self._staleness is None:
            return
        learner = ray.remote(SimulatedLearner).options(**_LEARNER)
        self._learner = learner.remote(self._job.learner, self._job.model)
        self._learning = Learning(
            self._learner,
            self._staleness,
            self._backlog,
            settle=self._settle,
            publish=self._replicas.publish,
            trace=self._monitor.trace,
        )
        await self._learning.offer(self._ledger.unsettled())

    async def _work(self) -> None:
        async with asyncio.TaskGroup() as tasks:
            helpers = (self._watch(), self._note_readiness(), self._measure())
            helping = [tasks.create_task(each) for each in helpers]
            consume = tasks.create_task(self._consume())
            learn = tasks.create_task(self._learning.run()) if self._learning else None
            if not self._stop.is_set():
                await self._replicas.serve(self._queue)
            self._last_end = time.time()
            self._fed.set()
            await self._queue.close.remote()
            await consume
            if self._learning and learn:
                self._learning.close()
                stop = tasks.create_task(self._stop.wait())
                await asyncio.wait([learn, stop], return_when=asyncio.FIRST_COMPLETED)
                self._last_end = time.time()
                learn.cancel()
                stop.cancel()
            for task in helping:
                task.cancel()

    async def _note_readiness(self) -> None:
        await self._replicas.until_one_is_up()
        self._ready_at = time.time()
        self._ready = True

    async def _measure(self) -> None:
        """Write the run's metrics down, every now and then."""
        while True:
            await self._monitor.note(self._snapshot())
            await asyncio.sleep(self._job.rollout.metrics_seconds)
            await self._replicas.refresh()

    async def _consume(self) -> None:
        """Enter finished groups into the ledger, acknowledge them, and pass them on."""
        while True:
            last = self._fed.is_set()
            due = self._sink.due()
            wait = 0.0 if last else min(_LONGEST_GET, _LONGEST_GET if due is None else due)
            delivery = await self._queue.get.remote(_BATCH, wait)
            if delivery.incarnation != self._replicas.queue:
                self._replicas.queue = delivery.incarnation
                await self._replace_lost()
            if self._sink.due() == 0:
                await asyncio.to_thread(self._sink.flush)
            # A rollouter of this run packed them.
            await self._complete([pickle.loads(packed) for _, packed in delivery.items])  # noqa: S301
            await self._queue.acknowledge.remote(delivery)
            if last and not delivery.items:
                return

    async def _replace_lost(self) -> None:
        """The queue has died: what it held is generated again."""
        held = set(self._backlog.out) - self._replicas.in_flight()
        groups = await self._backlog.give_back(held, blamed=False)
        self._ledger.give_back([group.id for group in groups])
        log.warning("the message queue died; %d groups that it held are generated again", len(groups))

    async def _complete(self, groups: Sequence[FinishedGroup]) -> None:
        """Keep the records of finished groups, in the ledger first, and pass them on."""
        if not groups:
            return
        learnable = [each for each in groups if self._learning and each.status is GroupStatus.COMPLETED]
        final = [each for each in groups if each not in learnable]
        waiting = await asyncio.to_thread(self._ledger.complete, learnable, settled=False)
        ended = await asyncio.to_thread(self._ledger.complete, final)
        await self._replace(sum(each.status is GroupStatus.FILTERED for each in ended))
        self._tally.add(ended)
        self._monitor.draw((*waiting, *ended))
        self._ended += len(waiting) + len(ended)
        await self._backlog.end(group.id for group in groups)
        if self._learning:
            await self._learning.dismiss(group.id for group in ended)
            await self._learning.offer(waiting)
        await self._write(ended)

    async def _replace(self, count: int) -> None:
        """Submit as many further groups as were filtered."""
        new = self._supply.more(count)
        await asyncio.to_thread(self._ledger.submit, [group.id for group in new])
        await self._backlog.add(new)

    async def _settle(self, groups: Sequence[FinishedGroup]) -> None:
        """Keep the final records of groups that the learner has had, or never will."""
        await asyncio.to_thread(self._ledger.settle, groups)
        self._tally.add(groups)
        await self._write(groups)

    async def _write(self, groups: Sequence[FinishedGroup]) -> None:
        with traced(self._monitor.trace, "task-runner/write", "records", groups=len(groups)):
            await asyncio.to_thread(self._sink.append, [t for group in groups for t in group.trajectories])
        self._moved.set()
        self._moved.clear()

    def _committed(self, part: Path, trajectories: Sequence[Trajectory]) -> None:
        """A part is on the disk."""
        self._ledger.commit(part.name, regroup(trajectories))

    async def _watch(self) -> None:
        """Raise when nothing has moved for ``stall_timeout`` seconds, and say what is stuck."""
        # A reward may take its time, and so may an environment.
        slow = max(self._job.reward.timeout, self._job.rollout.environment_timeout)
        limit = max(self._job.rollout.stall_timeout, slow + 2 * _WATCH_SECONDS)
        last, since = None, time.monotonic()
        while True:
            await asyncio.sleep(min(_WATCH_SECONDS, limit / 4))
            if not (self._replicas.up or self._fed.is_set()):  # starting has a limit of its own
                last = None
                continue
            try:
                async with asyncio.timeout(limit):
                    await self._replicas.refresh()
            except TimeoutError:
                raise WorkFailed(
                    f"an engine has not answered for {limit:g} s (rollout.stall_timeout)",
                    mend="see the run's logs folder; --resume goes on with the run",
                ) from None
            now = (self._ended, self._learning and self._learning.step, *self._replicas.snapshots())
            if now != last:
                last, since = now, time.monotonic()
            elif time.monotonic() - since > limit:
                raise await self._stall(time.monotonic() - since)

    async def _stall(self, seconds: float) -> WorkFailed:
        learning, queued = self._learning, None
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_CLOSE_SECONDS):
                queue = await self._queue.statistics.remote()
                queued = queue.waiting + queue.unacknowledged
        found = Standstill(
            at=self._replicas.at(),
            backlog=len(self._backlog),
            queued=queued,
            queue_size=self._job.rollout.queue_size,
            learner_busy=learning is not None and learning.busy_since is not None,
            publishing=learning is not None and learning.publishing,
            learner_waiting=learning.waiting if learning else 0,
        )
        stuck, mend = what_is_stuck(found)
        how_far = f"{self._ended} of {len(self._supply.groups)} groups have ended"
        return WorkFailed(
            f"nothing has moved for {seconds:.0f} s (rollout.stall_timeout): {stuck}; {how_far}", mend=mend
        )

    def _snapshot(self) -> Snapshot:
        learning = self._learning
        return self._tally.snapshot(
            seconds=time.time() - self._job.began,
            submitted=len(self._supply.groups),
            in_flight=len(self._replicas.in_flight()),
            backlog=len(self._backlog),
            queued=max(0, len(self._backlog.out) - len(self._replicas.in_flight())),
            learner_waiting=learning.waiting if learning else 0,
            version=self._staleness.version if self._staleness else 0,
            consumed=self._staleness.consumed if self._staleness else 0,
            learner_busy_seconds=learning.busy_seconds if learning else 0.0,
            written=self._sink.samples_written,
            replicas=self._replicas.snapshots(),
        )

    async def _summarize(self, status: str) -> Summary:
        seconds = max(self._last_end - self._ready_at, 1e-9)
        return summarize(
            self._job,
            self._ledger,
            self._tally,
            wanted=self._supply.wanted,
            status=status,
            tokens_per_second=(self._tally.tokens - self._earlier_tokens) / seconds,
            idle_ratio=await self._replicas.idle_ratio(seconds),
        )

    async def _end(self, status: str) -> Summary:
        """Write what there is to write and stop everything; what goes wrong here hides no other error."""
        try:
            await asyncio.to_thread(self._sink.close)
            if status != "done":  # finished, and in the ledger for the learner of another attempt
                self._tally.add(self._ledger.unsettled())
            summary = await self._summarize(status)
            RunDirectory(self._job.folder).write_summary(summary.to_dict())
            await self._monitor.note(self._snapshot())
        except AsynckitError:
            if status == "done":
                raise
            log.exception("the end of a run that had failed")
            return await self._summarize(status)
        finally:
            await self._close()
        return summary

    async def _close(self) -> None:
        """Stop the parts; those that don't answer in time are killed with the runner."""
        await self._replicas.close()
        if self._queue is not None:
            # Closed first: Ray would repeat calls that are cut off, and say so.
            await asyncio.wait([as_future(self._queue.close.remote())], timeout=_CLOSE_SECONDS)
            ray.kill(self._queue)
        if self._learner is not None:
            ray.kill(self._learner)
        self._ledger.close()
        await self._monitor.close()
