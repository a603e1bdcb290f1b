"""What the routes work with, and how they wait: only as long as the client does."""

import asyncio
import time
from collections.abc import Coroutine
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from starlette.requests import Request as HttpRequest

from asynckit.serve.api.errors import ApiError, ClientGone, Receive, unavailable
from asynckit.serve.api.grammars import GrammarChecks
from asynckit.serve.config import ServeConfig
from asynckit.serve.control_messages import Facts
from asynckit.serve.messages import Answered, Call
from asynckit.serve.preparation.jobs import Loaded
from asynckit.serve.preparation.pool import Preparers
from asynckit.serve.streams import Streams

Result = TypeVar("Result")


@dataclass
class Service:
    """The parts of one HTTP server.

    Attributes:
        settings: of the server.
        home: unique name of this process, to which answers go.
        model: what clients call the model.
        streams: open requests, and the way to the router.
        preparers: chat template and tokenizer.
        tokenizer: what they said of them.
        grammars: tries grammars.
        adapter_roots, weights_roots: what adapters and weights may be loaded from while it runs.
        facts: of the engine; None until one is loaded.
        created: when the server began to serve the model, in seconds since 1970.
    """

    settings: ServeConfig
    home: str
    model: str
    streams: Streams
    preparers: Preparers
    tokenizer: Loaded
    grammars: GrammarChecks = field(default_factory=GrammarChecks)
    adapter_roots: tuple[Path, ...] = ()
    weights_roots: tuple[Path, ...] = ()
    facts: Facts | None = None
    created: int = field(default_factory=lambda: int(time.time()))

    def loaded_facts(self) -> Facts:
        """What is known of the engine; raises ApiError where nothing can be generated now."""
        problem = self.streams.problem
        if problem:
            raise problem
        if self.facts is None:
            raise unavailable("the model is being loaded", code="starting")
        return self.facts

    def adapter(self, name: str) -> str | None:
        """The adapter that a request's ``model`` names; None for the model itself."""
        return None if name == self.model else name

    async def call(self, call: Call, seconds: float) -> Answered:
        """Have a call carried out; raises ApiError as the router answers it, or when its time is up."""
        with self.streams.send([call], seconds) as stream:
            (piece,) = await stream.take()
        assert isinstance(piece, Answered)
        return piece


async def while_connected(receive: Receive, work: Coroutine[Any, Any, Result]) -> Result:
    """Do ``work`` unless the client goes away, also while nothing is being sent to it.

    Raises:
        ClientGone: it has.
    """
    working = asyncio.ensure_future(work)
    watching = asyncio.ensure_future(_gone(receive))
    try:
        await asyncio.wait((working, watching), return_when=asyncio.FIRST_COMPLETED)
        if not working.done():
            raise ClientGone
        return working.result()
    finally:
        for task in (working, watching):
            task.cancel()
        await asyncio.wait((working, watching))


async def _gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


def owner_of(request: HttpRequest) -> str:
    """Whose request it is."""
    return str(request.scope["state"]["owner"])


def arrival_of(request: HttpRequest) -> float:
    """When it came in, on the clock of all processes."""
    return float(request.scope["state"]["arrived"])


def note(request: HttpRequest, **facts: Any) -> None:
    """Have facts written into the request's line of the access log."""
    request.scope["state"]["facts"].update(facts)


def too_long(message: str, param: str) -> ApiError:
    """A prompt that can never be answered."""
    return ApiError(400, message, code="context_length_exceeded", param=param)
