"""A real HTTP server that speaks what the built-in page asks for, and answers as a test tells it to."""

import asyncio
import json
import threading
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from typing import Any, Self

import uvicorn
from fastapi import FastAPI, Request, Response
from fastapi.responses import JSONResponse, StreamingResponse

from asynckit.serve.api import page
from asynckit.serve.messages import Adapter, State

IDLE = State(
    running=0,
    waiting=0,
    kv_usage=0.0,
    generated_tokens=0,
    prompt_tokens=0,
    finished=0,
    replicas=1,
    replicas_ready=1,
    version=0,
    adapters=(Adapter("pirate", "/adapters/pirate"),),
)


@dataclass
class Answer:
    """What the next completion is.

    Attributes:
        pieces: streamed one by one.
        hang: after the pieces wait until the client has gone.
        error: status and message, instead of an answer.
        then: an error object in the stream, after the pieces.
        finish: reason at the end.
        drop: end the stream after the pieces without saying so.
    """

    pieces: tuple[str, ...] = ("Ahoy",)
    hang: bool = False
    error: tuple[int, str] | None = None
    then: str = ""
    finish: str = "stop"
    drop: bool = False


class PageServer:
    """The server; a context manager.

    Attributes:
        answer: of the next completions.
        state: what ``/stats`` tells; called each time.
        bodies: of the completions that were asked for, with the path as ``path``.
        api_key: what requests must carry, if anything.
        chats: whether the model has a chat template.
        left: set when a client went away from an answer that hangs.
        urls: everything that was asked for.
    """

    def __init__(self) -> None:
        self.answer = Answer()
        self.state: Callable[[], State] = lambda: IDLE
        self.bodies: list[dict[str, Any]] = []
        self.api_key = ""
        self.chats = True
        self.left = threading.Event()
        self.urls: list[str] = []
        config = uvicorn.Config(
            self._app(), port=0, log_level="error", timeout_graceful_shutdown=1, ws="none", lifespan="off"
        )
        self._server = uvicorn.Server(config)
        self._thread = threading.Thread(target=self._server.run, name="page-server")

    def __enter__(self) -> Self:
        self._thread.start()
        while not self._server.started:
            self._thread.join(0.01)
            assert self._thread.is_alive()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.should_exit = True
        self._thread.join()

    @property
    def url(self) -> str:
        """The server's address."""
        return f"http://127.0.0.1:{self._server.servers[0].sockets[0].getsockname()[1]}"

    def _app(self) -> FastAPI:
        app = FastAPI()
        for path, (name, kind) in page.FILES.items():
            app.get(path)(self._file(name, kind))
        app.get("/v1/models")(self._models)
        app.get("/stats")(self._stats)
        app.post("/v1/chat/completions")(self._complete)
        app.post("/v1/completions")(self._complete)
        return app

    def _file(self, name: str, kind: str) -> Callable[[Request], Any]:
        async def file(request: Request) -> Response:
            self.urls.append(str(request.url))
            return Response(page.read(name), media_type=kind, headers=page.HEADERS)

        return file

    async def _models(self, request: Request) -> Response:
        cards = [{"id": "tiny", "parent": None}, {"id": "pirate", "parent": "tiny"}]
        return self._refusal(request) or JSONResponse({"object": "list", "data": cards})

    async def _stats(self, request: Request) -> Response:
        return self._refusal(request) or JSONResponse(_named(self.state()))

    async def _complete(self, request: Request) -> Response:
        body = await request.json() | {"path": request.url.path}
        self.bodies.append(body)
        answer = self.answer
        if answer.error:
            return _error(*answer.error)
        if "messages" in body and not self.chats:
            return _error(400, "this model has no chat template", "no_chat_template")
        return self._refusal(request) or StreamingResponse(
            self._stream(answer, chat="messages" in body), media_type="text/event-stream"
        )

    def _refusal(self, request: Request) -> Response | None:
        self.urls.append(str(request.url))
        if self.api_key and request.headers.get("authorization") != f"Bearer {self.api_key}":
            return _error(401, "no such API key")
        return None

    async def _stream(self, answer: Answer, *, chat: bool) -> AsyncIterator[str]:
        for piece in answer.pieces:
            yield _event({"choices": [{"delta": {"content": piece}} if chat else {"text": piece}]})
        if answer.hang:
            try:
                await asyncio.sleep(60)
            finally:
                self.left.set()
        if answer.then:
            yield _event({"error": {"message": answer.then, "code": 500}})
        if not answer.drop:
            yield _event({"choices": [{"delta": {}, "finish_reason": answer.finish}]})
            yield _event({"choices": [], "usage": {"completion_tokens": len(answer.pieces)}})
            yield "data: [DONE]\n\n"


def _named(state: State) -> dict[str, Any]:
    """Its fields by name, as ``/stats`` answers."""
    adapters = [{"name": each.name, "folder": each.folder} for each in state.adapters]
    return {name: getattr(state, name) for name in state.__struct_fields__} | {"adapters": adapters}


def _error(status: int, message: str, code: str | None = None) -> Response:
    body = {"error": {"message": message, "type": "error", "param": None, "code": code}}
    return JSONResponse(body, status, {"Retry-After": "3"} if status == 429 else None)


def _event(data: Any) -> str:
    return f"data: {json.dumps(data)}\n\n"
