"""One replica as the router has it: the RPCs of its ranks, and the loop that drives them step by step.

The next step is sent as soon as the last one is reported, before the router looks at what that one brought,
so the engine works meanwhile. A replica that has nothing to do hears nothing.
"""

import asyncio
import logging
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import msgspec
import zmq.asyncio

from asynckit.errors import WorkFailed
from asynckit.serve.member import now
from asynckit.serve.messages import (
    Embed,
    EngineCall,
    FromWorker,
    Problem,
    Reset,
    Step,
    Stepped,
    ToWorker,
    UpdateWeights,
    Vectors,
    WasReset,
    decoder,
    encode,
)
from asynckit.serve.routing.holdings import Change, Holdings
from asynckit.serve.routing.observer import Observer
from asynckit.serve.routing.replica_queue import Limits, ReplicaQueue
from asynckit.serve.routing.requests import Requests

Outcome = Problem | Vectors | None
"""Why a call was not carried out, or its vectors, or nothing to say."""

GONE = "engine_lost"

_logger = logging.getLogger(__name__)


class RanksDisagree(Exception):
    """The ranks of a replica report different tokens: they no longer compute the same."""


class _MustRestart(Exception):
    """The engine is to be emptied and to get what the others have."""


class ModelRpc:
    """Calls to one model worker, each answered before the next is sent.

    Args:
        socket: connected to the worker.
        longest: seconds after which nobody can still be working on an answer.
    """

    def __init__(self, socket: zmq.asyncio.Socket, longest: float) -> None:
        self._socket = socket
        self._longest = longest
        self._decoder = decoder(FromWorker)

    async def send(self, frame: bytes) -> None:
        """Send a call."""
        await self._socket.send(frame)

    async def receive(self, number: int) -> FromWorker:
        """The answer to the call of this number.

        Raises:
            WorkFailed: none comes, and nobody says that the worker is lost.
        """
        try:
            async with asyncio.timeout(self._longest):
                while True:
                    answer = self._decode(await self._socket.recv())
                    if answer is not None and answer.number == number:
                        return answer
        except TimeoutError:
            raise WorkFailed(
                f"a model worker has not answered for {self._longest:g} s", where="serve.step_timeout"
            ) from None

    def _decode(self, frame: bytes) -> FromWorker | None:
        try:
            answer: FromWorker = self._decoder.decode(frame)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            _logger.warning("dropped a frame from a model worker: %s", error)
            return None
        return answer

    def close(self) -> None:
        """Drop the connection."""
        self._socket.close()


class Replica:
    """Drives the ranks of one engine.

    Args:
        number: of the replica.
        work: set when its queue has something for it.
        requests: the router's table; ``requests.replicas[number]`` is this one's queue.
        holdings: what every replica must have.
        changing: held while adapters or weights change anywhere.
        room: waits until the detokenizer keeps up.
        observer: counts.
        restored: hears the number and the holdings' revision before it told, whenever it is ready.
    """

    def __init__(
        self,
        number: int,
        work: asyncio.Event,
        requests: Requests,
        holdings: Holdings,
        changing: asyncio.Lock,
        room: Callable[[], Any],
        observer: Observer,
        restored: Callable[[int, int], object],
    ) -> None:
        self.number = number
        self.queue: ReplicaQueue = requests.replicas[number]
        self.limits = Limits(1, 1, 1)
        self.addresses: tuple[str, ...] = ()
        self._work = work
        self.model_rpcs: Sequence[ModelRpc] = ()
        self._requests = requests
        self._holdings = holdings
        self._changing = changing
        self._room = room
        self._observer = observer
        self._restored = restored
        self._number = 0  # of the last message; they go on over restarts, which makes logs easier to read
        self._calls: list[EngineCall] = []
        self._awaited: dict[str, asyncio.Future[Outcome]] = {}
        self._must_restart = False
        self._reported = 0.0  # when the last step was, if work is left

    def connect(self, rpcs: Sequence[ModelRpc], addresses: tuple[str, ...], limits: Limits) -> None:
        """Talk to these workers from now on; :meth:`drive` is what does."""
        self.model_rpcs, self.addresses, self.limits = rpcs, addresses, limits

    def close(self, reason: str) -> None:
        """Hang up, and answer whoever awaits a call."""
        for rpc in self.model_rpcs:
            rpc.close()
        self.model_rpcs = ()
        self._drop_calls(reason)

    async def call(self, call: EngineCall) -> Outcome:
        """Have the engine carry out a call with its next step; what came of it, if it is not lost."""
        if not self.queue.ready:  # what it lacks it gets before it is
            return Problem(call.id, "the engine is gone", GONE)
        future: asyncio.Future[Outcome] = asyncio.get_running_loop().create_future()
        self._calls.append(call)
        self._awaited[call.id] = future
        self._work.set()
        return await future

    def restart(self, reason: str, status: int = 503) -> None:
        """Take no more requests until it is empty and has what the others have; what it runs ends."""
        self._drop_calls(reason)
        self._requests.lose_replica(self.queue, reason, now(), status)
        self._must_restart = True
        self._work.set()

    async def drive(self) -> None:
        """Get it ready, then run its steps, until it is cancelled.

        Raises:
            WorkFailed: it can't be made what the others are, and takes no requests.
        """
        while True:
            await self._restore()
            try:
                await self._run_steps()
            except RanksDisagree:
                _logger.exception("replica %d starts from empty", self.number)
                self.restart("the engine's ranks disagreed", status=500)
            except _MustRestart:
                _logger.warning("replica %d starts from empty", self.number)

    async def _restore(self) -> None:
        """Empty the engine, give it what the others have, and let it take requests."""
        self._must_restart = False
        async with self._changing:
            was = await self._exchange(Reset(self._next_number()))
            assert isinstance(was, WasReset)
            revision = self._holdings.revision
            changes = self._holdings.learn(was)
            if changes:
                stepped = await self._exchange(Step(self._next_number(), calls=tuple(changes)))
                assert isinstance(stepped, Stepped)
                self._check_restored(changes, stepped)
            self._requests.adapters = self._holdings.adapters or ()
            self._requests.balancer.forget(self.number, self.limits.kv_cache_tokens)
            self.queue.open(self.limits)
            self._restored(self.number, revision)
        self._requests.assign(now())

    def _check_restored(self, changes: Iterable[Change], stepped: Stepped) -> None:
        """Put up with an adapter that is gone, for its own requests alone suffer; never with other weights.

        Raises:
            WorkFailed: the present weights can't be had any more.
        """
        by_id = {change.id: change for change in changes}
        for problem in stepped.problems:
            change = by_id[problem.id]
            if isinstance(change, UpdateWeights):
                raise WorkFailed(
                    f"replica {self.number} can't load weights {change.version} again: {problem.message}",
                    where=change.folder,
                    mend="keep the folder of the present weights until they are updated again",
                )
            _logger.error("replica %d lacks adapter %r: %s", self.number, change.name, problem.message)

    async def _run_steps(self) -> None:
        answer: Stepped | None = None
        has_work = False
        while True:
            await self._room()
            if self._must_restart:
                raise _MustRestart
            step = self._next_step(has_work=has_work)
            if step is None and answer is None:
                self._reported = 0.0
                self._work.clear()
                await self._work.wait()
                continue
            if step is not None:
                await self._send(step)
            if answer is not None:
                self._handle(answer)
                answer = None
            if step is not None:
                answer = await self._receive_step(step.number)
                has_work = answer.state.has_work
                self.queue.stepped(answer.state)

    def _next_step(self, *, has_work: bool) -> Step | None:
        """The next step, if there is anything to do."""
        if not (has_work or self._calls or self.queue.has_news()):
            return None
        requests, aborts = self.queue.take_news()
        prefetch = self._requests.adapters_to_come(self.queue)
        return Step(self._next_number(), requests, aborts, self._take_calls(), prefetch)

    def _take_calls(self) -> tuple[EngineCall, ...]:
        """All calls, but of those that take long only the first: tokens are sampled in between."""
        embeds = [call for call in self._calls if isinstance(call, Embed)]
        later = embeds[1:]
        calls = tuple(call for call in self._calls if call not in later)
        self._calls = [*later]
        return calls

    def _handle(self, stepped: Stepped) -> None:
        """Pass on what a step brought."""
        moment = now()
        sampled = self._requests.take(self.queue, stepped.tokens, moment)
        for id_ in stepped.done:
            self._answer(id_, stepped.vectors.get(id_))
        problems = [problem for problem in stepped.problems if not self._answer(problem.id, problem)]
        if problems:
            self._requests.fail(self.queue, problems, moment)
        self._observer.engine_state(self.number, stepped.state)
        if sampled:
            self._observer.tokens(sampled, moment - self._reported if self._reported else None)
        self._reported = moment

    def _answer(self, id_: str, outcome: Outcome) -> bool:
        """Answer whoever awaits this call; returns whether it was one."""
        future = self._awaited.pop(id_, None)
        if future is None:
            return False
        if not future.done():
            future.set_result(outcome)
        return True

    def _drop_calls(self, reason: str) -> None:
        self._calls = []
        for id_ in list(self._awaited):
            self._answer(id_, Problem(id_, reason, GONE))

    async def _receive_step(self, number: int) -> Stepped:
        if len(self.model_rpcs) == 1:
            answers: Sequence[FromWorker] = [await self.model_rpcs[0].receive(number)]
        else:
            answers = await asyncio.gather(*(rpc.receive(number) for rpc in self.model_rpcs))
            check_same(answers)
        assert isinstance(answers[0], Stepped)
        return answers[0]

    async def _exchange(self, message: ToWorker) -> FromWorker:
        """Send to all ranks; the answer of rank 0, when all have answered.

        Raises:
            WorkFailed: they are not the same engine any more, and emptying them does not help.
        """
        await self._send(message)
        answers = await asyncio.gather(*(rpc.receive(message.number) for rpc in self.model_rpcs))
        first, *others = answers
        if isinstance(first, WasReset) and any(other != first for other in others):
            raise WorkFailed(
                f"the ranks of replica {self.number} hold different adapters or weights", where="serve.tp"
            )
        return first

    async def _send(self, message: ToWorker) -> None:
        frame = encode(message)
        for rpc in self.model_rpcs:
            await rpc.send(frame)

    def _next_number(self) -> int:
        self._number += 1
        return self._number


def check_same(answers: Iterable[FromWorker]) -> None:
    """Raise RanksDisagree unless all ranks sampled and refused the same."""
    said = [
        (
            [(token.id, token.sample, token.token_id, token.finish) for token in answer.tokens],
            [problem.id for problem in answer.problems],
            answer.done,
        )
        for answer in answers
        if isinstance(answer, Stepped)
    ]
    if any(each != said[0] for each in said):
        raise RanksDisagree
