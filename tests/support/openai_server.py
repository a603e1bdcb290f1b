"""A real OpenAI-compatible server over asynckit's own engine, which can be told to misbehave.

It runs in a thread with an event loop of its own, speaks as much HTTP/1.1 as is needed, and answers
``GET /v1/models`` and ``POST /v1/completions`` as vLLM does.
"""

import asyncio
import json
import threading
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Self

from asynckit.engine.completion import Completion
from asynckit.engine.config import EngineConfig, SamplingParams
from asynckit.engine.driver import EngineDriver
from asynckit.engine.engine import Engine
from asynckit.engine.request import Request
from asynckit.errors import RequestError
from asynckit.models.config import ModelConfig
from asynckit.models.resolve import resolve_model
from asynckit.models.tokenizer import load_tokenizer

CONFIG = EngineConfig(dtype="float32", device="cpu", kv_cache_tokens=16384, deterministic=True)


@dataclass(frozen=True)
class Fault:
    """What is wrong with one answer.

    Attributes:
        status: answered instead of the completion, unless 200.
        headers: sent with it.
        drop: close the connection instead; 1 at once, 2 in the middle of the answer.
        hang: answer only when the client has gone.
        change: applied to the one choice, or to the whole answer where it returns something.
        text: sent instead of JSON.
    """

    status: int = 200
    headers: str = ""
    drop: int = 0
    hang: bool = False
    change: Callable[[dict[str, Any]], Any] | None = None
    text: str = ""


FINE = Fault()


class OpenAIServer:
    """The server; a context manager that can be stopped and started again at the same port.

    Args:
        folder: of the model.
        api_key: what requests must carry.
        raw: report logprobs at temperature 1 whatever the sampling temperature, as vLLM does by default.

    Attributes:
        faults: of the next completions, one each; ``lasting`` of all others.
        bodies: of the completions that were asked for.
        hung_up: how many clients left before their answer.
        somebody_left: set as soon as one does.
        most_open: the largest number of completions that were under way at a time.
        breaks: whether a completion ends with HTTP 500, by its body.
    """

    def __init__(self, folder: Path, *, api_key: str = "", raw: bool = False) -> None:
        model = ModelConfig(name=str(folder))
        local = resolve_model(model)
        self._engine = Engine.load(CONFIG, model, local)
        self._tokenizer = load_tokenizer(local, model)
        self._api_key, self._raw = api_key, raw
        self.faults: deque[Fault] = deque()
        self.lasting = FINE
        self.bodies: list[dict[str, Any]] = []
        self.paths: list[str] = []
        self.hung_up = 0
        self.somebody_left = threading.Event()
        self.most_open = self._open = 0
        self.names = ["tiny"]
        self.breaks: Callable[[dict[str, Any]], bool] = lambda _: False
        self._port = 0
        self._requests = 0
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="openai-server", daemon=True)
        self._thread.start()
        self._driver: EngineDriver = self._call(self._new_driver())
        self._server: asyncio.Server | None = None
        self._connections: set[asyncio.Task[Any]] = set()

    @property
    def url(self) -> str:
        """The server's address."""
        return f"http://127.0.0.1:{self._port}"

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()
        self._call(self._driver.close())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def start(self) -> None:
        """Listen, at the same port as before."""
        self._server = self._call(self._listen())

    def stop(self) -> None:
        """Stop listening and drop every connection, as a killed process does."""
        self._call(self._drop_everybody())

    def _call(self, job: Any) -> Any:
        return asyncio.run_coroutine_threadsafe(job, self._loop).result(60)

    async def _new_driver(self) -> EngineDriver:
        return EngineDriver(self._engine)

    async def _listen(self) -> asyncio.Server:
        server = await asyncio.start_server(self._serve, "127.0.0.1", self._port)
        self._port = server.sockets[0].getsockname()[1]
        return server

    async def _drop_everybody(self) -> None:
        if self._server:
            self._server.close()
            self._server = None
        for task in list(self._connections):
            task.cancel()
        if self._connections:
            await asyncio.wait(list(self._connections))

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task
        self._connections.add(task)
        try:
            with suppress(ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
                while await self._exchange(reader, writer):
                    pass
        finally:
            self._connections.discard(task)
            writer.close()

    async def _exchange(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        method, path, _ = head.split(" ", 2)
        headers = dict(line.split(": ", 1) for line in head.split("\r\n")[1:] if line)
        headers = {name.lower(): value for name, value in headers.items()}
        body = await reader.readexactly(int(headers.get("content-length", "0")))
        self.paths.append(path)
        if self._api_key and headers.get("authorization") != f"Bearer {self._api_key}":
            return await self._send(writer, 401, {"error": {"message": "no such key"}})
        if (method, path) == ("GET", "/v1/models"):
            cards = [{"id": name, "object": "model", "max_model_len": 512} for name in self.names]
            return await self._send(writer, 200, {"object": "list", "data": cards})
        if (method, path) != ("POST", "/v1/completions"):
            return await self._send(writer, 404, {"detail": "Not Found"})
        return await self._complete(json.loads(body), reader, writer)

    async def _complete(
        self, body: dict[str, Any], reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> bool:
        fault = self.faults.popleft() if self.faults else self.lasting
        self.bodies.append(body)
        if self.breaks(body):
            fault = Fault(500)
        if fault.status != 200:
            return await self._send(writer, fault.status, {"error": {"message": "told to"}}, fault.headers)
        if fault.drop == 1:
            return False
        self._open += 1
        self.most_open = max(self.most_open, self._open)
        work = asyncio.ensure_future(asyncio.Event().wait() if fault.hang else self._generate(body))
        gone = asyncio.ensure_future(reader.read(1))
        try:
            await asyncio.wait([work, gone], return_when=asyncio.FIRST_COMPLETED)
            if not work.done():
                self.hung_up += 1
                self.somebody_left.set()
                return False
        finally:
            self._open -= 1
            for each in (work, gone):
                each.cancel()
            await asyncio.wait([work, gone])
        try:
            answer: Any = work.result()
        except RequestError as error:
            return await self._send(writer, 400, {"error": {"message": error.message}})
        if fault.change:
            answer = fault.change(answer["choices"][0]) or answer
        await self._send(writer, 200, answer, half=fault.drop == 2, text=fault.text)
        return fault.drop == 0

    async def _generate(self, body: dict[str, Any]) -> dict[str, Any]:
        known = {field.name for field in fields(SamplingParams)}
        sampling = {name: value for name, value in body.items() if name in known}
        for name in ("stop", "stop_token_ids", "allowed_token_ids"):
            if sampling.get(name) is not None:
                sampling[name] = tuple(sampling[name])
        sampling["top_k"] = max(0, sampling["top_k"])
        prompt = tuple(body["prompt"])
        (done,) = await self._run(prompt, SamplingParams(**sampling))
        choice = {
            "index": 0,
            "text": self._tokenizer.decode(done.token_ids, skip_special_tokens=True),
            "finish_reason": done.finish,
            "logprobs": {"token_logprobs": await self._logprobs(prompt, done)},
            "token_ids": done.token_ids,
            "prompt_token_ids": list(prompt),
        }
        return {"object": "text_completion", "choices": [choice]}

    async def _logprobs(self, prompt: tuple[int, ...], done: Completion) -> list[float]:
        if not self._raw:
            return done.logprobs
        at_one = SamplingParams(temperature=1.0, max_tokens=1, prompt_logprobs=0)
        (scored,) = await self._run((*prompt, *done.token_ids), at_one)
        return [score.logprob for score in scored.prompt_logprobs[len(prompt) :] if score]

    async def _run(self, prompt: tuple[int, ...], sampling: SamplingParams) -> list[Completion]:
        self._requests += 1
        return await self._driver.generate(Request(f"{self._requests}", prompt, sampling))

    async def _send(
        self,
        writer: asyncio.StreamWriter,
        status: int,
        content: Any,
        headers: str = "",
        *,
        half: bool = False,
        text: str = "",
    ) -> bool:
        payload = (text or json.dumps(content)).encode()
        head = f"HTTP/1.1 {status} X\r\nContent-Type: application/json\r\nContent-Length: {len(payload)}\r\n"
        writer.write((head + headers + "\r\n").encode() + (payload[: len(payload) // 2] if half else payload))
        await writer.drain()
        return not half
