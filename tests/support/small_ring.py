"""A server's router and model workers, with this process as supervisor, HTTP server and detokenizer.

Workers are processes of their own; the router is one too, or a task here. All talk over real sockets.
"""

import asyncio
import os
import subprocess
import sys
from collections import defaultdict
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec

from asynckit.engine.config import EngineConfig, SamplingParams
from asynckit.engine.request import Request
from asynckit.engine.simulated_config import SimulatedConfig
from asynckit.models.config import ModelConfig
from asynckit.serve.assignment import Assignment
from asynckit.serve.config import ServeConfig
from asynckit.serve.control_messages import Facts, Failed, FromProcess, Lost, Peers, Ready, Stop
from asynckit.serve.member import now
from asynckit.serve.messages import (
    Answered,
    Begin,
    Generate,
    GetState,
    Refused,
    State,
    Timing,
    ToDetokenizer,
    Token,
    Tokens,
    decoder,
    encode,
)
from asynckit.serve.router import run_router
from asynckit.serve.sockets import Inbox, Outbox, Place, Sockets

WAIT_SECONDS = 60.0
_START = """
import sys, msgspec
from asynckit.serve.assignment import Assignment
assignment = msgspec.json.decode(sys.stdin.buffer.read(), type=Assignment)
if assignment.kind == "worker":
    from asynckit.serve.model_worker import run_worker
    sys.exit(run_worker(assignment))
import asyncio
from asynckit.serve.router import run_router
sys.exit(asyncio.run(run_router(assignment)))
"""


@dataclass
class Answer:
    """What came of one request: its tokens by sample, their ends, or the refusal."""

    tokens: dict[int, list[Token]] = field(default_factory=lambda: defaultdict(list))
    finishes: dict[int, str] = field(default_factory=dict)
    timing: Timing | None = None
    refused: Refused | None = None
    begun: int = 0

    def ids(self, sample: int = 0) -> list[int]:
        """Token ids of a sample."""
        return [token.token_id for token in self.tokens[sample] if token.token_id is not None]


@dataclass
class SmallRing:
    """See the module. ``address`` has where each process takes messages, ``stuck`` its last beat."""

    place: Place
    sockets: Sockets
    control: str
    serve: ServeConfig
    model: ModelConfig
    engine: EngineConfig
    simulated: SimulatedConfig
    addresses: dict[str, str] = field(default_factory=dict)
    facts: Facts | None = None
    failed: list[Failed] = field(default_factory=list)
    answers: dict[str, Answer] = field(default_factory=lambda: defaultdict(Answer))
    calls: dict[str, asyncio.Future[Answered | Refused]] = field(default_factory=dict)
    processes: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)
    errors: dict[str, Path] = field(default_factory=dict)
    router_task: asyncio.Task[int] | None = None
    _generation: dict[str, int] = field(default_factory=lambda: defaultdict(lambda: -1))
    control_socket: Any = None
    _news: asyncio.Condition = field(default_factory=asyncio.Condition)
    _number: int = 0
    _outbox: Outbox | None = None

    def assignment(self, name: str) -> Assignment:
        """What the next process of this name is told."""
        self._generation[name] += 1
        kind, _, place = name.partition("-")
        replica, _, rank = place.partition("-")
        return Assignment(
            kind,
            *(name, self._generation[name], self.place, self.control, os.getpid()),
            *(self.serve, self.model, self.engine, self.simulated),
            replica=int(replica or 0),
            rank=int(rank or 0),
        )

    def start(self, name: str) -> None:
        """Start a process."""
        assignment = self.assignment(name)
        self.errors[name] = Path(self.place.folder) / f"{assignment.unique_name}.stderr"
        with self.errors[name].open("wb") as errors:
            process = subprocess.Popen([sys.executable, "-c", _START], stdin=subprocess.PIPE, stderr=errors)
        assert process.stdin
        process.stdin.write(msgspec.json.encode(assignment))
        process.stdin.close()
        self.processes[name] = process

    def start_router_here(self) -> None:
        """Run the router as a task of this process."""
        self.router_task = asyncio.create_task(run_router(self.assignment("router")))

    async def ready(self, *names: str) -> None:
        """Wait until these are ready."""
        await self.until(lambda: all(name in self.addresses for name in names))

    async def until(self, holds: Callable[[], bool]) -> None:
        """Wait for something that news bring about."""
        async with asyncio.timeout(WAIT_SECONDS), self._news:
            await self._news.wait_for(holds)

    async def tell(self, message: Any) -> None:
        """Say something to everybody."""
        for name, generation in self._generation.items():
            identity = f"{name}.{generation}".encode()
            await self.control_socket.send_multipart([identity, encode(message)])

    def peers(self) -> Peers:
        """Who is there."""
        return Peers(self.addresses, self.facts, dict(self._generation))

    async def kill(self, name: str) -> None:
        """End a process as the kernel's memory killer does, and tell the others."""
        self.processes[name].kill()
        self.processes[name].wait()
        del self.addresses[name]
        await self.tell(Lost(name, "killed", self._generation[name]))

    async def send(self, message: Any) -> None:
        """Send something to the router, as an HTTP server does."""
        address = self.addresses["router"]
        if self._outbox is None or self._outbox.address != address:
            if self._outbox:
                self._outbox.close()
            self._outbox = self.sockets.outbox(address)
        await self._outbox.send(message)

    def generate(self, ids: tuple[int, ...] = (5, 6, 7), *, n: int = 1, **more: Any) -> Generate:
        """A request; settings that are not of ``Generate`` are of its sampling."""
        self._number += 1
        adapter, owner, home = (
            more.pop("adapter", None),
            more.pop("owner", "alice"),
            more.pop("home", "http-0.0"),
        )
        timeout = more.pop("timeout", 600.0)
        sampling = SamplingParams(**more)
        request = Request(f"r{self._number}", ids, sampling, n=n, adapter=adapter)
        return Generate(request, home, owner, now(), timeout)

    async def complete(self, generate: Generate) -> Answer:
        """Send a request and wait for its end."""
        await self.send(generate)
        return await self.ended(generate.request.id, generate.request.n)

    async def ended(self, id_: str, n: int = 1) -> Answer:
        """Wait for a request's end."""
        answer = self.answers[id_]
        await self.until(lambda: answer.refused is not None or len(answer.finishes) == n)
        return answer

    async def call(self, kind: Any, *rest: Any, **more: Any) -> Answered | Refused:
        """Make a call and wait for what comes of it."""
        self._number += 1
        id_ = f"c{self._number}"
        self.calls[id_] = asyncio.get_running_loop().create_future()
        await self.send(kind(id_, "http-0.0", *rest, **more))
        async with asyncio.timeout(WAIT_SECONDS):
            return await self.calls[id_]

    async def running(self, *ids: str) -> None:
        """Wait until each has a token."""
        await self.until(lambda: all(self.answers[id_].tokens for id_ in ids))

    async def idle(self) -> None:
        """Wait until the engine has said that it holds nothing any more."""
        async with asyncio.timeout(20):
            while True:
                state = await self.state()
                if (state.running, state.waiting, state.kv_usage) == (0, 0, 0.0):
                    return

    async def replicas_ready(self, number: int) -> None:
        """Wait until so many replicas take requests."""
        async with asyncio.timeout(WAIT_SECONDS):
            while (await self.state()).replicas_ready != number:
                pass  # each asks anew, over the real ring

    async def state(self) -> State:
        """The router's report."""
        answered = await self.call(GetState)
        assert isinstance(answered, Answered)
        assert answered.state
        return answered.state

    async def listen(self) -> None:
        """Be the supervisor."""
        decode = decoder(FromProcess).decode
        while True:
            _, frame = await self.control_socket.recv_multipart()
            message = decode(frame)
            if isinstance(message, Failed):
                self.failed.append(message)
            elif isinstance(message, Ready) and message.generation == self._generation[message.name]:
                self.addresses[message.name] = message.address
                self.facts = message.facts or self.facts
                await self.tell(self.peers())
            async with self._news:
                self._news.notify_all()

    async def detokenize(self, inbox: Inbox[Any]) -> None:
        """Be the detokenizer, without text."""
        while True:
            message = await inbox.receive()
            match message:
                case Begin(id_):
                    self.answers[id_].begun += 1
                case Tokens(tokens, timings):
                    for token in tokens:
                        answer = self.answers[token.id]
                        assert token.sample not in answer.finishes
                        answer.tokens[token.sample].append(token)
                        if token.finish:
                            answer.finishes[token.sample] = token.finish
                    for id_, timing in timings.items():
                        self.answers[id_].timing = timing
                case Refused() | Answered():
                    if message.id in self.calls:
                        self.calls[message.id].set_result(message)
                    else:
                        assert isinstance(message, Refused)
                        assert self.answers[message.id].refused is None
                        self.answers[message.id].refused = message
            async with self._news:
                self._news.notify_all()


@asynccontextmanager
async def small_ring(
    folder: Path,
    *,
    serve: ServeConfig | None = None,
    model: ModelConfig | None = None,
    engine: EngineConfig | None = None,
    simulated: SimulatedConfig | None = None,
    router_process: bool = False,
) -> AsyncIterator[SmallRing]:
    """A ring whose router and workers are ready."""
    serve = serve or ServeConfig(engine="simulated")
    place = Place(str(folder))
    async with Sockets(place) as sockets:
        control, address = sockets.router("supervisor")
        ring = SmallRing(
            *(place, sockets, address, serve, model or ModelConfig()),
            *(engine or EngineConfig(), simulated or SimulatedConfig(step_seconds="constant(0.002)")),
        )
        ring.control_socket = control
        inbox: Inbox[Any] = sockets.inbox("detokenizer.0", ToDetokenizer)
        ring.addresses["detokenizer"] = inbox.address
        tasks = [asyncio.create_task(ring.listen()), asyncio.create_task(ring.detokenize(inbox))]
        workers = [f"worker-{r}-{k}" for r in range(serve.replicas) for k in range(serve.tp)]
        try:
            for worker in workers:
                ring.start(worker)
            if router_process:
                ring.start("router")
            else:
                ring.start_router_here()
            await ring.ready("router", *workers)
            await ring.replicas_ready(serve.replicas)
            yield ring
            await ring.tell(Stop())
            if ring.router_task:
                assert await ring.router_task == 0
            for process in ring.processes.values():
                if process.poll() is None:
                    assert await asyncio.to_thread(process.wait, 10) == 0
        finally:
            await _end(ring, tasks)


async def _end(ring: SmallRing, tasks: list[asyncio.Task[None]]) -> None:
    for process in ring.processes.values():
        if process.poll() is None:
            process.kill()
        process.wait()
    every: list[asyncio.Task[Any]] = [*tasks, *([ring.router_task] if ring.router_task else [])]
    for task in every:
        if not task.done():
            task.cancel()
    await asyncio.wait(every)
    for task in tasks:
        if not task.cancelled():
            task.result()
