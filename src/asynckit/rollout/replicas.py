"""The rollouters of a run: started, fed, given new weights, and replaced when they die.

Each has a ``serve`` task of its own. A replica for which there is no room yet keeps waiting while another one
works, so machines may join a cluster that runs, and leave it.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import ray
from ray.exceptions import RayActorError, RayTaskError, TaskCancelledError

from asynckit.errors import DependencyError, WorkFailed
from asynckit.rollout.backlog import Backlog, places_for
from asynckit.rollout.cluster import replica_resources
from asynckit.rollout.group import FinishedGroup, Group
from asynckit.rollout.job import Job
from asynckit.rollout.ledger import Ledger
from asynckit.rollout.observing.snapshot import ReplicaSnapshot
from asynckit.rollout.ray_errors import as_future
from asynckit.rollout.recording import failed_group
from asynckit.rollout.rollouter import FullyAsyncRollouter, RollouterStatistics
from asynckit.trace_events import TraceWriter, traced

_DEATHS_IN_A_ROW = 5  # of one replica without a finished group in between
_LET_GO_SECONDS = 10.0  # that a rollouter has for cancelling a group, or for closing

log = logging.getLogger(__name__)

Complete = Callable[[Sequence[FinishedGroup]], Awaitable[None]]


@dataclass(eq=False)
class _Replica:
    """One place for a rollouter: the actor that is there now, if any, and what those before it had done."""

    number: int
    actor: Any = None
    state: str = "starting"
    version: int = 0
    in_flight: set[str] = field(default_factory=set)
    answers: bool = False  # an actor that waits for room doesn't
    completed: int = 0  # groups that came through, so that deaths without success can be told
    earlier: RollouterStatistics = field(default_factory=RollouterStatistics)
    now: RollouterStatistics = field(default_factory=RollouterStatistics)

    @property
    def name(self) -> str:
        """Of its log file and its rows."""
        return f"rollouter-{self.number}"

    def bury(self) -> set[str]:
        """Forget a dead actor; returns the groups that it was at."""
        lost, self.in_flight = self.in_flight, set()
        self.earlier, self.now = _sum(self.earlier, self.now), RollouterStatistics()
        self.actor, self.answers, self.state, self.version = None, False, "dead", 0
        return lost


class Replicas:
    """All rollouters of one run; for one event loop.

    Args:
        job: the run.
        backlog: what they take from.
        ledger: hears of every start.
        complete: called with groups that end because they keep killing rollouters.
        trace: where their work is drawn, if anywhere.
    """

    def __init__(
        self, job: Job, backlog: Backlog, ledger: Ledger, complete: Complete, trace: TraceWriter | None
    ) -> None:
        self._job = job
        self._backlog = backlog
        self._ledger = ledger
        self._complete = complete
        self._trace = trace
        self._replicas = [_Replica(number) for number in range(job.rollout.replicas)]
        self._version = 0
        self._weights: Any = None  # what ray.put gave for them
        self._stopping = False
        self._serving: list[asyncio.Task[None]] = []
        self._hungry: list[_Replica] = []  # those that wait for a group
        self._one_is_up = asyncio.Event()
        self.queue = ""  # the incarnation that takes finished groups, as far as its consumer knows

    @property
    def up(self) -> bool:
        """Whether at least one works."""
        return any(each.state in ("running", "updating") for each in self._replicas)

    def in_flight(self) -> set[str]:
        """The groups that rollouters are at."""
        return set().union(*(each.in_flight for each in self._replicas))

    async def serve(self, queue: Any) -> None:
        """Start the rollouters and keep them busy until nothing is left to do.

        Args:
            queue: handle of the queue that takes finished groups.

        Raises:
            ExceptionGroup: with what ended the first one that failed for good.
        """
        async with asyncio.TaskGroup() as serving:
            self._serving = [serving.create_task(self._serve(each, queue)) for each in self._replicas]

    async def until_one_is_up(self) -> None:
        """Wait until the first rollouter can work."""
        await self._one_is_up.wait()

    def stop(self) -> None:
        """Cancel the groups in flight; ``serve`` then returns."""
        self._stopping = True
        for task in self._serving:
            task.cancel()

    async def publish(self, version: int, weights: Any) -> None:
        """Bring a new policy version to every rollouter, and to those that start later.

        Args:
            version: its number.
            weights: an object reference to its tensors; None where only the number is new.
        """
        self._version, self._weights = version, weights
        await asyncio.gather(*(self._update(each) for each in self._replicas if each.state == "running"))

    async def refresh(self) -> None:
        """Ask every rollouter that lives for its statistics.

        Raises:
            RayTaskError: one can't answer.
        """
        living = [each for each in self._replicas if each.answers]
        answers = [as_future(each.actor.statistics.remote()) for each in living]
        for each, answer in zip(living, await asyncio.gather(*answers, return_exceptions=True), strict=True):
            if isinstance(answer, RollouterStatistics):
                each.now = answer
            elif not isinstance(answer, RayActorError):  # the dead are their serve tasks' business
                raise answer

    def snapshots(self) -> tuple[ReplicaSnapshot, ...]:
        """Every replica as of the last refresh."""
        return tuple(_snapshot(each) for each in self._replicas)

    def at(self) -> dict[str, int]:
        """How many groups are being generated, scored, and put into the queue, as of the last refresh."""
        counts: dict[str, int] = {}
        for each in self._replicas:
            for what, count in each.now.at.items():
                counts[what] = counts.get(what, 0) + count
        return counts

    async def idle_ratio(self, seconds: float) -> float | None:
        """Share of so many seconds in which an engine had nothing to step; None if none can tell."""
        if self._job.rollout.engine == "simulated" and self._job.simulated.clock == "virtual":
            return None  # its seconds are others
        try:
            async with asyncio.timeout(_LET_GO_SECONDS):
                await self.refresh()
        except (RayTaskError, TimeoutError):
            return None  # the run's own error says why
        if not self.up:
            return None
        busy = sum(each.busy_seconds for each in self.snapshots())
        return max(0.0, 1 - busy / seconds / len(self._replicas))

    async def close(self) -> None:
        """Stop all; those that don't answer in time are killed."""
        closing = [as_future(each.actor.close.remote()) for each in self._replicas if each.answers]
        if closing:
            await asyncio.wait(closing, timeout=_LET_GO_SECONDS)
        for each in self._replicas:
            if each.actor is not None:
                ray.kill(each.actor)

    async def _serve(self, replica: _Replica, queue: Any) -> None:
        """Keep one rollouter busy until nothing is left to do, and replace it when it dies."""
        in_a_row = 0
        while not self._stopping:
            before, error = replica.completed, None
            try:
                if await self._start(replica, queue):
                    await self._feed(replica)
            except* RayActorError as died:
                error = died.exceptions[0]
            if error is None:
                return
            in_a_row = 1 if replica.completed > before else in_a_row + 1
            await self._bury(replica)
            if in_a_row >= _DEATHS_IN_A_ROW:
                problem = (
                    f"rollouter {replica.number} died {in_a_row} times in a row without finishing a group"
                )
                if self.up:
                    log.error("%s; the others go on without it", problem)
                    return
                mend = "see the run's logs folder and Ray's own logs; finished groups are on disk"
                raise WorkFailed(problem, mend=mend) from error
            log.warning(
                "rollouter %d died and is started again: %s", replica.number, str(error).splitlines()[0]
            )

    async def _start(self, replica: _Replica, queue: Any) -> bool:
        """Start a rollouter and bring it up to date; False where the run ended before there was room for it.

        Raises:
            DependencyError: there was no room for ``startup_timeout`` seconds, and no other one works.
        """
        replica.state = "starting"
        resources = replica_resources(self._job.engine, self._job.rollout, ray.nodes())
        strategy = "SPREAD" if self._job.rollout.placement == "spread" else "DEFAULT"
        options = {"max_concurrency": 10_000, "scheduling_strategy": strategy, **resources}
        actor = ray.remote(FullyAsyncRollouter).options(**options)
        replica.actor = actor.remote(job=self._job, queue=queue, name=replica.name)
        started = asyncio.ensure_future(self._come_up(replica))
        done = asyncio.ensure_future(self._backlog.until_done())
        try:
            while not started.done():
                limit = self._job.rollout.startup_timeout
                await asyncio.wait([started, done], timeout=limit, return_when=asyncio.FIRST_COMPLETED)
                if done.done():
                    return False
                if not started.done():
                    self._refuse_to_wait(replica, resources)
            await started
            replica.state = "running"
        finally:
            await _cancelled(done)
            await _cancelled(started)
        self._one_is_up.set()
        log.info("rollouter %d is ready", replica.number)
        return True

    async def _come_up(self, replica: _Replica) -> None:
        await as_future(replica.actor.start.remote())
        replica.answers = True
        await self._update(replica)

    def _refuse_to_wait(self, replica: _Replica, resources: dict[str, float]) -> None:
        limit = self._job.rollout.startup_timeout
        what = f"engine {replica.number + 1} of {len(self._replicas)}, asking for {resources}, did not start"
        if self.up:
            log.warning("%s in %g s; the others go on", what, limit)
            return
        raise DependencyError(
            f"{what} in rollout.startup_timeout={limit:g} s",
            mend="ask for fewer replicas or resources than `ray status` shows, or wait longer",
        )

    async def _update(self, replica: _Replica) -> None:
        """Give a rollouter the newest weights; one that dies over it gets them when it is started again."""
        while replica.version < self._version:
            version = self._version
            replica.state = "updating" if replica.state == "running" else replica.state
            # Ray resolves references only as arguments of their own.
            try:
                with traced(self._trace, f"{replica.name}/weights", "update", version=version):
                    await as_future(replica.actor.update_weights.remote(version, self._weights))
            except RayActorError:
                ray.kill(replica.actor)  # also one that is only out of reach: it would keep its old weights
                return  # its serve task hears of the death
            replica.version = version
            replica.state = "running" if replica.state == "updating" else replica.state

    async def _feed(self, replica: _Replica) -> None:
        """Send groups to a rollouter; cancelled, wait until the rollouter has let go of them.

        Raises:
            ExceptionGroup: with the RayActorError of a rollouter that died.
        """
        places = asyncio.Semaphore(places_for(self._job.engine.max_running, self._job.rollout.n))
        running = replica.in_flight
        async with asyncio.TaskGroup() as tasks:
            living = tasks.create_task(_live(replica.actor))
            while not self._stopping:
                await places.acquire()
                group = await self._take(replica)
                if group is None:
                    break
                running.add(group.id)
                task = tasks.create_task(self._generate(replica, group))
                task.add_done_callback(lambda _: places.release())
                if self._backlog.is_suspect(group.id):
                    await asyncio.wait([task])
            living.cancel()

    async def _take(self, replica: _Replica) -> Group | None:
        """The next group, when no other replica that wants one is at fewer."""
        self._hungry.append(replica)
        try:
            return await self._backlog.take(
                lambda: not replica.in_flight,
                lambda: len(replica.in_flight) <= min(len(each.in_flight) for each in self._hungry),
            )
        finally:
            self._hungry.remove(replica)

    async def _generate(self, replica: _Replica, group: Group) -> None:
        """Have one group generated and put into the queue."""
        attempt = self._ledger.start(group.id)
        if attempt is None:  # an earlier attempt came through after it had been given up
            await self._backlog.end([group.id])
            replica.in_flight.discard(group.id)
            return
        answer = replica.actor.generate_group.remote(group, attempt)
        try:
            with traced(self._trace, f"{replica.name}/groups", "group", id=group.id, attempt=attempt):
                queue = await asyncio.shield(as_future(answer))
        except asyncio.CancelledError:
            ray.cancel(answer)
            await asyncio.wait([as_future(answer)], timeout=_LET_GO_SECONDS)
            if not self._stopping:
                raise
            return
        except TaskCancelledError:
            if not self._stopping:
                raise WorkFailed("somebody cancelled a group's task", mend="--resume goes on") from None
            return
        replica.completed += 1
        replica.in_flight.discard(group.id)
        if queue != self.queue:  # it has died since, and what it held with it
            await self._backlog.give_back([group.id], blamed=False)
            self._ledger.give_back([group.id])
        await self._backlog.wake()

    async def _bury(self, replica: _Replica) -> None:
        """Give back what a dead rollouter was at; a group that keeps killing its rollouters fails."""
        if replica.actor is not None:
            ray.kill(replica.actor)  # also where only its process has gone
        limit = self._job.rollout.max_attempts
        groups = await self._backlog.give_back(replica.bury(), blamed=True, most_deaths=limit)
        self._ledger.give_back([group.id for group in groups])
        poison = [group for group in groups if self._backlog.deaths(group.id) >= limit]
        error = f"what generated it died {limit} times; it killed the last one alone"
        await self._complete([failed_group(group, self._job, error) for group in poison])


async def _live(actor: Any) -> None:
    await actor.live.remote()


async def _cancelled(task: asyncio.Future[Any]) -> None:
    task.cancel()
    await asyncio.wait([task])


def _sum(*lives: RollouterStatistics) -> RollouterStatistics:
    counted = ("seconds", "busy_seconds", "sampled_tokens", "prefilled_tokens", "scored")
    return RollouterStatistics(**{name: sum(getattr(life, name) for life in lives) for name in counted})


def _snapshot(replica: _Replica) -> ReplicaSnapshot:
    total = _sum(replica.earlier, replica.now)
    return ReplicaSnapshot(
        name=replica.name,
        state=replica.state,
        version=replica.version,
        in_flight=len(replica.in_flight),
        sampled_tokens=total.sampled_tokens,
        prefilled_tokens=total.prefilled_tokens,
        busy_seconds=total.busy_seconds,
        scored=total.scored,
    )
