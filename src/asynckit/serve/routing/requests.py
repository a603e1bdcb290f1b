"""Every open request, from its arrival to its one end.

::

    arrive ──> waiting ──> with a replica ──> ended: its last sample has its finish
       │          ├────────────┴────────────> ended: aborted, refused (late, replica lost, engine's reason)
       └──────────┴─────────────────────────> refused: queue full, draining, nobody there, unknown adapter

Whoever ends a request takes it out of the table, and only what is in the table can be ended. An engine is
told to drop what ended before its own end, and what it still says of it falls on deaf ears. All is decided
here and posted in order; nothing waits.
"""

import difflib
import heapq
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from itertools import count

from asynckit.serve.messages import (
    Begin,
    Generate,
    Problem,
    Refused,
    Timing,
    ToDetokenizer,
    Token,
    Tokens,
    encode,
)
from asynckit.serve.routing.balancing import Balancer
from asynckit.serve.routing.fairness import GENERATED_WEIGHT, FairQueue, Owner
from asynckit.serve.routing.observer import Observer
from asynckit.serve.routing.replica_queue import MOST_NEWS_BYTES, ReplicaQueue
from asynckit.serve.routing.throughput import Throughput

MOST_PREFETCHED = 64
STATUS = {"invalid": 400, "too_long": 400, "model_not_found": 404, "unsupported": 400}
"""What HTTP calls an engine's reasons for refusing a request; any other is our own fault."""


@dataclass(eq=False)
class OpenRequest:
    """A request that has not ended.

    Attributes:
        owner: who shares.
        arrival: its place in the order of arrivals.
        size: bytes that it takes in a frame.
        unended: samples that have not ended.
        replica: that has it; None while it waits.
        likely: the replica that should read its adapter ahead.
        started, first_token: when; 0 before.
        generated: tokens so far.
    """

    generate: Generate
    owner: Owner
    arrival: int
    size: int
    unended: set[int]
    replica: ReplicaQueue | None = None
    likely: ReplicaQueue | None = None
    started: float = 0.0
    first_token: float = 0.0
    generated: int = 0

    def timing(self, now: float) -> Timing:
        """Its times, if it ends now."""
        replica = self.replica.number if self.replica else 0
        return Timing(self.generate.arrived, self.started, self.first_token, now, replica)


@dataclass
class Totals:
    """Counts since the beginning."""

    prompt_tokens: int = 0
    generated_tokens: int = 0
    finished: int = 0


@dataclass
class Requests:
    """The table of open requests and the rules of who goes where.

    Args:
        replicas: all there are, ready or not.
        balancer: chooses among those that have room.
        post: takes what the detokenizer is to hear, in order.
        observer: counts.
        max_waiting: requests that may wait.
        prefetch: whether replicas are told of the adapters that requests wait for.
        generation: of this router.

    Attributes:
        adapters: names that requests can use.
        draining: whether new ones are refused.
    """

    replicas: Sequence[ReplicaQueue]
    balancer: Balancer
    post: Callable[[ToDetokenizer], object]
    observer: Observer
    max_waiting: int
    prefetch: bool = False
    generation: int = 0
    adapters: Iterable[str] = ()
    draining: bool = False
    totals: Totals = field(default_factory=Totals)

    def __post_init__(self) -> None:
        self._open: dict[str, OpenRequest] = {}
        self._queue = FairQueue()
        self._arrivals = count()
        self._deadlines: list[tuple[float, str]] = []
        self._throughput = Throughput()
        self._lost_homes: set[str] = set()

    def __len__(self) -> int:
        return len(self._open)

    @property
    def waiting(self) -> int:
        """Requests that no replica has."""
        return len(self._queue)

    @property
    def next_deadline(self) -> float | None:
        """When :meth:`expire` has something to do next; None while nothing is open."""
        while self._deadlines and self._deadlines[0][1] not in self._open:
            heapq.heappop(self._deadlines)
        return self._deadlines[0][0] if self._deadlines else None

    def retry_after(self, now: float) -> float:
        """Seconds after which somebody who is sent away has a chance."""
        return self._throughput.retry_after(self.waiting + 1, now)

    def arrive(self, generate: Generate, now: float) -> None:
        """Take a request in, or refuse it."""
        request = generate.request
        if request.id in self._open or request.n < 1:
            return  # no HTTP server sends this; an answer could end somebody else's request
        if generate.home in self._lost_homes:
            return  # nobody waits for it any more
        size = len(encode(request))
        if refusal := self._refusal(generate, size, now):
            self._refuse(generate, *refusal)
            return
        arrival = next(self._arrivals)
        owner = self._queue.put(generate.owner, request.priority, arrival, request.id)
        entry = OpenRequest(generate, owner, arrival, size, set(range(request.n)))
        self._open[request.id] = entry
        self.assign(now)
        if len(self._queue) > self.max_waiting and entry.replica is None:
            self._drop(entry)
            message = f"{self.max_waiting} requests are waiting already"
            self._refuse(generate, 429, message, "queue_full", self.retry_after(now))
            return
        heapq.heappush(self._deadlines, (generate.arrived + generate.timeout, request.id))
        self.totals.prompt_tokens += len(request.prompt_ids)
        self.observer.arrived(generate.owner, len(request.prompt_ids))
        if self.prefetch and entry.replica is None and request.adapter is not None:
            ready = [(replica.number, replica.samples) for replica in self.replicas if replica.ready]
            entry.likely = self.replicas[self.balancer.choose(request, ready)]

    def assign(self, now: float) -> None:
        """Give waiting requests to replicas, in fair order, as far as there is room."""
        while id_ := self._queue.first():
            free = [(each.number, each.samples) for each in self.replicas if each.has_room()]
            if not free:
                break
            entry = self._open[id_]
            request = entry.generate.request
            replica = self.replicas[self.balancer.place(request, free)]
            self._queue.remove(entry.owner, request.priority, entry.arrival, id_)
            entry.owner.counter += len(request.prompt_ids)
            entry.replica, entry.started = replica, now
            self.post(self._begin(entry.generate))
            replica.give(request, entry.size)
            self.observer.started(now - entry.generate.arrived)
        self.observer.waiting(len(self._queue))

    def take(self, replica: ReplicaQueue, tokens: Iterable[Token], now: float) -> int:
        """Pass on what a step of a replica sampled, and end what it ended; returns how many tokens it was."""
        known: list[Token] = []
        timings: dict[str, Timing] = {}
        sampled = 0
        for token in tokens:
            entry = self._open.get(token.id)
            if entry is None or entry.replica is not replica or token.sample not in entry.unended:
                continue  # it ended otherwise, and the replica had not heard of it yet
            known.append(token)
            if token.token_id is not None:
                sampled += 1
                entry.generated += 1
                entry.owner.counter += GENERATED_WEIGHT
                if not entry.first_token:
                    entry.first_token = now
                    self.observer.first_token(now - entry.generate.arrived)
            if token.finish is not None:
                entry.unended.remove(token.sample)
                replica.release(1)
                if not entry.unended:
                    timings[token.id] = self._finish(entry, token.finish, now)
        if known:
            self.totals.generated_tokens += sampled
            self.post(Tokens(tuple(known), timings))
        if timings:
            self.assign(now)
        return sampled

    def fail(self, replica: ReplicaQueue, problems: Iterable[Problem], now: float) -> None:
        """End requests that a replica's engine refuses."""
        for problem in problems:
            entry = self._open.get(problem.id)
            if entry is not None and entry.replica is replica:
                self._drop(entry, told=False)
                self._refuse(entry.generate, STATUS.get(problem.code, 500), problem.message, problem.code)
        self.assign(now)

    def abort(self, id_: str, now: float) -> None:
        """End a request that nobody waits for any more; unknown ids do nothing."""
        entry = self._open.get(id_)
        if entry is None:
            return
        if entry.replica is None:
            self.post(self._begin(entry.generate))
        ends = tuple(Token(id_, sample, None, 0.0, 0, "abort") for sample in sorted(entry.unended))
        timing = entry.timing(now)
        self._drop(entry)
        self.observer.ended("abort", timing, len(entry.generate.request.prompt_ids), entry.generated)
        self.post(Tokens(ends, {id_: timing}))
        self.assign(now)

    def expire(self, now: float) -> None:
        """End every request whose time is up."""
        while (deadline := self.next_deadline) is not None and deadline <= now:
            entry = self._open[heapq.heappop(self._deadlines)[1]]
            self._drop(entry)
            self._refuse(entry.generate, *_late(entry.generate))
        self.assign(now)

    def lose_replica(self, replica: ReplicaQueue, reason: str, now: float, status: int = 503) -> None:
        """End all that a replica had; and all that waits, if it was the last."""
        replica.close()
        nobody = not any(each.ready for each in self.replicas)
        for entry in list(self._open.values()):
            if entry.replica is replica or (nobody and entry.replica is None):
                self._drop(entry, told=False)
                self._refuse(entry.generate, status, reason, "engine_lost", self.retry_after(now))
        self.assign(now)

    def lose_home(self, home: str, now: float) -> None:
        """Drop the requests of an HTTP server process that is gone: nobody is left to tell."""
        self._lost_homes.add(home)  # what it sent before may still come
        for entry in [entry for entry in self._open.values() if entry.generate.home == home]:
            self._drop(entry)
        self.assign(now)

    def lose_detokenizer(self, reason: str, now: float) -> None:
        """End all requests; its successor passes it on.

        HTTP servers have ended those that they sent before they heard of the loss, and ignore it; others they
        may have sent since, for the successor.
        """
        for entry in list(self._open.values()):
            self._drop(entry)
            self._refuse(entry.generate, 503, reason, "restarting", self.retry_after(now))

    def adapters_to_come(self, replica: ReplicaQueue) -> tuple[str, ...]:
        """Names of adapters that a replica should read ahead, those that are needed first coming first."""
        if not self.prefetch:
            return ()
        waiting = (self._open[id_] for id_ in self._queue)
        names = [str(entry.generate.request.adapter) for entry in waiting if entry.likely is replica]
        return tuple(dict.fromkeys(names))[:MOST_PREFETCHED]

    def adapters_in_use(self) -> tuple[set[str], set[str]]:
        """Names of the adapters of requests that replicas have, and of those that wait."""
        named = [entry for entry in self._open.values() if entry.generate.request.adapter is not None]
        running = {str(entry.generate.request.adapter) for entry in named if entry.replica}
        return running, {str(entry.generate.request.adapter) for entry in named if not entry.replica}

    def _refusal(
        self, generate: Generate, size: int, now: float
    ) -> tuple[int, str, str, float | None] | None:
        """Why a new request can't be taken at all; None if it can."""
        if self.draining:
            return 503, "the server is stopping", "draining", None
        if not any(replica.ready for replica in self.replicas):
            return 503, "no engine is ready", "no_engine", self.retry_after(now)
        adapter = generate.request.adapter
        if adapter is not None and adapter not in self.adapters:
            near = difflib.get_close_matches(adapter, self.adapters, n=1)
            hint = f" (did you mean {near[0]!r}?)" if near else ""
            return 404, f"there is no model {adapter!r}{hint}", "model_not_found", None
        if generate.arrived + generate.timeout <= now:
            return _late(generate)
        if size > MOST_NEWS_BYTES:
            message = f"the request takes {size} bytes inside the server; the most is {MOST_NEWS_BYTES}"
            return 413, message, "too_large", None
        return None

    def _refuse(
        self, generate: Generate, status: int, message: str, code: str, retry_after: float | None = None
    ) -> None:
        self.observer.refused(status, code)
        self.post(Refused(generate.request.id, generate.home, status, message, code, retry_after))

    def _begin(self, generate: Generate) -> Begin:
        request = generate.request
        return Begin(
            id=request.id,
            home=generate.home,
            n=request.n,
            stop=request.sampling.stop,
            skip_special_tokens=generate.skip_special_tokens,
            wants_tokens=generate.wants_tokens,
            router=self.generation,
        )

    def _finish(self, entry: OpenRequest, finish: str, now: float) -> Timing:
        timing = entry.timing(now)
        self._drop(entry)
        self.totals.finished += 1
        self._throughput.ended(now)
        self.observer.ended(finish, timing, len(entry.generate.request.prompt_ids), entry.generated)
        return timing

    def _drop(self, entry: OpenRequest, *, told: bool = True) -> None:
        """Take a request out of the table; ``told`` is whether its replica should drop what is left of it."""
        request = entry.generate.request
        del self._open[request.id]
        if entry.replica is None:
            self._queue.remove(entry.owner, request.priority, entry.arrival, request.id)
        elif entry.unended and entry.replica.ready:
            entry.replica.release(len(entry.unended))
            if told:
                entry.replica.abort(request.id)
        self._queue.ended(entry.owner)


def _late(generate: Generate) -> tuple[int, str, str, float | None]:
    return 504, f"the request took longer than {generate.timeout:g} s", "timeout", None
