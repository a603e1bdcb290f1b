"""The router: takes requests from HTTP servers, drives the engines, hands tokens to the detokenizer.

::

    HTTP servers ── ToRouter ──> take_messages ──> Requests ──> ReplicaQueue r ──> Replica r ⇄ workers
                                                      │                               │ tokens
    supervisor ── Peers, Lost ──> hear                └──> Outgoing <─────────────────┘
                                                               └── ToDetokenizer ──> detokenizer

============== ======================= ============================= ========================================
task           consumes                produces                      waits on
============== ======================= ============================= ========================================
take_messages  ToRouter                requests, calls               its inbox
hear           ToProcess               connections, ends of requests the supervisor
end_late       time                    Refused(504)                  the next deadline, or an earlier one
make_changes   adapter, weight calls   Answered, Refused             calls, then every replica
drive r        ReplicaQueue r, Stepped Step, tokens                  work, its engine, the detokenizer's pace
send           posted messages         ToDetokenizer                 messages, the detokenizer
============== ======================= ============================= ========================================

All decisions are in :mod:`asynckit.serve.routing`; a task that dies ends the process.
"""

import asyncio
import logging
import re
from collections.abc import Iterable, Sequence

from asynckit.errors import WorkFailed
from asynckit.serve.assignment import Assignment
from asynckit.serve.control_messages import Drain, Facts, Lost, Peers, Stop
from asynckit.serve.member import Member, now
from asynckit.serve.messages import (
    Abort,
    Answered,
    Embed,
    Generate,
    GetMetrics,
    GetState,
    LoadAdapter,
    Problem,
    Refused,
    Served,
    State,
    ToRouter,
    UnloadAdapter,
    UpdateWeights,
    Vectors,
)
from asynckit.serve.metrics import Metrics
from asynckit.serve.outgoing import Outgoing
from asynckit.serve.replica import GONE, ModelRpc, Replica
from asynckit.serve.routing.balancing import Balancer
from asynckit.serve.routing.embed_parts import parts
from asynckit.serve.routing.holdings import Change, Holdings
from asynckit.serve.routing.replica_queue import Limits, ReplicaQueue
from asynckit.serve.routing.requests import STATUS, Requests
from asynckit.serve.sockets import Inbox, Sockets
from asynckit.serve.stopping import tasks_beside

MOST_CHANGES = 64
_ANSWER_SECONDS = 60.0  # beyond the longest step, after which the supervisor must have said that it is lost
_WORKER = re.compile(r"worker-(\d+)-(\d+)")
_CALL_STATUS = {**STATUS, "adapter": 400, "weights": 400, GONE: 503}

_logger = logging.getLogger(__name__)


async def run_router(assignment: Assignment) -> int:
    """Be the router until the supervisor says stop; returns the exit code.

    Raises:
        AsynckitError: alone or in a group: a peer neither works nor is reported lost.
    """
    async with (
        Sockets(assignment.place) as sockets,
        Member(sockets, assignment) as member,
        tasks_beside() as tasks,
    ):
        await Router(assignment, sockets, member, tasks).run()
    return 0


class Router:
    """One router, in the task group of its process."""

    def __init__(
        self, assignment: Assignment, sockets: Sockets, member: Member, tasks: asyncio.TaskGroup
    ) -> None:
        self._assignment = assignment
        self._sockets = sockets
        self._member = member
        self._tasks = tasks
        serve = assignment.serve
        self._metrics = Metrics(serve.name or assignment.model.name)
        self._outgoing = Outgoing(sockets, tasks)
        self._holdings = Holdings()
        self._changing = asyncio.Lock()
        self._changes: asyncio.Queue[Change] = asyncio.Queue(MOST_CHANGES)
        self._embeds = 0
        work = [asyncio.Event() for _ in range(serve.replicas)]
        queues = [ReplicaQueue(number, event.set) for number, event in enumerate(work)]
        self._requests = Requests(
            queues,
            Balancer(serve.replicas, assignment.engine.block_size),
            self._outgoing.post,
            self._metrics,
            max_waiting=serve.max_waiting,
            prefetch=serve.prefetch,
            generation=assignment.generation,
        )
        room, changing = self._outgoing.room, self._changing
        self._replicas = [
            Replica(
                number, event, self._requests, self._holdings, changing, room, self._metrics, self._restored
            )
            for number, event in enumerate(work)
        ]
        self._driving: dict[int, asyncio.Task[None]] = {}
        self._out: dict[int, WorkFailed] = {}  # replicas that can't be made what the others are
        self._gone: set[str] = set()  # addresses of workers that went with another rank, if not yet reported
        self._embeds_text = False
        self._earlier = asyncio.Event()  # a deadline has come that is earlier than the others
        self._began = now()

    async def run(self) -> None:
        """Say that we are here, and work until the supervisor says stop."""
        inbox: Inbox[ToRouter] = self._sockets.inbox(self._assignment.unique_name, ToRouter)
        self._tasks.create_task(self._take_messages(inbox), name="take messages")
        self._tasks.create_task(self._end_late(), name="end late requests")
        self._tasks.create_task(self._make_changes(), name="change adapters and weights")
        await self._member.ready(inbox.address)
        await self._hear()
        for replica in self._replicas:
            if replica.addresses:
                self._hang_up(replica, "the server has stopped")
        self._outgoing.disconnect()

    async def _hear(self) -> None:
        """Follow who comes and goes, until the end."""
        while True:
            match await self._member.hear():
                case Peers() as peers:
                    self._meet(peers)
                case Lost() as lost:
                    self._lose(lost)
                case Drain():
                    self._requests.draining = True
                case Stop():
                    return

    async def _take_messages(self, inbox: Inbox[ToRouter]) -> None:
        while True:
            self._take(await inbox.receive())

    def _take(self, message: ToRouter) -> None:
        match message:
            case Generate():
                before = self._requests.next_deadline
                self._requests.arrive(message, now())
                if before is None or message.arrived + message.timeout < before:
                    self._earlier.set()
            case Abort(id_):
                self._requests.abort(id_, now())
            case Served(route, status, seconds):
                self._metrics.served(route, status, seconds)
            case GetState(id_, home):
                self._outgoing.post(Answered(id_, home, state=self._state()))
            case GetMetrics(id_, home):
                running, waiting = self._requests.adapters_in_use()
                self._metrics.adapters(running, waiting, self._assignment.engine.max_loras)
                self._outgoing.post(Answered(id_, home, text=self._metrics.render()))
            case Embed():
                self._take_embed(message)
            case LoadAdapter() | UnloadAdapter() | UpdateWeights():
                self._take_change(message)

    # Peers

    def _meet(self, peers: Peers) -> None:
        """Connect to those who are new."""
        address = peers.addresses.get("detokenizer", "")
        if address and address != self._outgoing.address:
            if self._outgoing.address:  # another one has taken its place, and its end was not reported
                self._lose_detokenizer("another has taken its place")
            self._outgoing.connect(address)
        for replica in self._replicas:
            names = [f"worker-{replica.number}-{rank}" for rank in range(self._assignment.serve.tp)]
            addresses = tuple(peers.addresses.get(name, "") for name in names)
            if all(addresses) and addresses != replica.addresses and not self._gone & set(addresses):
                assert peers.facts
                self._connect(replica, addresses, peers.facts)

    def _connect(self, replica: Replica, addresses: tuple[str, ...], facts: Facts) -> None:
        if replica.addresses:
            self._lose_replica(replica, "another has taken its place")
        engine, serve = self._assignment.engine, self._assignment.serve
        limits = Limits(facts.max_running, engine.max_step_tokens, facts.kv_cache_tokens)
        longest = serve.step_timeout + _ANSWER_SECONDS
        rpcs = [ModelRpc(self._sockets.dealer(address), longest) for address in addresses]
        self._embeds_text = facts.embeds
        replica.connect(rpcs, addresses, limits)
        self._start_driving(replica)

    def _start_driving(self, replica: Replica) -> None:
        self._out.pop(replica.number, None)
        task = self._tasks.create_task(self._drive(replica), name=f"drive replica {replica.number}")
        self._driving[replica.number] = task

    async def _drive(self, replica: Replica) -> None:
        """Drive a replica; one that can't be made what the others are stays out, and the last ends all."""
        try:
            await replica.drive()
        except WorkFailed as error:
            if replica.queue.ready:
                raise  # it works no more, and nobody says that it is lost
            self._out[replica.number] = error
            if len(self._out) == len(self._replicas):
                raise
            _logger.error("replica %d takes no requests: %s", replica.number, error)  # noqa: TRY400 - no bug

    def _bring_up(self, replicas: Iterable[Replica], reason: str) -> None:
        """Have replicas that take requests given what all must have."""
        for replica in replicas:
            if replica.queue.ready:
                replica.restart(reason)

    def _restored(self, number: int, revision: int) -> None:
        """A replica takes requests, and the holdings were of this revision before it told what it has."""
        others = [replica for replica in self._replicas if replica.number != number]
        if self._holdings.revision != revision:
            self._bring_up(others, "another engine has newer weights or other adapters")
        all_ready = all(replica.queue.ready for replica in self._replicas)
        if all_ready and self._holdings.settle() and self._assignment.generation:
            _logger.error(
                "router and engines were started anew: adapters and weights that were loaded "
                "since the server began, if any, are gone; load them again"
            )

    def _lose(self, lost: Lost) -> None:
        """End what hangs on a process that is gone."""
        self._metrics.lost(lost.name)
        if lost.name == "detokenizer":
            self._lose_detokenizer(lost.reason)
        elif worker := _WORKER.fullmatch(lost.name):
            number = int(worker[1])
            if number < len(self._replicas) and self._replicas[number].addresses:
                self._lose_replica(self._replicas[number], f"the engine was lost: {lost.reason}")
        elif lost.name.startswith("http-"):
            self._requests.lose_home(lost.unique_name, now())

    def _lose_detokenizer(self, reason: str) -> None:
        self._outgoing.disconnect()
        self._requests.lose_detokenizer(
            f"a part of the server is being restarted: detokenizer: {reason}", now()
        )

    def _hang_up(self, replica: Replica, reason: str) -> None:
        self._driving.pop(replica.number).cancel()  # before its sockets go
        self._out.pop(replica.number, None)
        self._gone.update(replica.addresses)
        replica.addresses = ()
        replica.close(reason)

    def _lose_replica(self, replica: Replica, reason: str) -> None:
        self._hang_up(replica, reason)
        self._requests.lose_replica(replica.queue, reason, now())

    # Time

    async def _end_late(self) -> None:
        """End requests whose time is up."""
        while True:
            try:
                async with asyncio.timeout_at(self._requests.next_deadline):
                    await self._earlier.wait()
            except TimeoutError:
                self._requests.expire(now())
            self._earlier.clear()

    # Calls

    def _state(self) -> State:
        queues = [replica.queue for replica in self._replicas]
        states = [queue.state for queue in queues if queue.ready and queue.state]
        totals = self._requests.totals
        return State(
            running=sum(queue.samples for queue in queues),
            waiting=self._requests.waiting,
            kv_usage=sum(state.kv_usage for state in states) / len(states) if states else 0.0,
            generated_tokens=totals.generated_tokens,
            prompt_tokens=totals.prompt_tokens,
            finished=totals.finished,
            replicas=len(queues),
            replicas_ready=sum(queue.ready for queue in queues),
            version=self._holdings.version,
            adapters=self._holdings.listing(),
            uptime=now() - self._began,
        )

    def _take_change(self, change: Change) -> None:
        try:
            self._changes.put_nowait(change)
        except asyncio.QueueFull:
            self._refuse(change, 429, f"{MOST_CHANGES} such calls are waiting already", "queue_full", 1.0)

    async def _make_changes(self) -> None:
        """Carry out one call after the other, each on all replicas."""
        while True:
            change = await self._changes.get()
            async with self._changing:
                await self._change(change)

    async def _change(self, change: Change) -> None:
        known = self._holdings.adapters
        if isinstance(change, UnloadAdapter) and known is not None and change.name not in known:
            self._refuse(change, 404, f"there is no adapter {change.name!r}", "model_not_found")
            return
        ready = [replica for replica in self._replicas if replica.queue.ready]
        outcomes = await asyncio.gather(*(replica.call(change) for replica in ready))
        done = [replica for replica, outcome in zip(ready, outcomes, strict=True) if outcome is None]
        problems = [outcome for outcome in outcomes if isinstance(outcome, Problem)]
        refused = next((problem for problem in problems if problem.code != GONE), None)
        if refused is None and done:  # who was lost meanwhile gets it when it comes back
            self._carried_out(change)
            return
        if refused and done and isinstance(change, UpdateWeights):  # there is no way back to older weights
            self._carried_out(change)
            _logger.error("an engine could not load weights %d: %s", change.version, refused.message)
            self._bring_up(
                (replica for replica in ready if replica not in done), "its weights are not the others'"
            )
            return
        if not isinstance(change, UpdateWeights):
            await asyncio.gather(*(self._undo(replica, change) for replica in done))
        problem = refused or next(iter(problems), Problem(change.id, "no engine is ready", GONE))
        self._refuse_by(change, problem)

    def _carried_out(self, change: Change) -> None:
        self._holdings.changed(change)
        self._requests.adapters = self._holdings.adapters or ()
        self._outgoing.post(Answered(change.id, change.home))
        for number in list(self._out):  # what they could not do may not be needed any more
            self._start_driving(self._replicas[number])

    async def _undo(self, replica: Replica, change: LoadAdapter | UnloadAdapter) -> None:
        for back in self._holdings.undo(change):
            if isinstance(outcome := await replica.call(back), Problem):
                self._bring_up([replica], f"its adapters are not the others': {outcome.message}")
                return

    def _take_embed(self, embed: Embed) -> None:
        ready = [replica for replica in self._replicas if replica.queue.ready]
        if self._requests.draining or not ready:
            why = "the server is stopping" if self._requests.draining else "no engine is ready"
            self._refuse(embed, 503, why, "draining" if self._requests.draining else "no_engine")
        elif not self._embeds_text:
            self._refuse(embed, 400, "this model makes no embeddings", "unsupported")
        elif self._embeds >= self._assignment.serve.max_waiting + len(ready):
            message = f"{self._assignment.serve.max_waiting} such calls are waiting already"
            self._refuse(embed, 429, message, "queue_full", self._requests.retry_after(now()))
        else:
            self._embeds += 1
            self._tasks.create_task(self._embed(embed, ready), name="embed")

    async def _embed(self, embed: Embed, ready: Sequence[Replica]) -> None:
        replica = min(ready, key=lambda each: each.queue.samples)
        try:
            async with asyncio.timeout_at(embed.arrived + embed.timeout):
                outcome = await self._embed_parts(embed, replica)
        except TimeoutError:
            self._refuse(embed, 504, f"the request took longer than {embed.timeout:g} s", "timeout")
        else:
            if isinstance(outcome, Problem):
                self._refuse_by(embed, outcome)
            else:
                self._outgoing.post(Answered(embed.id, embed.home, vectors=outcome))
        finally:
            self._embeds -= 1

    async def _embed_parts(self, embed: Embed, replica: Replica) -> Vectors | Problem:
        """One part after the other, so that other calls and generation have their turns in between."""
        vectors: Vectors = ()
        for part in parts(embed, self._assignment.engine.max_step_tokens):
            outcome = await replica.call(part)
            if isinstance(outcome, Problem):
                return outcome
            vectors += outcome or ()
        return vectors

    def _refuse_by(self, call: Change | Embed, problem: Problem) -> None:
        retry_after = self._requests.retry_after(now()) if problem.code == GONE else None
        status = _CALL_STATUS.get(problem.code, 500)
        self._refuse(call, status, problem.message, problem.code, retry_after)

    def _refuse(
        self, call: Change | Embed, status: int, message: str, code: str, retry_after: float | None = None
    ) -> None:
        self._metrics.refused(status, code)
        self._outgoing.post(Refused(call.id, call.home, status, message, code, retry_after))
