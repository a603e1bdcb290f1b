"""Runs an engine in a thread of its own, so that an event loop can await it.

The thread steps while there is work and waits on a condition when there is none, so idling costs no CPU.
Whatever is wanted of the engine reaches it through an inbox, which it empties between steps; its events go
back to the event loop. Every call ends: with what it asked for, with the engine's refusal, or, when the
engine itself breaks, with that error.
"""

import asyncio
import threading
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from asynckit.engine.clock import Clock, RealClock
from asynckit.engine.completion import Completion
from asynckit.engine.protocol import InferenceEngine
from asynckit.engine.request import OnUpdate, Request, TokenEvent
from asynckit.engine.scheduler import Statistics
from asynckit.engine.validate import check_types
from asynckit.errors import RequestError

Answer = TypeVar("Answer")


@dataclass
class _Call:
    """A request in flight: who takes its events, how many samples are left, and the future of its end."""

    take: Callable[[TokenEvent, float], None]
    left: int
    done: asyncio.Future[None]


class EngineDriver:
    """Owns an engine and the thread that steps it. Create it inside the event loop that awaits it.

    Args:
        engine: nobody else may touch it from now on.
        clock: tells the times of completions: a simulated engine's own, or else the machine's. It is closed
            with the driver.
    """

    def __init__(self, engine: InferenceEngine, clock: Clock | None = None) -> None:
        self._engine = engine
        self.clock = clock or RealClock()
        self._loop = asyncio.get_running_loop()
        self._wake = threading.Condition()
        self._inbox: list[Callable[[], None]] = []
        self._closing = False
        self._calls: dict[str, _Call] = {}
        self._awaited: set[asyncio.Future[Any]] = set()  # whatever the thread still has to end
        self._broken: BaseException | None = None
        self.busy_seconds = 0.0
        self.sampled_tokens = 0
        self._thread = threading.Thread(target=self._run, name="engine", daemon=True)
        self._thread.start()

    @classmethod
    async def load(cls, make: Callable[[], InferenceEngine]) -> "EngineDriver":
        """Make an engine and drive it.

        It is made in a thread that ends. OpenMP keeps a team of threads for every living thread that has
        computed, and where the teams outnumber the cores their members no longer spin at barriers: with a
        second team around, a forward pass took 1.2 times as long.

        Raises:
            AsynckitError: what ``make`` raises.
        """
        with ThreadPoolExecutor(1) as passing:
            return cls(await asyncio.get_running_loop().run_in_executor(passing, make))

    async def generate(self, request: Request) -> list[Completion]:
        """Run a request to its end; returns one completion per sample.

        Cancelling the caller aborts the request and returns only after the engine has let go of it.

        Raises:
            RequestError: the engine refuses the request.
        """
        completions: dict[int, Completion] = {}

        def take(event: TokenEvent, now: float) -> None:
            completions.setdefault(event.sample_index, Completion()).take(event, now)

        async with self._in_flight(request, take) as done:
            await asyncio.shield(done)
        return [completions[index] for index in range(request.n)]

    async def stream(self, request: Request) -> AsyncGenerator[TokenEvent, None]:
        """Run a request and yield its events as they come; a slow consumer holds up nobody else.

        Closing the generator (``contextlib.aclosing``) or cancelling whoever iterates aborts the request and
        returns only after the engine has let go of it. What waits to be consumed is at most one event per
        token that the request allows.

        Raises:
            RequestError: the engine refuses the request.
        """
        arrived: asyncio.Queue[TokenEvent | None] = asyncio.Queue()
        async with self._in_flight(request, lambda event, _: arrived.put_nowait(event)) as done:
            done.add_done_callback(lambda _: arrived.put_nowait(None))
            while event := await arrived.get():
                yield event
            done.result()

    async def call(self, act: Callable[[InferenceEngine], Answer]) -> Answer:
        """Run ``act`` on the engine's thread between two steps; returns or raises what it does.

        Cancelling the caller does not take the call back: it returns when the engine has carried it out.
        """
        async with self._until_done() as done:
            self._post(partial(self._carry_out, act, done))
            answer: Answer = await asyncio.shield(done)
        return answer

    async def update_weights(
        self,
        version: int,
        new: Path | str | Mapping[str, Any] | None,
        on_update: OnUpdate | str = OnUpdate.KEEP_KV,
    ) -> None:
        """Replace the weights between two steps; see :meth:`asynckit.engine.engine.Engine.update_weights`.

        Raises:
            InputError: they don't fit, or the version doesn't grow. Nothing has changed then.
            WorkFailed: it broke off after the checks. Every request ends with an error then, and new ones are
                refused until another update succeeds.
        """
        await self.call(lambda engine: engine.update_weights(version, new, on_update))

    async def add_adapter(self, name: str, folder: Path) -> None:
        """Let requests use the LoRA adapter in ``folder`` under ``name``.

        Raises:
            InputError: the name is taken, or the adapter is broken, unsuitable or too large.
        """
        await self.call(lambda engine: engine.adapters.register(name, folder))

    async def remove_adapter(self, name: str) -> None:
        """Refuse new requests for an adapter; those that have not ended keep it.

        Raises:
            InputError: no adapter of this name is registered.
        """
        await self.call(lambda engine: engine.adapters.unregister(name))

    async def pin_adapter(self, name: str) -> None:
        """Load an adapter and keep it loaded.

        Raises:
            InputError: there is no such adapter, or no room for it.
        """
        await self.call(lambda engine: engine.adapters.pin(name))

    async def unpin_adapter(self, name: str) -> None:
        """Let a pinned adapter be evicted again.

        Raises:
            InputError: no adapter of this name is registered.
        """
        await self.call(lambda engine: engine.adapters.unpin(name))

    @property
    def prefilled_tokens(self) -> int:
        """Tokens of prompts that have passed through the engine so far."""
        return self._engine.statistics().prefilled_tokens

    def statistics(self) -> Statistics:
        """The engine's own statistics."""
        return self._engine.statistics()

    async def close(self) -> None:
        """Abort what runs, stop the thread and free the engine."""
        for request_id in self._calls:
            self._post(partial(self._engine.abort, request_id))
        with self._wake:
            self._closing = True
            self._wake.notify()
        self.clock.close()  # a simulated step that sleeps goes on at once
        await asyncio.to_thread(self._thread.join)
        self._engine.close()

    @asynccontextmanager
    async def _until_done(self) -> AsyncIterator[asyncio.Future[Any]]:
        """A future for the engine's thread to end; leaving waits for that, unless cancelled once more."""
        if self._broken or self._closing:
            raise RuntimeError("the engine has stopped") from self._broken
        done = self._loop.create_future()
        self._awaited.add(done)
        done.add_done_callback(self._awaited.discard)
        try:
            yield done
        finally:
            if not done.done():
                await asyncio.wait([done])
                done.exception()  # whoever would hear of it has left, which is no reason to log it

    @asynccontextmanager
    async def _in_flight(
        self, request: Request, take: Callable[[TokenEvent, float], None]
    ) -> AsyncIterator[asyncio.Future[None]]:
        """Run a request while inside; leaving early aborts it and waits until the engine has let go of it."""
        check_types(request)
        if request.id in self._calls:
            raise RequestError("a request with this id is already running", where=f"request {request.id!r}")
        async with self._until_done() as done:
            self._calls[request.id] = _Call(take, request.n, done)
            done.add_done_callback(lambda _: self._calls.pop(request.id))
            self._post(partial(self._add, request, done))
            try:
                yield done
            finally:
                if not done.done():
                    self._post(partial(self._engine.abort, request.id))

    def _post(self, act: Callable[[], None]) -> None:
        with self._wake:
            self._inbox.append(act)
            self._wake.notify()

    # What follows runs on the engine's thread.

    def _run(self) -> None:
        try:
            while self._wait():
                for act in self._empty_inbox():
                    act()
                if self._engine.has_work():
                    self._step()
        except BaseException as error:  # noqa: BLE001 - handed to every waiting caller, nothing is swallowed
            self._loop.call_soon_threadsafe(self._break, error)

    def _wait(self) -> bool:
        """Return when there is something to do; False when closing and there is nothing left."""
        with self._wake:
            self._wake.wait_for(lambda: self._inbox or self._closing or self._engine.has_work())
            return bool(self._inbox) or not self._closing or self._engine.has_work()

    def _empty_inbox(self) -> list[Callable[[], None]]:
        with self._wake:
            acts, self._inbox = self._inbox, []
        return acts

    def _step(self) -> None:
        begin = self.clock.now()
        events = self._engine.step()
        now = self.clock.now()
        self.busy_seconds += now - begin
        self._loop.call_soon_threadsafe(self._deliver, events, now)

    def _add(self, request: Request, done: asyncio.Future[None]) -> None:
        try:
            self._engine.add(request)
        except Exception as error:  # noqa: BLE001 - raised again in the caller that sent the request
            self._loop.call_soon_threadsafe(done.set_exception, error)

    def _carry_out(self, act: Callable[[InferenceEngine], Answer], done: asyncio.Future[Answer]) -> None:
        try:
            answer = act(self._engine)
        except Exception as error:  # noqa: BLE001 - raised again in the caller
            self._loop.call_soon_threadsafe(done.set_exception, error)
        else:
            self._loop.call_soon_threadsafe(done.set_result, answer)

    # What follows runs in the event loop.

    def _deliver(self, events: list[TokenEvent], now: float) -> None:
        for event in events:
            self.sampled_tokens += event.token_id is not None
            call = self._calls.get(event.request_id)
            if call is None:  # added by way of call(), so nobody waits for its events
                continue
            call.take(event, now)
            call.left -= bool(event.finish)
            if not call.left:
                call.done.set_result(None)

    def _break(self, error: BaseException) -> None:
        self._broken = error
        for done in list(self._awaited):
            if not done.done():
                done.set_exception(error)
