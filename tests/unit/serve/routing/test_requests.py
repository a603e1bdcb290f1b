"""Every request ends exactly once, and what it held is given back."""

from collections import Counter, defaultdict
from dataclasses import dataclass, field

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from asynckit.engine.config import SamplingParams
from asynckit.engine.request import Request
from asynckit.serve.messages import (
    Begin,
    EngineState,
    Generate,
    Problem,
    Refused,
    ToDetokenizer,
    Token,
    Tokens,
)
from asynckit.serve.metrics import Metrics
from asynckit.serve.routing.balancing import Balancer
from asynckit.serve.routing.replica_queue import MOST_NEWS_BYTES, Limits, ReplicaQueue
from asynckit.serve.routing.requests import Requests

LIMITS = Limits(max_running=4, max_step_tokens=64, kv_cache_tokens=256)


def _generate(
    number: int, *, n: int = 1, home: str = "http-0", owner: str = "a", at: float = 0.0, **more: object
) -> Generate:
    prompt = tuple(range(int(str(more.get("prompt", 3)))))
    adapter = more.get("adapter")
    request = Request(
        f"r{number}", prompt, SamplingParams(), n=n, adapter=None if adapter is None else str(adapter)
    )
    return Generate(request, home, owner, at, float(str(more.get("timeout", 100.0))))


@dataclass
class _World:
    """A table with two replicas, and what it posted."""

    replicas: int = 2
    max_waiting: int = 3
    posted: list[ToDetokenizer] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.queues = [ReplicaQueue(number, lambda: None) for number in range(self.replicas)]
        self.requests = Requests(
            self.queues,
            Balancer(self.replicas, 4),
            self.posted.append,
            Metrics(),
            max_waiting=self.max_waiting,
            prefetch=True,
        )
        for queue in self.queues:
            queue.open(LIMITS)

    def refused(self, id_: str) -> Refused | None:
        found = [m for m in self.posted if isinstance(m, Refused) and m.id == id_]
        assert len(found) <= 1
        return found[0] if found else None


def _state(*, waiting: int = 0, kv_usage: float = 0.0) -> EngineState:
    return EngineState(0, waiting, kv_usage, 0, 0, 0, 0, has_work=False, version=0)


class _EveryOrder(RuleBasedStateMachine):
    """Arrivals, tokens, aborts, losses and time-outs in any order, against obedient engines."""

    @initialize()
    def begin(self) -> None:
        self.world = _World()
        self.requests, self.queues = self.world.requests, self.world.queues
        self.now = 0.0
        self.sent: dict[str, Generate] = {}
        self.silent: set[str] = set()  # whom nobody has to be told of
        self.engines: list[dict[str, list[int]]] = [{}, {}]  # id -> samples that run there
        self.read = 0
        self.ends: Counter[str] = Counter()
        self.finishes: dict[str, set[int]] = defaultdict(set)
        self.begun: Counter[str] = Counter()
        self.generations: Counter[str] = Counter()  # of HTTP servers

    @rule(
        n=st.integers(1, 4),
        home=st.sampled_from(["http-0", "http-1"]),
        old=st.booleans(),
        owner=st.sampled_from("abc"),
        prompt=st.integers(1, 100),
        timeout=st.floats(-1, 20),
        adapter=st.sampled_from([None, None, "known", "unknown"]),
    )
    def arrive(
        self, n: int, home: str, old: bool, owner: str, prompt: int, timeout: float, adapter: str | None
    ) -> None:
        self.requests.adapters = ("known",)
        late = old and self.generations[home] > 0
        home = f"{home}.{self.generations[home] - late}"
        more = {"prompt": prompt, "timeout": timeout, "adapter": adapter}
        generate = _generate(len(self.sent), n=n, home=home, owner=owner, at=self.now, **more)
        self.sent[generate.request.id] = generate
        if late:
            self.silent.add(generate.request.id)
        self.requests.arrive(generate, self.now)

    @rule(replica=st.integers(0, 1), data=st.data())
    def step(self, replica: int, data: st.DataObject) -> None:
        """The engine hears what is new, and some of its samples get tokens, end, or fail."""
        queue, engine = self.queues[replica], self.engines[replica]
        if not queue.ready:
            return
        requests, aborts = queue.take_news()
        tokens, problems = [], []
        for id_ in aborts:
            tokens += [Token(id_, each, None, 0.0, 0, "abort") for each in engine.pop(id_, [])]
        for request in requests:
            assert request.id not in engine
            if data.draw(st.integers(0, 9)) == 0:
                problems.append(Problem(request.id, "no", "invalid"))
            else:
                engine[request.id] = list(range(request.n))
        for id_, samples in list(engine.items()):
            for sample in list(samples):
                finish = data.draw(st.sampled_from([None, None, "stop", "error"]))
                tokens.append(Token(id_, sample, None if finish == "error" else 7, 0.0, 0, finish))
                if finish:
                    samples.remove(sample)
            if not samples:
                del engine[id_]
        queue.stepped(_state())
        self.requests.take(queue, tokens, self.now)
        self.requests.fail(queue, problems, self.now)

    @rule(which=st.integers(0, 40))
    def abort(self, which: int) -> None:
        self.requests.abort(f"r{which}", self.now)

    @rule(seconds=st.floats(0, 10))
    def time_passes(self, seconds: float) -> None:
        self.now += seconds
        self.requests.expire(self.now)

    @rule(home=st.sampled_from(["http-0", "http-1"]))
    def lose_home(self, home: str) -> None:
        name, home = home, f"{home}.{self.generations[home]}"
        self.generations[name] += 1
        self.silent |= {id_ for id_, generate in self.sent.items() if generate.home == home}
        self.requests.lose_home(home, self.now)

    @rule()
    def lose_detokenizer(self) -> None:
        self.requests.lose_detokenizer("gone", self.now)
        assert len(self.requests) == 0

    @precondition(lambda self: any(queue.ready for queue in self.queues))
    @rule(replica=st.integers(0, 1))
    def lose_replica(self, replica: int) -> None:
        self.engines[replica].clear()
        self.requests.lose_replica(self.queues[replica], "gone", self.now)

    @rule(replica=st.integers(0, 1))
    def restart_replica(self, replica: int) -> None:
        if not self.queues[replica].ready:
            self.queues[replica].open(LIMITS)
            self.requests.assign(self.now)

    @invariant()
    def nothing_ends_twice(self) -> None:
        for message in self.world.posted[self.read :]:
            match message:
                case Begin(id_):
                    self.begun[id_] += 1
                    assert self.begun[id_] == 1
                    assert not self.ends[id_]
                case Tokens(tokens, timings):
                    for token in tokens:
                        assert self.begun[token.id] == 1
                        assert token.sample not in self.finishes[token.id]
                        if token.finish:
                            self.finishes[token.id].add(token.sample)
                    for id_ in timings:
                        assert len(self.finishes[id_]) == self.sent[id_].request.n
                        self.ends[id_] += 1
                case Refused(id_):
                    self.ends[id_] += 1
        self.read = len(self.world.posted)
        assert all(count == 1 for count in self.ends.values() if count)

    @invariant()
    def counts_agree(self) -> None:
        for queue in self.queues:
            held = [e for e in self.requests._open.values() if e.replica is queue]
            assert queue.samples == sum(len(entry.unended) for entry in held)
        waiting = [e for e in self.requests._open.values() if e.replica is None]
        assert self.requests.waiting == len(waiting) <= 3

    def teardown(self) -> None:
        """When time is over for everybody, nobody is left and everything is free."""
        if not hasattr(self, "world"):
            return
        self.now += 1000
        self.requests.expire(self.now)
        self.nothing_ends_twice()
        assert len(self.requests) == self.requests.waiting == 0
        assert self.requests.next_deadline is None
        for queue, engine in zip(self.queues, self.engines, strict=True):
            assert queue.samples == 0
            new, aborts = queue.take_news()
            assert not new
            assert set(engine) <= set(aborts)
        assert all(not owner.open for owner in self.requests._queue._owners.values())
        assert all(self.ends[id_] == 1 for id_ in self.sent if id_ not in self.silent)


_EveryOrder.TestCase.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
test_every_request_ends_exactly_once = _EveryOrder.TestCase


def test_a_duplicate_is_not_taken() -> None:
    """An id that is open can't be taken over, nor ended, by another request."""
    world = _World()
    world.requests.arrive(_generate(1), 0.0)
    world.requests.arrive(_generate(1, home="http-1"), 0.0)
    assert len(world.requests) == 1
    assert world.refused("r1") is None


def test_reasons_to_send_a_request_away() -> None:
    """Each has its status: draining and nobody there 503, unknown adapter 404, too late 504."""
    world = _World()
    world.requests.adapters = ("german",)
    world.requests.arrive(_generate(1, adapter="germam"), 0.0)
    world.requests.arrive(_generate(2, timeout=1.0), 5.0)
    for queue in world.queues:
        world.requests.lose_replica(queue, "gone", 0.0)
    world.requests.arrive(_generate(3), 0.0)
    world.requests.draining = True
    world.requests.arrive(_generate(4), 0.0)
    refusals = [world.refused(f"r{number}") for number in (1, 2, 3, 4)]
    assert [each and (each.status, each.code) for each in refusals] == [
        (404, "model_not_found"),
        (504, "timeout"),
        (503, "no_engine"),
        (503, "draining"),
    ]


def test_what_waits_for_an_adapter_lets_it_be_read() -> None:
    """With prefetch on, a replica is told of the adapter of a request that must wait."""
    world = _World(replicas=1)
    world.requests.adapters = ("german",)
    for number in range(3):
        world.requests.arrive(_generate(number, n=4), 0.0)
    assert world.requests.waiting
    assert world.requests.adapters_to_come(world.queues[0]) == ()
    world.requests.arrive(_generate(9, adapter="german"), 0.0)
    assert world.requests.adapters_to_come(world.queues[0]) == ("german",)


@given(st.lists(st.integers(1, 200), min_size=1, max_size=30))
def test_no_more_prompt_at_once_than_a_step_reads(prompts: list[int]) -> None:
    """Before a step reports, a busy engine is given at most one request beyond what it reads in one step."""
    world = _World(replicas=1, max_waiting=100)
    for number, prompt in enumerate(prompts):
        world.requests.arrive(_generate(number, prompt=prompt), 0.0)
    given_ = [len(request.prompt_ids) for request in world.queues[0].take_news()[0]]
    assert given_
    assert sum(given_[:-1]) < max(LIMITS.max_step_tokens, given_[0] + 1)
    assert len(given_) <= LIMITS.max_running + LIMITS.lookahead


@given(st.lists(st.integers(1, MOST_NEWS_BYTES), min_size=1, max_size=20))
def test_no_step_is_larger_than_a_frame(sizes: list[int]) -> None:
    """Large requests are told in several steps, in order, and none is left behind."""
    queue = ReplicaQueue(0, lambda: None)
    queue.open(LIMITS)
    for number, size in enumerate(sizes):
        queue.give(_generate(number).request, size)
    told: list[str] = []
    while queue.has_news():
        requests, _ = queue.take_news()
        assert requests
        assert sum(sizes[len(told) :][: len(requests)]) <= MOST_NEWS_BYTES
        told += [request.id for request in requests]
    assert told == [f"r{number}" for number in range(len(sizes))]


def test_a_request_larger_than_a_frame_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """It hears so itself; no engine waits for a step that never comes."""
    monkeypatch.setattr("asynckit.serve.routing.requests.MOST_NEWS_BYTES", 500)
    world = _World()
    world.requests.arrive(_generate(1, prompt=300), 0.0)
    world.requests.arrive(_generate(2, prompt=3), 0.0)
    refused = world.refused("r1")
    assert refused
    assert (refused.status, refused.code) == (413, "too_large")
    assert world.refused("r2") is None
