"""Runs an engine in a thread of its own, so that an event loop can await its completions.

The thread steps while there is work and waits on a condition when there is none, so idling costs no CPU.
Requests and aborts reach it through an inbox; its events go back to the event loop. Every call of
:meth:`EngineDriver.generate` ends: with completions, with the engine's refusal, or, when the engine itself
breaks, with that error.
"""

import asyncio
import threading
import time
from dataclasses import dataclass, field

from asynckit.engine.engine import Engine
from asynckit.engine.request import Finish, Likeliest, Request, TokenEvent, TokenScore
from asynckit.engine.scheduler import Statistics


@dataclass
class Completion:
    """One finished sample.

    Attributes:
        token_ids, logprobs, versions, top_logprobs: one entry per sampled token; see :class:`TokenEvent`.
        prompt_logprobs: one entry per prompt token where the request wants them.
        finish: why it ended.
        error: one line when ``finish`` is ``error``.
        first_token, end: seconds on ``time.time()``'s clock; ``first_token`` is None when there was no token.
    """

    token_ids: list[int] = field(default_factory=list)
    logprobs: list[float] = field(default_factory=list)
    versions: list[int] = field(default_factory=list)
    top_logprobs: list[Likeliest] = field(default_factory=list)
    prompt_logprobs: tuple[TokenScore | None, ...] = ()
    finish: Finish | None = None
    error: str = ""
    first_token: float | None = None
    end: float = 0.0

    def take(self, event: TokenEvent, now: float) -> None:
        """Add what one event says."""
        if event.token_id is not None:
            self.token_ids.append(event.token_id)
            self.logprobs.append(event.logprob)
            self.versions.append(event.version)
            self.top_logprobs.append(event.top_logprobs)
            self.prompt_logprobs = event.prompt_logprobs or self.prompt_logprobs
            self.first_token = self.first_token or now
        if event.finish:
            self.finish, self.error, self.end = event.finish, event.error, now


@dataclass(frozen=True)
class _Call:
    """A generate() in flight: its samples so far and the future that ends it."""

    completions: list[Completion]
    done: asyncio.Future[None]


class EngineDriver:
    """Owns an engine and the thread that steps it. Create it inside the event loop that awaits it."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._loop = asyncio.get_running_loop()
        self._wake = threading.Condition()
        self._inbox: list[Request | str] = []  # a string is the id of a request to abort
        self._closing = False
        self._calls: dict[str, _Call] = {}
        self._broken: BaseException | None = None
        self.busy_seconds = 0.0
        self.sampled_tokens = 0
        self._thread = threading.Thread(target=self._run, name="engine", daemon=True)
        self._thread.start()

    async def generate(self, request: Request) -> list[Completion]:
        """Run a request to its end; returns one completion per sample.

        Cancelling the caller aborts the request and returns only after the engine has let go of it.

        Raises:
            RequestError: the engine refuses the request.
        """
        if self._broken or self._closing:
            raise RuntimeError("the engine has stopped") from self._broken
        call = _Call([Completion() for _ in range(request.n)], self._loop.create_future())
        self._calls[request.id] = call
        self._post(request)
        try:
            await asyncio.shield(call.done)
        except asyncio.CancelledError:
            self._post(request.id)
            await asyncio.wait([call.done])
            raise
        finally:
            del self._calls[request.id]
        return call.completions

    def statistics(self) -> Statistics:
        """The engine's own statistics."""
        return self._engine.statistics()

    async def close(self) -> None:
        """Abort what runs, stop the thread and free the engine."""
        for request_id in list(self._calls):
            self._post(request_id)
        with self._wake:
            self._closing = True
            self._wake.notify()
        await asyncio.to_thread(self._thread.join)
        self._engine.close()

    def _post(self, item: Request | str) -> None:
        with self._wake:
            self._inbox.append(item)
            self._wake.notify()

    def _run(self) -> None:
        try:
            while self._take_inbox():
                begin = time.perf_counter()
                events = self._engine.step()
                self.busy_seconds += time.perf_counter() - begin
                self._loop.call_soon_threadsafe(self._deliver, events)
        except BaseException as error:  # noqa: BLE001 - handed to every waiting caller, nothing is swallowed
            self._loop.call_soon_threadsafe(self._break, error)

    def _take_inbox(self) -> bool:
        """Wait for work and hand new requests to the engine; False when closing and nothing is left."""
        with self._wake:
            self._wake.wait_for(lambda: self._inbox or self._closing or self._engine.has_work())
            items, self._inbox = self._inbox, []
        for item in items:
            if isinstance(item, str):
                self._engine.abort(item)
                continue
            try:
                self._engine.add(item)
            except Exception as error:  # noqa: BLE001 - raised again in the caller that sent the request
                self._loop.call_soon_threadsafe(self._refuse, item.id, error)
        return self._engine.has_work() or not self._closing

    def _deliver(self, events: list[TokenEvent]) -> None:
        now = time.time()
        for event in events:
            self.sampled_tokens += event.token_id is not None
            call = self._calls.get(event.request_id)
            if call is None:
                continue
            call.completions[event.sample_index].take(event, now)
            if event.finish and all(c.finish for c in call.completions) and not call.done.done():
                call.done.set_result(None)

    def _refuse(self, request_id: str, error: Exception) -> None:
        call = self._calls.get(request_id)
        if call and not call.done.done():
            call.done.set_exception(error)

    def _break(self, error: BaseException) -> None:
        self._broken = error
        for call in self._calls.values():
            if not call.done.done():
                call.done.set_exception(error)
