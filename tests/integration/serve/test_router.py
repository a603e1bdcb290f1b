"""The router and model workers together, over real sockets, with real processes."""

import asyncio
import random
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import zmq
import zmq.asyncio
from small_ring import SmallRing, small_ring

from asynckit.engine.config import EngineConfig, SamplingParams
from asynckit.engine.request import Request
from asynckit.engine.simulated_config import SimulatedConfig
from asynckit.models.config import ModelConfig
from asynckit.serve.config import ServeConfig
from asynckit.serve.control_messages import Drain, Lost
from asynckit.serve.member import now
from asynckit.serve.messages import (
    Abort,
    Answered,
    Embed,
    GetMetrics,
    LoadAdapter,
    Refused,
    Served,
    UnloadAdapter,
    UpdateWeights,
)

SERVE = ServeConfig(engine="simulated")
SLOW = SimulatedConfig(step_seconds="constant(0.01)")
GARBAGE_FRAMES = 10_000


@pytest.fixture
async def ring(tmp_path: Path) -> AsyncIterator[SmallRing]:
    async with small_ring(tmp_path, simulated=SLOW) as made:
        yield made


async def test_tokens_arrive_in_order_and_requests_end_once(ring: SmallRing) -> None:
    """Whoever asks gets every token of every sample, one end each, and a timing."""
    asked = [ring.generate((1, 2, 3 + i), n=2, max_tokens=5, ignore_eos=True) for i in range(20)]
    answers = await asyncio.gather(*(ring.complete(each) for each in asked))
    for answer in answers:
        assert answer.begun == 1
        assert answer.finishes == {0: "length", 1: "length"}
        assert [len(answer.ids(sample)) for sample in (0, 1)] == [5, 5]
        assert answer.timing
        assert answer.timing.arrived <= answer.timing.started <= answer.timing.first_token
    state = await ring.state()
    assert (state.running, state.waiting, state.kv_usage, state.finished) == (0, 0, 0.0, 20)
    assert state.generated_tokens == 200


async def test_greedy_tokens_are_the_engines_own(tmp_path: Path, tiny_llama: Path) -> None:
    """Going through router and worker changes no token and no logprob."""
    from asynckit.engine.engine import Engine
    from asynckit.models.resolve import resolve_model

    model = ModelConfig(name=str(tiny_llama))
    config = EngineConfig(dtype="float32", device="cpu", kv_cache_tokens=4096)
    engine = Engine.load(config, model, resolve_model(model))
    wanted = {}
    prompts = [(5, 6, 7), (11, 12), (40, 41, 42, 43, 44)]
    for prompt in prompts:
        engine.add(Request("r", prompt, SamplingParams(temperature=0.0, max_tokens=12, top_logprobs=2)))
        events = []
        while engine.has_work():
            events += engine.step()
        wanted[prompt] = [(event.token_id, event.top_logprobs) for event in events]
    engine.close()
    serve = ServeConfig()
    async with small_ring(tmp_path, serve=serve, model=model, engine=config) as ring:
        assert ring.facts
        assert (ring.facts.max_model_len, ring.facts.kv_cache_tokens) == (512, 4096)
        for prompt in prompts:
            answer = await ring.complete(
                ring.generate(prompt, temperature=0.0, max_tokens=12, top_logprobs=2)
            )
            assert answer.ids() == [token for token, _ in wanted[prompt]]
            likeliest = [[each for each, _ in token.top_logprobs] for token in answer.tokens[0]]
            assert likeliest == [[each for each, _ in top] for _, top in wanted[prompt]]
        scored = await ring.complete(ring.generate(prompts[2], max_tokens=1, prompt_logprobs=1))
        scores = scored.tokens[0][0].prompt_logprobs
        assert scores[0] is None
        assert [score and score[0] for score in scores[1:]] == list(prompts[2][1:])


async def test_an_abort_frees_the_cache(ring: SmallRing) -> None:
    """Who has gone away holds neither blocks nor places, whether their request ran or waited."""
    many = [ring.generate((1, i), n=4, max_tokens=4000, ignore_eos=True) for i in range(40)]
    for each in many:
        await ring.send(each)
    await ring.running(many[0].request.id)
    state = await ring.state()
    assert state.running >= 64
    assert state.waiting > 0
    for each in many:
        await ring.send(Abort(each.request.id))
    for each in many:
        answer = await ring.ended(each.request.id, n=4)
        assert set(answer.finishes.values()) == {"abort"}
        assert answer.timing
    await ring.idle()


async def test_what_the_engine_refuses_ends_that_request_alone(ring: SmallRing) -> None:
    """A request that can't be served is told why, by a status that says whose fault it is."""
    good = ring.generate(max_tokens=30, ignore_eos=True)
    await ring.send(good)
    long = await ring.complete(ring.generate(tuple(range(9000)), max_tokens=5))
    assert long.refused
    assert (long.refused.status, long.refused.code) == (400, "too_long")
    wrong = await ring.complete(ring.generate(stop_token_ids=(10**6,)))
    assert wrong.refused
    assert (wrong.refused.status, wrong.refused.code) == (400, "invalid")
    assert "outside the vocabulary" in wrong.refused.message
    await ring.call(LoadAdapter, "german", "/nowhere")
    unknown = await ring.complete(ring.generate(adapter="germam"))
    assert unknown.refused
    assert unknown.refused.status == 404
    assert "did you mean 'german'?" in unknown.refused.message
    assert len((await ring.ended(good.request.id)).ids()) == 30
    await ring.idle()


async def test_time_is_up(ring: SmallRing) -> None:
    """A request that takes too long ends with 504 and lets go of what it holds; others go on."""
    late = ring.generate(max_tokens=5000, ignore_eos=True, timeout=0.2)
    other = ring.generate(max_tokens=60, ignore_eos=True)
    await ring.send(other)
    answer = await ring.complete(late)
    assert answer.refused
    assert (answer.refused.status, answer.refused.code) == (504, "timeout")
    assert len((await ring.ended(other.request.id)).ids()) == 60
    await ring.idle()


async def test_a_full_queue_sends_away(tmp_path: Path) -> None:
    """Above the limit a request is told to come back, and when."""
    serve = replace(SERVE, max_waiting=3)
    engine = EngineConfig(max_running=1)
    async with small_ring(tmp_path, serve=serve, engine=engine, simulated=SLOW) as ring:
        many = [ring.generate((i,), max_tokens=20, ignore_eos=True) for i in range(10)]
        answers = await asyncio.gather(*(ring.complete(each) for each in many))
        refused = [answer.refused for answer in answers if answer.refused]
        assert len(refused) == 4  # 1 runs, 2 are with the engine, 3 wait
        assert {(each.status, each.code) for each in refused} == {(429, "queue_full")}
        assert all(each.retry_after for each in refused)
        assert all(len(answer.ids()) == 20 for answer in answers if not answer.refused)


async def test_owners_take_turns(tmp_path: Path) -> None:
    """Somebody who comes after a crowd of another owner's requests does not wait for all of them."""
    async with small_ring(tmp_path, engine=EngineConfig(max_running=1), simulated=SLOW) as ring:
        crowd = [ring.generate((i,), max_tokens=10, ignore_eos=True) for i in range(12)]
        for each in crowd:
            await ring.send(each)
        await ring.running(crowd[0].request.id)
        single = await ring.complete(ring.generate(owner="bob", max_tokens=10, ignore_eos=True))
        assert single.timing
        assert sum(bool(ring.answers[each.request.id].finishes) for each in crowd) < 6
        await asyncio.gather(*(ring.ended(each.request.id) for each in crowd))


async def test_draining_takes_nobody_new(ring: SmallRing) -> None:
    """While the server stops, what runs goes on, and new requests are sent away."""
    old = ring.generate(max_tokens=40, ignore_eos=True)
    await ring.send(old)
    await ring.running(old.request.id)
    await ring.tell(Drain())
    while not (answer := await ring.complete(ring.generate(max_tokens=1))).refused:
        pass  # the router had not heard of it yet
    assert answer.refused.status == 503
    assert len((await ring.ended(old.request.id)).ids()) == 40


async def test_a_lost_worker_ends_its_requests_and_gets_everything_again(ring: SmallRing) -> None:
    """What an engine had ends with 503, and its successor has the same adapters and weights."""
    assert isinstance(await ring.call(LoadAdapter, "german", "/nowhere"), Answered)
    assert isinstance(await ring.call(UpdateWeights, 7, "/weights"), Answered)
    running = ring.generate(max_tokens=5000, ignore_eos=True)
    await ring.send(running)
    await ring.running(running.request.id)
    await ring.kill("worker-0-0")
    answer = await ring.ended(running.request.id)
    assert answer.refused
    assert (answer.refused.status, answer.refused.code) == (503, "engine_lost")
    nobody = await ring.complete(ring.generate())
    assert nobody.refused
    assert (nobody.refused.status, nobody.refused.code) == (503, "no_engine")
    ring.start("worker-0-0")
    await ring.ready("worker-0-0")
    while (await ring.state()).replicas_ready == 0:
        pass
    served = await ring.complete(ring.generate(adapter="german", max_tokens=3, ignore_eos=True))
    assert [token.version for token in served.tokens[0]] == [7, 7, 7]
    await ring.idle()


async def test_a_new_router_starts_from_empty_engines(tmp_path: Path) -> None:
    """What the old router had is dropped, and what workers loaded for it is known to the new one."""
    async with small_ring(tmp_path, simulated=SLOW, router_process=True) as ring:
        assert isinstance(await ring.call(LoadAdapter, "german", "/nowhere"), Answered)
        assert isinstance(await ring.call(UpdateWeights, 3, "/weights"), Answered)
        running = ring.generate(max_tokens=5000, ignore_eos=True)
        await ring.send(running)
        await ring.running(running.request.id)
        await ring.kill("router")
        ring.start("router")
        await ring.ready("router")
        while (await ring.state()).replicas_ready == 0:
            pass
        state = await ring.state()
        assert [adapter.name for adapter in state.adapters] == ["german"]
        assert state.version == 3
        served = await ring.complete(ring.generate(adapter="german", max_tokens=3, ignore_eos=True))
        assert [token.version for token in served.tokens[0]] == [3, 3, 3]
        await ring.idle()


async def test_lost_neighbours_free_the_cache(ring: SmallRing) -> None:
    """Requests of an HTTP server that is gone end, and all of them when the detokenizer is."""
    homes = ("http-0.0", "http-0.1")  # the second one sends before the router hears that the first is gone
    first, second = (ring.generate(max_tokens=5000, ignore_eos=True, home=home) for home in homes)
    await ring.send(first)
    await ring.send(second)
    await ring.running(first.request.id, second.request.id)
    await ring.tell(Lost("http-0", "killed", 0))
    while (await ring.state()).running != 1:
        pass
    await ring.tell(Lost("detokenizer", "killed"))
    await ring.tell(ring.peers())
    answer = await ring.ended(second.request.id)  # it may have been sent for the new detokenizer
    assert answer.refused
    assert (answer.refused.status, answer.refused.code) == (503, "restarting")
    await ring.idle()
    last = ring.generate(max_tokens=3, ignore_eos=True, home="http-0.1")
    assert len((await ring.complete(last)).ids()) == 3


async def test_calls_are_answered(ring: SmallRing) -> None:
    """Adapters and weights change or say why not; nothing is left half done."""
    assert isinstance(await ring.call(LoadAdapter, "a", "/nowhere"), Answered)
    twice = await ring.call(LoadAdapter, "a", "/elsewhere")
    assert isinstance(twice, Refused)
    assert (twice.status, twice.code) == (400, "adapter")
    assert isinstance(await ring.call(UnloadAdapter, "a"), Answered)
    assert isinstance(await ring.call(UnloadAdapter, "a"), Refused)
    assert isinstance(await ring.call(UpdateWeights, 2, "/weights"), Answered)
    assert isinstance(await ring.call(UpdateWeights, 2, "/weights"), Answered)  # said again
    older = await ring.call(UpdateWeights, 1, "/weights")
    assert isinstance(older, Refused)
    assert (older.status, older.code) == (400, "weights")
    embeds = await ring.call(Embed, ((1, 2),), arrived=now(), timeout=10.0)
    assert isinstance(embeds, Refused)
    assert embeds.code == "unsupported"
    await ring.send(Served("/v1/models", 200, 0.01))
    await ring.complete(ring.generate(max_tokens=2))
    metrics = await ring.call(GetMetrics)
    assert isinstance(metrics, Answered)
    assert metrics.text
    assert "asynckit:generation_tokens_total 2.0" in metrics.text


async def test_adapters_can_be_off(tmp_path: Path) -> None:
    """With serve.lora off nobody loads an adapter."""
    async with small_ring(tmp_path, serve=replace(SERVE, lora=False)) as ring:
        refused = await ring.call(LoadAdapter, "a", "/nowhere")
        assert isinstance(refused, Refused)
        assert "adapters are off" in refused.message


async def test_garbage_brings_nothing_down(ring: SmallRing) -> None:
    """Frames that are no messages are dropped by every socket, and service goes on meanwhile."""
    rng = random.Random(1)  # noqa: S311 - garbage needs no secrecy
    running = ring.generate(max_tokens=100, ignore_eos=True)
    await ring.send(running)
    await ring.running(running.request.id)
    strangers = [
        _stranger(ring, zmq.PUSH, ring.addresses["router"]),
        _stranger(ring, zmq.DEALER, ring.addresses["worker-0-0"]),
    ]
    for number in range(GARBAGE_FRAMES):
        for stranger in strangers:
            await stranger.send_multipart([rng.randbytes(rng.randrange(40)) for _ in range(1 + number % 3)])
    answers = await asyncio.gather(
        *(ring.complete(ring.generate((i,), max_tokens=20, ignore_eos=True)) for i in range(20))
    )
    assert all(len(answer.ids()) == 20 for answer in answers)
    assert len((await ring.ended(running.request.id)).ids()) == 100
    for stranger in strangers:
        stranger.close()


def _stranger(ring: SmallRing, kind: int, address: str) -> zmq.asyncio.Socket:
    socket: Any = ring.sockets._context.socket(kind)
    socket.linger = 0
    socket.connect(address)
    made: zmq.asyncio.Socket = socket
    return made


async def test_a_worker_that_cannot_load_says_why(ring: SmallRing) -> None:
    """An engine that can't be had ends its process with a reason, not with a wait."""
    ring.serve = replace(ring.serve, loras=("broken",))
    ring.start("worker-9-0")
    process = ring.processes.pop("worker-9-0")
    assert await asyncio.to_thread(process.wait, 30) == 1
    assert "--lora broken" in ring.errors["worker-9-0"].read_text()
