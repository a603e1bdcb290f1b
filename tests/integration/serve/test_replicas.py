"""Several engines, and engines of several ranks, behind one router: real processes over real sockets."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import msgspec
import pytest
from small_ring import SmallRing, small_ring

from asynckit.engine.config import EngineConfig
from asynckit.engine.request import TokenEvent
from asynckit.engine.simulated import SimulatedEngine
from asynckit.engine.simulated_config import SimulatedConfig
from asynckit.errors import WorkFailed
from asynckit.serve.config import ServeConfig
from asynckit.serve.engine_steps import EngineSteps
from asynckit.serve.member import now
from asynckit.serve.messages import Answered, Embed, LoadAdapter, ToWorker, UpdateWeights, decoder, encode

SERVE = ServeConfig(engine="simulated")
SLOW = SimulatedConfig(step_seconds="constant(0.01)")


@pytest.fixture
async def ring(tmp_path: Path) -> AsyncIterator[SmallRing]:
    async with small_ring(tmp_path, simulated=SLOW) as made:
        yield made


async def test_replicas_share_the_load(tmp_path: Path) -> None:
    """Requests spread over replicas, those with one beginning go together, and one's end is its own."""
    serve = replace(SERVE, replicas=2)
    async with small_ring(tmp_path, serve=serve, simulated=SLOW) as ring:
        spread = await asyncio.gather(
            *(ring.complete(ring.generate((i,) * 40, max_tokens=20, ignore_eos=True)) for i in range(8))
        )
        assert {answer.timing.replica for answer in spread if answer.timing} == {0, 1}
        prompt = tuple(range(100, 1100))
        first = await ring.complete(ring.generate(prompt, max_tokens=2, ignore_eos=True))
        again = await ring.complete(ring.generate((*prompt, 7), max_tokens=2, ignore_eos=True))
        assert first.timing
        assert again.timing
        assert first.timing.replica == again.timing.replica
        assert isinstance(await ring.call(LoadAdapter, "german", "/nowhere"), Answered)
        many = [ring.generate((i,) * 40, max_tokens=200, ignore_eos=True) for i in range(8)]
        for each in many:
            await ring.send(each)
        await ring.running(*(each.request.id for each in many))
        await ring.kill("worker-1-0")
        ends = [await ring.ended(each.request.id) for each in many]
        assert 0 < sum(answer.refused is not None for answer in ends) < 8
        ring.start("worker-1-0")
        await ring.ready("worker-1-0")
        while (await ring.state()).replicas_ready < 2:
            pass
        adapted = await asyncio.gather(
            *(ring.complete(ring.generate((i,), adapter="german", max_tokens=2)) for i in range(200))
        )
        assert not any(answer.refused for answer in adapted)
        await ring.idle()


async def test_ranks_run_the_same_steps(tmp_path: Path) -> None:
    """All ranks of a replica get every step, and one that dies takes the replica with it."""
    async with small_ring(tmp_path, serve=replace(SERVE, tp=2), simulated=SLOW) as ring:
        answers = await asyncio.gather(*(ring.complete(ring.generate((i,), max_tokens=5)) for i in range(8)))
        assert all(answer.finishes for answer in answers)
        running = ring.generate(max_tokens=5000, ignore_eos=True)
        await ring.send(running)
        await ring.running(running.request.id)
        await ring.kill("worker-0-1")
        assert (await ring.ended(running.request.id)).refused
        await ring.kill("worker-0-0")
        for name in ("worker-0-0", "worker-0-1"):
            ring.start(name)
        await ring.ready("worker-0-0", "worker-0-1")
        while (await ring.state()).replicas_ready == 0:
            pass
        assert (await ring.complete(ring.generate(max_tokens=5))).finishes


async def test_ranks_that_disagree_start_anew(ring: SmallRing) -> None:
    """Ranks that sample different tokens are no model any more: their requests end, and they are emptied."""
    await ring.kill("worker-0-0")
    ring.serve = replace(ring.serve, tp=2)
    async with _second_router(ring):
        ring.start("worker-0-0")
        ring.simulated = replace(ring.simulated, vocabulary=1000)  # other tokens from the same counters
        ring.start("worker-0-1")
        await ring.ready("worker-0-0", "worker-0-1")
        while (await ring.state()).replicas_ready == 0:
            pass
        for _ in range(2):
            answer = await ring.complete(ring.generate(max_tokens=500, ignore_eos=True))
            assert answer.refused
            assert (answer.refused.status, answer.refused.code) == (500, "engine_lost")
            while (await ring.state()).replicas_ready == 0:
                pass
        await ring.idle()


@asynccontextmanager
async def _second_router(ring: SmallRing) -> AsyncIterator[None]:
    """A router with the ring's present settings instead of the one that it has."""
    first = ring.router_task
    del ring.addresses["router"]
    ring.start_router_here()
    await ring.ready("router")
    yield
    assert first
    first.cancel()
    await asyncio.wait([first])


async def _versions(ring: SmallRing) -> set[tuple[int, int]]:
    """Replica and weights of several answers."""
    asked = [ring.generate((i,) * 40, max_tokens=3, ignore_eos=True) for i in range(8)]
    answers = await asyncio.gather(*(ring.complete(each) for each in asked))
    assert not any(answer.refused for answer in answers)
    return {(a.timing.replica, token.version) for a in answers if a.timing for token in a.tokens[0]}


async def test_all_serve_the_newest_weights_after_router_and_engine_died(tmp_path: Path) -> None:
    """Whichever engine the new router hears first, none serves what the server began with."""
    async with small_ring(
        tmp_path, serve=replace(SERVE, replicas=2), simulated=SLOW, router_process=True
    ) as ring:
        assert isinstance(await ring.call(LoadAdapter, "german", "/nowhere"), Answered)
        assert isinstance(await ring.call(UpdateWeights, 5, "/weights"), Answered)
        await ring.kill("worker-0-0")
        await ring.kill("router")
        other = ring.addresses.pop("worker-1-0")  # the new router meets the new engine first
        ring.start("worker-0-0")
        ring.start("router")
        await ring.ready("worker-0-0", "router")
        await ring.replicas_ready(1)
        ring.addresses["worker-1-0"] = other
        await ring.tell(ring.peers())
        while (state := await ring.state()).version != 5 or state.replicas_ready != 2:
            pass
        assert [adapter.name for adapter in state.adapters] == ["german"]
        assert await _versions(ring) == {(0, 5), (1, 5)}
        adapted = await asyncio.gather(
            *(ring.complete(ring.generate((i,) * 40, adapter="german", max_tokens=2)) for i in range(8))
        )
        assert not any(answer.refused for answer in adapted)


async def test_what_nobody_holds_any_more_is_said(tmp_path: Path) -> None:
    """Router and all engines died: the server says that what was loaded is gone, and serves."""
    async with small_ring(tmp_path, simulated=SLOW, router_process=True) as ring:
        assert isinstance(await ring.call(UpdateWeights, 5, "/weights"), Answered)
        await ring.kill("worker-0-0")
        await ring.kill("router")
        ring.start("worker-0-0")
        ring.start("router")
        await ring.ready("worker-0-0", "router")
        await ring.replicas_ready(1)
        assert await _versions(ring) == {(0, 0)}
        assert "are gone; load them again" in ring.errors["router"].read_text()


class _Engine(SimulatedEngine):
    """One that makes vectors, can't read some weights, and remembers what it did."""

    embeds = True
    did: list[int]
    """Tokens that each call embedded; 0 for a step."""

    def update_weights(self, version: int, new: object = None, on_update: str = "keep_kv") -> None:
        if str(new) == "/unreadable":
            raise WorkFailed("the weights can't be read")
        super().update_weights(version, new, on_update)

    def embed(self, prompts_ids: Any) -> list[list[float]]:
        self.did.append(sum(map(len, prompts_ids)))
        return [[float(ids[0])] for ids in prompts_ids]

    def step(self) -> list[TokenEvent]:
        self.did.append(0)
        return super().step()


@asynccontextmanager
async def _engine_here(ring: SmallRing, name: str) -> AsyncIterator[_Engine]:
    """In place of the worker of this name, an engine in this process."""
    await ring.kill(name)
    engine = _Engine.load(ring.engine, SimulatedConfig(clock="virtual"))
    assert isinstance(engine, _Engine)
    engine.did = []
    socket, ring.addresses[name] = ring.sockets.router(f"{name}.here")
    task = asyncio.create_task(_answer(socket, EngineSteps(engine, {})))
    assert ring.facts
    ring.facts = msgspec.structs.replace(ring.facts, embeds=True)
    await ring.tell(ring.peers())
    await ring.replicas_ready(ring.serve.replicas)
    yield engine
    task.cancel()
    await asyncio.wait([task])


async def _answer(socket: Any, steps: EngineSteps) -> None:
    decode = decoder(ToWorker).decode
    while True:
        caller, frame = await socket.recv_multipart()
        await socket.send_multipart([caller, encode(steps.answer(decode(frame)))])


async def test_an_engine_without_the_new_weights_stays_out(tmp_path: Path) -> None:
    """Nobody gets tokens of other weights than the server says, and it comes back with the next update."""
    async with (
        small_ring(tmp_path, serve=replace(SERVE, replicas=2), simulated=SLOW) as ring,
        _engine_here(ring, "worker-1-0"),
    ):
        assert isinstance(await ring.call(UpdateWeights, 5, "/unreadable"), Answered)
        await ring.replicas_ready(1)
        assert await _versions(ring) == {(0, 5)}
        assert isinstance(await ring.call(UpdateWeights, 6, "/good"), Answered)
        await ring.replicas_ready(2)
        assert await _versions(ring) == {(0, 6), (1, 6)}


async def test_generation_goes_on_while_prompts_are_embedded(tmp_path: Path) -> None:
    """No step embeds more than it could prefill; with no queue allowed, an idle engine still embeds."""
    serve, engine = replace(SERVE, max_waiting=0), EngineConfig(max_step_tokens=64)
    async with (
        small_ring(tmp_path, serve=serve, engine=engine, simulated=SLOW) as ring,
        _engine_here(ring, "worker-0-0") as here,
    ):
        running = ring.generate(max_tokens=4000, ignore_eos=True)
        await ring.send(running)
        await ring.running(running.request.id)
        here.did.clear()
        prompts = tuple((number,) * 30 for number in range(20))
        answered = await ring.call(Embed, prompts, arrived=now(), timeout=60.0)
        assert isinstance(answered, Answered)
        assert answered.vectors == tuple((float(number),) for number in range(20))
        did = list(here.did)
        assert [tokens for tokens in did if tokens] == [60] * 10
        assert all(not (first and second) for first, second in pairwise(did))
