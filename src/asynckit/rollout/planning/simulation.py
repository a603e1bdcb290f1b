"""A whole run in virtual time: replicas, scoring, staleness, a learner and its publications.

::

    backlog ──> replica x N ──scoring──> finished groups ──> learner ──┐
                   ^ simulated engines      (Staleness)                │
                   └──────────────── the next version <────────────────┘

Events are handled in the order of their times. A replica's engine is asked for its next step or stretch of
steps and works on its own until that ends; what is wanted of it meanwhile (a group, new weights) cuts the
stretch and waits for the end of the step that goes on, as it does in the run. Who may start, what the
learner takes and what is too old is decided by :class:`asynckit.rollout.staleness.Staleness`, as in the run.
Left out is what takes milliseconds: Ray's calls, and writing.
"""

import heapq
from collections import Counter, deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import count

from asynckit.engine.config import EngineConfig
from asynckit.engine.fast_simulated import Ended, FastSimulatedEngine
from asynckit.engine.request import Finish, Request
from asynckit.engine.simulated_config import SimulatedConfig
from asynckit.errors import RequestError
from asynckit.rollout.staleness import Schedule, Staleness

# At equal times, ends come first and what begins sees everything that has happened.
_END, _REACT, _BEGIN = range(3)


@dataclass(frozen=True)
class SimulatedGroup:
    """A group to be generated: its request, and its samples' lengths where they are known already."""

    request: Request
    lengths: tuple[int, ...] | None = None


@dataclass(frozen=True)
class Learning:
    """A learner and what its new weights do.

    Attributes:
        schedule: batches, versions and the bound on staleness.
        step_seconds: how long the learner trains on a batch, by the number of the batch from 0.
        partial_rollout: whether new weights interrupt what runs, instead of waiting for its end.
        on_update: what an interrupted response does: ``keep_kv``, ``recompute_kv`` or ``restart``.
    """

    schedule: Schedule
    step_seconds: Callable[[int], float]
    partial_rollout: bool = True
    on_update: str = "keep_kv"


@dataclass(frozen=True)
class Setup:
    """What runs, apart from the groups.

    Attributes:
        engine, simulated: of every replica.
        replicas: how many.
        places: groups in flight per replica.
        reward_seconds: from a group's last token until its scores are there.
        learning: None without a learner.
    """

    engine: EngineConfig
    simulated: SimulatedConfig
    replicas: int
    places: int
    reward_seconds: float = 0.0
    learning: Learning | None = None


@dataclass(frozen=True)
class Prediction:
    """How a run would go.

    Attributes:
        makespan: seconds from the engines being ready to the end of the last group or training step.
        replica_idle: share of it in which each replica's engine had nothing to step.
        learner_idle: share of it in which the learner did not train; None without one.
        groups, samples: how many ended in each status.
        response_tokens: in the groups that ended, stale ones included.
        tokens_per_second: ``response_tokens`` over ``makespan``.
        ages: tokens that the learner had, by how many versions old they were.
        batches, versions: that the learner trained on and published.
        queue_mean, queue_max: finished groups that waited for the learner, over time.
        preemptions: how often a sequence lost its cache to another.
    """

    makespan: float
    replica_idle: tuple[float, ...]
    learner_idle: float | None
    groups: dict[str, int]
    samples: dict[str, int]
    response_tokens: int
    tokens_per_second: float
    ages: dict[int, int]
    batches: int
    versions: int
    queue_mean: float
    queue_max: int
    preemptions: int

    @property
    def mean_age(self) -> float:
        """Mean age in versions of the tokens that were trained on; 0 for none."""
        return sum(age * tokens for age, tokens in self.ages.items()) / max(1, sum(self.ages.values()))

    @property
    def max_age(self) -> int:
        """The oldest token that was trained on, in versions."""
        return max(self.ages, default=0)


def simulate(setup: Setup, groups: Sequence[SimulatedGroup]) -> Prediction:
    """Run the groups to their ends.

    Raises:
        ConfigError: a setting of the engine or a distribution is impossible.
        InputError: the trace of lengths can't be used.
    """
    return _Simulation(setup, groups).run()


@dataclass
class _Replica:
    """One engine, the groups it was given, and what waits for the end of its step."""

    engine: FastSimulatedEngine
    in_flight: dict[str, None] = field(default_factory=dict)  # in order of start
    inbox: list[Callable[[], None]] = field(default_factory=list)
    holding: bool = False  # takes no group until the next version is there
    version: int = 0
    end: int = 0  # the number of its valid end event
    begin_due: bool = False


@dataclass
class _Open:
    """A group between its start and its end."""

    group: SimulatedGroup
    running: bool = False  # the engine has it, until all its samples have ended
    ended: list[Ended] = field(default_factory=list)


class _Simulation:
    def __init__(self, setup: Setup, groups: Sequence[SimulatedGroup]) -> None:
        self._setup = setup
        self._replicas = [
            _Replica(FastSimulatedEngine(setup.engine, setup.simulated)) for _ in range(setup.replicas)
        ]
        self._staleness = Staleness(setup.learning.schedule) if setup.learning else None
        self._submitted = len(groups)
        self._backlog = deque(groups)
        self._open: dict[str, _Open] = {}
        self._now = 0.0
        self._events: list[tuple[float, int, int, Callable[[], None]]] = []
        self._number = count()
        self._training = self._updating = False
        self._learner_busy = 0.0
        self._batches = 0
        self._groups: Counter[str] = Counter()
        self._samples: Counter[str] = Counter()
        self._ages: Counter[int] = Counter()
        self._tokens = 0
        self._last = 0.0
        self._queue_area = self._queue_since = 0.0
        self._queue_max = 0

    def run(self) -> Prediction:
        self._fill()
        while self._events:
            self._now, _, _, act = heapq.heappop(self._events)
            act()
        assert self._groups.total() == self._submitted, "a group was lost"
        return self._prediction()

    def _at(self, time: float, order: int, act: Callable[[], None]) -> None:
        heapq.heappush(self._events, (time, order, next(self._number), act))

    # --- replicas ---

    def _post(self, replica: _Replica, act: Callable[[], None]) -> None:
        """Let a replica do something between two steps."""
        replica.inbox.append(act)
        if replica.engine.busy:
            self._end_at(replica, replica.engine.cut(self._now))
        else:
            self._begin_soon(replica)

    def _end_at(self, replica: _Replica, time: float) -> None:
        replica.end += 1
        self._at(time, _END, partial(self._end, replica, replica.end))

    def _begin_soon(self, replica: _Replica) -> None:
        if not replica.begin_due:
            replica.begin_due = True
            self._at(self._now, _BEGIN, partial(self._begin, replica))

    def _begin(self, replica: _Replica) -> None:
        replica.begin_due = False
        acts, replica.inbox = replica.inbox, []
        for act in acts:
            act()
        if replica.engine.has_work():
            self._end_at(replica, replica.engine.begin(self._now))

    def _end(self, replica: _Replica, number: int) -> None:
        if number != replica.end:
            return  # the stretch was cut
        for ended in replica.engine.end():
            group = self._open[ended.request_id]
            group.ended.append(ended)
            if len(group.ended) == group.group.request.n:
                group.running = False
                scored = partial(self._scored, replica, ended.request_id)
                self._at(self._now + self._setup.reward_seconds, _REACT, scored)
        self._begin_soon(replica)

    # --- groups ---

    def _fill(self) -> None:
        """Start what may start; the replica that is at the fewest groups gets it, as in the run."""
        while self._backlog:
            takers = [replica for replica in self._replicas if self._may_take(replica)]
            if not takers:
                return
            replica = min(takers, key=lambda taker: len(taker.in_flight))
            group = self._backlog.popleft()
            name = group.request.id
            if self._staleness:
                self._staleness.start(name)
            self._open[name] = _Open(group)
            replica.in_flight[name] = None
            self._post(replica, partial(self._generate, replica, group))

    def _may_take(self, replica: _Replica) -> bool:
        free = len(replica.in_flight) < self._setup.places and not replica.holding
        return free and (self._staleness is None or self._staleness.may_start())

    def _generate(self, replica: _Replica, group: SimulatedGroup) -> None:
        try:
            replica.engine.add(group.request, group.lengths)
            self._open[group.request.id].running = True
        except RequestError:
            self._at(self._now, _REACT, partial(self._failed, replica, group.request.id))

    def _failed(self, replica: _Replica, name: str) -> None:
        """The engine refuses the group, so that it ends without a response."""
        if self._staleness:
            self._staleness.dismiss(name)
        self._close(name, "failed", "failed")
        self._leave(replica, name)

    def _scored(self, replica: _Replica, name: str) -> None:
        """A group has ended, scores and all."""
        if self._staleness:
            oldest = min(ended.spans[0][0] for ended in self._open[name].ended)
            self._count_queue()
            self._staleness.finish(name, oldest)
        else:
            self._close(name, "completed")
        self._leave(replica, name)

    def _leave(self, replica: _Replica, name: str) -> None:
        """A replica is done with a group."""
        del replica.in_flight[name]
        if replica.holding and not replica.in_flight:
            self._update(replica)
        self._learn()
        self._fill()

    def _close(self, name: str, status: str, sample_status: str = "") -> None:
        """A group has ended for good; its samples as they did, or all with one status."""
        group = self._open.pop(name)
        self._groups[status] += 1
        self._last = self._now
        self._tokens += sum(ended.tokens for ended in group.ended)
        if sample_status:
            self._samples[sample_status] += group.group.request.n
            return
        for ended in group.ended:
            self._samples["truncated" if ended.finish is Finish.LENGTH else "completed"] += 1

    # --- the learner ---

    def _learn(self) -> None:
        """Let the learner take its next batch, if there is one and it is free."""
        if not self._staleness or self._training or self._updating:
            return
        assert self._setup.learning
        self._count_queue()
        in_flight = any(replica.in_flight for replica in self._replicas)
        take = self._staleness.take(last=not self._backlog and not in_flight)
        for name in take.stale:
            self._close(name, "stale", "stale")
        if not take.batch:
            return
        for name in take.batch:
            for ended in self._open[name].ended:
                for version, tokens in ended.spans:
                    self._ages[self._staleness.version - version] += tokens
            self._close(name, "completed")
        seconds = self._setup.learning.step_seconds(self._batches)
        self._batches += 1
        self._learner_busy += seconds
        self._training = True
        self._at(self._now + seconds, _REACT, self._trained)

    def _trained(self) -> None:
        assert self._staleness
        self._training = False
        self._last = self._now
        if self._staleness.publication_due:
            self._publish()
        self._learn()
        self._fill()

    def _publish(self) -> None:
        assert self._staleness
        assert self._setup.learning
        self._updating = True
        for replica in self._replicas:
            replica.holding = True
        for replica in self._replicas:
            if self._setup.learning.partial_rollout or not replica.in_flight:
                self._update(replica)

    def _update(self, replica: _Replica) -> None:
        """Give a replica the next version; with the last one it is published."""
        assert self._staleness
        replica.version = self._staleness.version + 1
        replica.holding = False
        self._post(replica, partial(self._new_weights, replica, replica.version))
        if all(each.version == replica.version for each in self._replicas):
            self._staleness.publish()
            self._updating = False

    def _new_weights(self, replica: _Replica, version: int) -> None:
        assert self._setup.learning
        on_update, engine = self._setup.learning.on_update, replica.engine
        if on_update != "restart":
            engine.update_weights(version, on_update)
            return
        again = [self._open[name] for name in replica.in_flight if self._open[name].running]
        for each in again:
            engine.abort(each.group.request.id)
            each.ended.clear()
        engine.update_weights(version)
        for each in again:
            engine.add(each.group.request, each.group.lengths)

    # --- what comes out ---

    def _count_queue(self) -> None:
        """Add up how many groups have waited for how long; call it before that changes."""
        assert self._staleness
        self._queue_area += self._staleness.waiting * (self._now - self._queue_since)
        self._queue_since = self._now
        self._queue_max = max(self._queue_max, self._staleness.waiting)

    def _prediction(self) -> Prediction:
        span = max(self._last, 1e-9)
        engines = [replica.engine for replica in self._replicas]
        return Prediction(
            makespan=self._last,
            replica_idle=tuple(max(0.0, 1 - engine.busy_seconds / span) for engine in engines),
            learner_idle=max(0.0, 1 - self._learner_busy / span) if self._staleness else None,
            groups=dict(self._groups),
            samples=dict(self._samples),
            response_tokens=self._tokens,
            tokens_per_second=self._tokens / span,
            ages=dict(sorted(self._ages.items())),
            batches=self._batches,
            versions=self._staleness.version if self._staleness else 0,
            queue_mean=self._queue_area / span,
            queue_max=self._queue_max,
            preemptions=sum(engine.statistics().preemptions for engine in engines),
        )
