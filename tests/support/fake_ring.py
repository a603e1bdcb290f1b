"""An HTTP server process with a stand-in for the rest of the ring: real sockets, real tokenizer, no model.

The stand-in samples what it is told to, one token a step, and stands in for supervisor, router and
detokenizer in one event loop.
"""

import asyncio
import concurrent.futures
import contextlib
import socket
import threading
from collections.abc import AsyncIterator, Callable, Coroutine
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import httpx2
import zmq.asyncio

from asynckit.engine.config import EngineConfig
from asynckit.engine.request import Request
from asynckit.engine.simulated_config import SimulatedConfig
from asynckit.models.config import ModelConfig
from asynckit.models.light_tokenizer import LightTokenizer
from asynckit.serve.assignment import Assignment
from asynckit.serve.config import ServeConfig
from asynckit.serve.control_messages import Drain, Facts, Lost, Peers, Ready, Stop, ToProcess
from asynckit.serve.control_messages import FromProcess as FromProcessUnion
from asynckit.serve.http_server import run_http
from asynckit.serve.messages import (
    Abort,
    Adapter,
    Answered,
    Embed,
    Generate,
    GetMetrics,
    GetState,
    LoadAdapter,
    Refused,
    Served,
    State,
    Text,
    Texts,
    TokenText,
    ToRouter,
    UnloadAdapter,
    decoder,
    encode,
)
from asynckit.serve.sockets import Inbox, Outbox, Place, Sockets

Result = TypeVar("Result")
FACTS = Facts(max_model_len=512, vocabulary=320, kv_cache_tokens=4096, max_running=64, embeds=True)


@dataclass
class FakeRing:
    """Everything but the HTTP server.

    Attributes:
        tokenizer: of the model.
        says: the ids that it samples for a request.
        refuse: ends a request or call instead of answering it, by its message.
        hold: requests get their first token and then no more until they are aborted.
        silent: nothing is answered.
        generates: requests that came.
        aborted: ids that were aborted.
        running: ids of the requests that have not ended.
        served: what was reported for the metrics.
        calls: all other messages.
    """

    tokenizer: LightTokenizer
    says: Callable[[Request], list[int]]
    refuse: Callable[[Any], Refused | None] = lambda _: None
    hold: bool = False
    silent: bool = False
    facts: Facts = FACTS
    adapters: tuple[Adapter, ...] = ()
    generates: list[Generate] = field(default_factory=list)
    aborted: list[str] = field(default_factory=list)
    running: set[str] = field(default_factory=set)
    served: list[Served] = field(default_factory=list)
    calls: list[Any] = field(default_factory=list)
    url: str = ""
    changed: asyncio.Condition = field(default_factory=asyncio.Condition)

    async def until(self, true: Callable[[], bool]) -> None:
        """Wait for something to become true of this ring."""
        async with asyncio.timeout(20), self.changed:
            await self.changed.wait_for(true)

    async def route(self, inbox: "Inbox[Any]", out: Outbox, tasks: asyncio.TaskGroup) -> None:
        """Be the router."""
        while True:
            message = await inbox.receive()
            refused = self.refuse(message)
            if isinstance(message, Generate):
                self.generates.append(message)
            elif isinstance(message, Abort):
                self.aborted.append(message.id)
                self.running.discard(message.id)
            elif isinstance(message, Served):
                self.served.append(message)
            else:
                self.calls.append(message)
            if refused:
                await out.send(refused)
            elif not self.silent and isinstance(message, Generate):
                self.running.add(message.request.id)
                tasks.create_task(self._generate(message, out))
            elif not self.silent and not isinstance(message, Abort | Served):
                await out.send(self._answer(message))
            async with self.changed:
                self.changed.notify_all()

    def _answer(self, call: Any) -> Answered:
        if isinstance(call, LoadAdapter):
            self.adapters = (*self.adapters, Adapter(call.name, call.folder))
        if isinstance(call, UnloadAdapter):
            self.adapters = tuple(each for each in self.adapters if each.name != call.name)
        state = State(len(self.running), 0, 0.5, 10, 20, 3, 1, 1, 7, self.adapters, 1.5)
        return Answered(
            *(call.id, call.home),
            state=state if isinstance(call, GetState) else None,
            text="asynckit:num_requests_running 0\n" if isinstance(call, GetMetrics) else None,
            vectors=tuple((0.5, float(len(ids))) for ids in call.prompts_ids)
            if isinstance(call, Embed)
            else None,
        )

    async def _generate(self, message: Generate, out: Outbox) -> None:
        """Be engine and detokenizer: one message a step, with a piece for each sample."""
        request = message.request
        sampled = self.says(request)
        ids = sampled[: request.sampling.max_tokens]
        ended = "length" if len(sampled) > len(ids) or not sampled else "stop"
        for step in range(len(ids)):
            await asyncio.sleep(0)
            if request.id not in self.running:
                return
            last = step == len(ids) - 1
            pieces = [
                self._piece(message, ids, step, sample, ended if last else None)
                for sample in range(request.n)
            ]
            if last:
                self.running.discard(request.id)
            await out.send(Texts(tuple(pieces)))
            if self.hold:
                return

    def _piece(self, message: Generate, ids: list[int], step: int, sample: int, finish: str | None) -> Text:
        request = message.request
        texts = [self.tokenizer.decode(ids[:end], message.skip_special_tokens) for end in (step, step + 1)]
        wants = message.wants_tokens
        scores: tuple[TokenText | None, ...] = ()
        if request.sampling.prompt_logprobs is not None and step == 0:
            scores = (None, *(self._token(id_) for id_ in request.prompt_ids[1:]))
        return Text(
            *(request.id, sample, texts[1][len(texts[0]) :], (ids[step],)),
            tokens=(self._token(ids[step]),) if wants else (),
            prompt_tokens=scores,
            finish=finish,
        )

    def _token(self, id_: int) -> TokenText:
        text, raw = self.tokenizer.token_text(id_), self.tokenizer.token_bytes(id_)
        return TokenText(id_, text, raw, -0.25, ((id_, text, raw, -0.25), (5, "%", b"%", -2.0)))


@dataclass
class Running:
    """A running HTTP server with its ring."""

    ring: FakeRing
    send: Callable[[ToProcess], Any]
    client: httpx2.AsyncClient
    router_address: str
    refuse_now: Callable[[Refused], Coroutine[Any, Any, None]]

    async def post(self, route: str, /, **body: Any) -> httpx2.Response:
        """Post JSON."""
        return await self.client.post(route, json=body)

    async def lose(self, name: str) -> None:
        """Tell the server that a process has died."""
        await self.send(Lost(name, "killed"))

    async def drain(self) -> None:
        """Tell the server to take nothing new."""
        await self.send(Drain())


@contextlib.asynccontextmanager
async def http_server(folder: Path, sockets_folder: Path, **settings: Any) -> AsyncIterator[Running]:
    """An HTTP server for the model in ``folder``, in this process; its ring answers ``hello`` by default."""
    model = ModelConfig(name=str(folder))
    tokenizer = LightTokenizer.load(model)
    hello = tokenizer.encode("the quick brown fox")
    ring = FakeRing(tokenizer, lambda _: hello)
    place = Place(str(sockets_folder))
    listening = socket.create_server(("127.0.0.1", 0))
    scheme = "https" if settings.get("tls_cert") else "http"
    ring.url = f"{scheme}://127.0.0.1:{listening.getsockname()[1]}"
    options: dict[str, Any] = {"name": "tiny", "access_log": False} | settings
    async with Sockets(place) as sockets, contextlib.AsyncExitStack() as at_end:
        control = zmq.asyncio.Context.instance().socket(zmq.ROUTER)
        at_end.callback(control.close, 0)
        control.bind(f"ipc://{sockets_folder}/control")
        assignment = Assignment(
            *("http", "http-0", 0, place, f"ipc://{sockets_folder}/control", 1),
            serve=ServeConfig(**options),
            model=model,
            engine=EngineConfig(),
            simulated=SimulatedConfig(),
            listening=listening.detach(),
        )
        serving = asyncio.create_task(run_http(assignment))
        identity, ready = await _until_ready(control, serving)
        out = sockets.outbox(ready.address)
        inbox = sockets.inbox("router.0", ToRouter)
        addresses = {"router": inbox.address, "detokenizer": "ipc:///nowhere"}

        async def send(message: ToProcess) -> None:
            await control.send_multipart([identity, encode(message)])

        async with asyncio.TaskGroup() as tasks, _client(ring.url) as client:
            routing = tasks.create_task(ring.route(inbox, out, tasks))
            drinking = tasks.create_task(_drink(control))
            await send(Peers(addresses, ring.facts))
            await _until_open(client)
            try:
                yield Running(ring, send, client, inbox.address, out.send)
            finally:
                await send(Stop())
                code = await serving
                routing.cancel()
                drinking.cancel()
    assert code == 0


def _client(url: str) -> httpx2.AsyncClient:
    return httpx2.AsyncClient(base_url=url, timeout=30, verify=False)


async def _until_ready(control: Any, serving: "asyncio.Task[int]") -> tuple[bytes, Ready]:
    while True:
        receiving = asyncio.ensure_future(control.recv_multipart())
        await asyncio.wait([receiving, serving], return_when=asyncio.FIRST_COMPLETED, timeout=60)
        if serving.done():
            serving.result()
        identity, frame = await receiving
        message = decoder(FromProcessUnion).decode(frame)
        if isinstance(message, Ready):
            return identity, message


async def _until_open(client: httpx2.AsyncClient) -> None:
    async with asyncio.timeout(20):
        while (await client.get("/ready")).status_code != 200:  # noqa: ASYNC110 - it is in no other way seen
            await asyncio.sleep(0.01)


async def _drink(control: Any) -> None:
    while True:
        await control.recv_multipart()


class ServerThread:
    """The same in a thread of its own, for tests that are plain functions."""

    def __init__(self, folder: Path, sockets_folder: Path, **settings: Any) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="fake ring", daemon=True)
        self._thread.start()
        self._stop = asyncio.Event()
        self._started: concurrent.futures.Future[Running] = concurrent.futures.Future()
        opened = http_server(folder, sockets_folder, **settings)
        self._serving = asyncio.run_coroutine_threadsafe(self._serve(opened), self._loop)
        both: list[concurrent.futures.Future[Any]] = [self._started, self._serving]
        concurrent.futures.wait(both, timeout=60, return_when=concurrent.futures.FIRST_COMPLETED)
        if self._serving.done():
            self._serving.result()
        self.running = self._started.result()
        self.ring = self.running.ring
        self._fresh = dict(self.ring.__dict__)

    async def _serve(self, opened: contextlib.AbstractAsyncContextManager[Running]) -> None:
        async with opened as running:
            self._started.set_result(running)
            await self._stop.wait()

    @property
    def url(self) -> str:
        """Its address."""
        return self.ring.url

    def call(self, job: Coroutine[Any, Any, Result]) -> Result:
        """Do something in its event loop."""
        return asyncio.run_coroutine_threadsafe(job, self._loop).result(60)

    def until(self, true: Callable[[], bool]) -> None:
        """Wait for something to become true of its ring."""
        self.call(self.ring.until(true))

    def reset(self) -> None:
        """Let the ring be as it was."""
        for name in ("says", "refuse", "hold", "silent", "facts", "adapters"):
            setattr(self.ring, name, self._fresh[name])

    def close(self) -> None:
        """Stop it all."""
        self._loop.call_soon_threadsafe(self._stop.set)
        self._serving.result(60)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()
