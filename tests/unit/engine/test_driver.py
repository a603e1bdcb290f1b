"""The driver: every call ends, a cancelled one only after the engine has let go."""

import asyncio
import threading
from collections.abc import Callable
from contextlib import aclosing
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from asynckit.engine.clock import RealClock
from asynckit.engine.config import EngineConfig, SamplingParams
from asynckit.engine.distributions import parse_distribution
from asynckit.engine.driver import EngineDriver
from asynckit.engine.engine import Engine
from asynckit.engine.latency import Latency
from asynckit.engine.protocol import InferenceEngine
from asynckit.engine.request import Finish, OnUpdate, Request, TokenEvent
from asynckit.engine.simulated import SimulatedEngine
from asynckit.engine.simulated_config import SimulatedConfig
from asynckit.errors import InputError, RequestError
from asynckit.models.config import ModelConfig
from asynckit.models.resolve import resolve_model

CONFIG = EngineConfig(dtype="float32", device="cpu", max_running=4, kv_cache_tokens=4096)
LONG = SamplingParams(max_tokens=200, ignore_eos=True)
SHORT = SamplingParams(max_tokens=5, ignore_eos=True)


@pytest.fixture
def engine(tiny_llama: Path) -> Engine:
    model = ModelConfig(name=str(tiny_llama))
    return Engine.load(CONFIG, model, resolve_model(model))


def simulated(**changes: Any) -> SimulatedEngine:
    timeless = {"step_seconds": "constant(0)", "prefill_token_seconds": 0, "sequence_seconds": 0}
    return SimulatedEngine.load(CONFIG, SimulatedConfig(**{"clock": "virtual", **timeless, **changes}))


async def started(driver: EngineDriver) -> None:
    """Return once the engine has sampled a token."""
    while not driver.sampled_tokens:  # noqa: ASYNC110 - the driver has no event for this
        await asyncio.sleep(0)


class Gate:
    """An act for the engine's thread that says when it has begun and ends when it is let through."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self.begun = asyncio.Event()
        self.open = threading.Event()
        self.passed = False

    def __call__(self, _: InferenceEngine) -> str:
        """Wait to be let through."""
        self._loop.call_soon_threadsafe(self.begun.set)
        self.open.wait()
        self.passed = True
        return "through"


async def test_requests_run_side_by_side(engine: Engine) -> None:
    """Many callers await one engine; each gets its own samples with all their numbers."""
    driver = EngineDriver(engine)
    results = await asyncio.gather(
        *(driver.generate(Request(str(i), (5, 6, 7 + i), SHORT, n=2)) for i in range(6))
    )
    for completions in results:
        assert [len(c.token_ids) for c in completions] == [5, 5]
        assert [len(c.logprobs) for c in completions] == [5, 5]
        assert all(
            c.finish is Finish.LENGTH and c.first_token and c.end >= c.first_token for c in completions
        )
    assert driver.sampled_tokens == 60
    await driver.close()


async def test_times_are_the_simulated_clock_s() -> None:
    """A simulated hour is in the completions as an hour, however fast it went by and was heard of."""
    engine = simulated(step_seconds="constant(1200)")
    driver = EngineDriver(engine, engine.clock)
    (completion,) = await driver.generate(Request("r", (5,), SamplingParams(max_tokens=3, ignore_eos=True)))
    assert (completion.first_token, completion.end) == (1200, 3600)
    assert driver.busy_seconds == driver.clock.now() == 3600
    await driver.close()


async def test_a_first_token_at_time_zero_counts() -> None:
    """Zero seconds are a time as well."""
    engine = simulated()
    driver = EngineDriver(engine, engine.clock)
    (completion,) = await driver.generate(Request("r", (5,), SHORT))
    assert (completion.first_token, completion.end) == (0, 0)
    await driver.close()


async def test_a_refused_request_raises_in_its_caller(engine: Engine) -> None:
    """The refusal reaches the one who asked, and the engine goes on."""
    driver = EngineDriver(engine)
    with pytest.raises(RequestError):
        await driver.generate(Request("empty", ()))
    with pytest.raises(RequestError):
        await anext(driver.stream(Request("none", (5,), n=0)))
    assert await driver.generate(Request("fine", (5,), SamplingParams(max_tokens=1)))
    await driver.close()


async def test_an_id_that_is_in_use_is_refused() -> None:
    """The second request with an id does not take the first one's events away."""
    driver = EngineDriver(simulated())
    first = asyncio.create_task(driver.generate(Request("r", (5,), LONG)))
    await started(driver)
    with pytest.raises(RequestError, match="already running"):
        await driver.generate(Request("r", (5,), SHORT))
    assert [len(c.token_ids) for c in await first] == [200]
    assert [len(c.token_ids) for c in await driver.generate(Request("r", (5,), SHORT))] == [5]
    await driver.close()


async def test_cancelling_frees_the_cache_before_it_returns(engine: Engine) -> None:
    """A cancelled caller leaves no tokens being computed for nobody."""
    driver = EngineDriver(engine)
    task = asyncio.create_task(driver.generate(Request("long", (5, 6), LONG, n=3)))
    await started(driver)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert driver.statistics().kv_usage == 0
    await driver.close()


async def test_a_stream_has_what_generate_returns(engine: Engine) -> None:
    """Events arrive in order, and the last one of each sample ends it."""
    driver = EngineDriver(engine)
    request = Request("r", (5, 6), SHORT, n=2)
    events = [event async for event in driver.stream(request)]
    completions = await driver.generate(request)
    for index, completion in enumerate(completions):
        mine = [event for event in events if event.sample_index == index]
        assert [event.token_id for event in mine] == completion.token_ids
        assert [event.finish for event in mine] == [None] * 4 + [Finish.LENGTH]
    await driver.close()


async def test_closing_a_stream_frees_the_cache_before_it_returns(engine: Engine) -> None:
    """Whoever leaves a stream leaves no tokens being computed for nobody."""
    driver = EngineDriver(engine)
    async with aclosing(driver.stream(Request("long", (5, 6), LONG, n=3))) as events:
        assert (await anext(events)).token_id is not None
    assert driver.statistics().kv_usage == 0
    await driver.close()


async def test_cancelling_who_reads_a_stream_aborts_it(engine: Engine) -> None:
    """A client that goes away while it waits for a token is noticed."""
    driver = EngineDriver(engine)

    async def read() -> list[TokenEvent]:
        return [event async for event in driver.stream(Request("long", (5, 6), LONG))]

    task = asyncio.create_task(read())
    await started(driver)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert driver.statistics().kv_usage == 0
    await driver.close()


async def test_new_weights_come_between_two_steps(engine: Engine, tiny_llama: Path) -> None:
    """A request that runs goes on, and its later tokens carry the new version; a misfit changes nothing."""
    driver = EngineDriver(engine)
    task = asyncio.create_task(driver.generate(Request("long", (5, 6), LONG)))
    await started(driver)
    with pytest.raises(InputError, match="is not above"):
        await driver.update_weights(0, tiny_llama)
    await driver.update_weights(3, tiny_llama)
    (completion,) = await task
    assert set(completion.versions) == {0, 3}
    assert completion.versions == sorted(completion.versions)
    await driver.close()


async def test_an_update_can_end_what_runs(engine: Engine, tiny_llama: Path) -> None:
    """Whoever awaited an aborted request hears of its end."""
    driver = EngineDriver(engine)
    task = asyncio.create_task(driver.generate(Request("long", (5, 6), LONG, n=2)))
    await started(driver)
    await driver.update_weights(1, tiny_llama, OnUpdate.ABORT)
    assert [c.finish for c in await task] == [Finish.ABORT] * 2
    await driver.close()


async def test_adapters_come_and_go() -> None:
    """A name can be used from the moment that it is added until it is removed."""
    driver = EngineDriver(simulated())
    request = Request("r", (5,), SHORT, adapter="mine")
    with pytest.raises(RequestError, match="no adapter 'mine'"):
        await driver.generate(request)
    await driver.add_adapter("mine", Path("nowhere"))
    await driver.pin_adapter("mine")
    await driver.unpin_adapter("mine")
    assert await driver.call(lambda engine: engine.adapters.names()) == ("mine",)
    assert len(await driver.generate(request)) == 1
    await driver.remove_adapter("mine")
    for act in (driver.remove_adapter, driver.pin_adapter, driver.unpin_adapter):
        with pytest.raises(InputError, match="no adapter of this name"):
            await act("mine")
    await driver.close()


async def test_a_bad_adapter_is_refused_to_who_adds_it(engine: Engine, tmp_path: Path) -> None:
    """The engine's own error arrives, and the engine goes on."""
    driver = EngineDriver(engine)
    with pytest.raises(InputError):
        await driver.add_adapter("bad", tmp_path)
    assert await driver.generate(Request("r", (5,), SHORT))
    await driver.close()


async def test_a_cancelled_call_has_been_carried_out_when_it_returns() -> None:
    """Nobody has to guess whether the engine will still touch what was handed to it."""
    driver = EngineDriver(simulated())
    gate = Gate()
    task = asyncio.create_task(driver.call(gate))
    await gate.begun.wait()
    task.cancel()
    await asyncio.wait([task], timeout=0)
    assert not task.done()
    gate.open.set()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert gate.passed
    assert await driver.call(lambda _: "next") == "next"
    await driver.close()


async def test_close_ends_what_runs(engine: Engine) -> None:
    """Whoever still waits hears ``abort``; calls are carried out; later ones are refused."""
    driver = EngineDriver(engine)
    task = asyncio.create_task(driver.generate(Request("long", (5, 6), LONG)))
    await started(driver)
    gate = Gate()
    gated = asyncio.create_task(driver.call(gate))
    await gate.begun.wait()
    queued = asyncio.create_task(driver.generate(Request("late", (5, 6), LONG)))
    await asyncio.sleep(0)
    closing = asyncio.create_task(driver.close())
    await asyncio.sleep(0)
    gate.open.set()
    await closing
    assert await gated == "through"
    for each in (task, queued):
        assert [c.finish for c in await each] == [Finish.ABORT]
    for late in (
        driver.generate(Request("later", (5,))),
        anext(driver.stream(Request("later", (5,)))),
        driver.update_weights(1, {}),
    ):
        with pytest.raises(RuntimeError, match="has stopped"):
            await late


async def test_close_does_not_wait_for_a_step_that_sleeps() -> None:
    """A simulated step of years ends when the driver does."""
    loop, asleep = asyncio.get_running_loop(), asyncio.Event()

    class Alarm(RealClock):
        def advance(self, seconds: float) -> None:
            loop.call_soon_threadsafe(asleep.set)
            super().advance(seconds)

    model = simulated()
    years = Latency(parse_distribution("constant(1e9)", where=""), 0, 0, 0)
    engine = SimulatedEngine(model._scheduler, years, lambda *_: 9, clock=Alarm(), vocabulary=50, eos_id=2)
    driver = EngineDriver(engine, engine.clock)
    task = asyncio.create_task(driver.generate(Request("r", (5,), LONG)))
    await asleep.wait()
    await driver.close()
    assert [c.finish for c in await task] == [Finish.ABORT]


async def test_a_broken_engine_fails_every_caller(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    """An error in the engine's own code reaches everyone who waits, as itself."""
    driver = EngineDriver(engine)
    gate = Gate()

    def explode() -> None:
        gate(engine)
        raise ZeroDivisionError("a bug")

    monkeypatch.setattr(engine, "step", explode)
    tasks: list[asyncio.Task[Any]] = [asyncio.create_task(driver.generate(Request("any", (5,))))]
    await gate.begun.wait()
    tasks.append(asyncio.create_task(read_all(driver, Request("other", (5,)))))
    tasks.append(asyncio.create_task(driver.update_weights(1, {})))
    await asyncio.sleep(0)
    gate.open.set()
    for task in tasks:
        with pytest.raises(ZeroDivisionError):
            await task
    with pytest.raises(RuntimeError, match="has stopped"):
        await driver.generate(Request("next", (5,)))
    await driver.close()


async def test_a_request_of_wrong_types_is_refused_as_such(engine: Engine) -> None:
    """Before the driver looks it up among those that run."""
    driver = EngineDriver(engine)
    for request, words in (
        (Request([], (5,)), "id must be"),  # type: ignore[arg-type]
        (Request("r", [5]), "prompt_ids must be"),  # type: ignore[arg-type]
        (Request("r", (5,), n="2"), "n must be"),  # type: ignore[arg-type]
        ({"id": "r"}, "is not a Request"),
    ):
        for ask in (driver.generate, partial(read_all, driver)):
            with pytest.raises(RequestError, match=words):
                await ask(request)  # type: ignore[arg-type]
    await driver.close()


async def read_all(driver: EngineDriver, request: Request) -> int:
    return sum([event.token_id is not None async for event in driver.stream(request)])


Act = Callable[[EngineDriver, str], Any]
ACTS: list[Act] = [
    lambda driver, name: driver.generate(Request(name, (5, 6), LONG, n=3)),
    lambda driver, name: driver.generate(Request(name, (5, 6), SHORT)),
    lambda driver, name: driver.generate(Request(name, (), SHORT)),
    lambda driver, name: driver.generate(Request(name, (5,), SHORT, adapter="a")),
    lambda driver, name: read_all(driver, Request(name, (7,), LONG, n=2)),
    lambda driver, name: driver.update_weights(int(name) + 1, {}, OnUpdate.ABORT),
    lambda driver, name: driver.update_weights(int(name) + 1, {}, OnUpdate.RECOMPUTE_KV),
    lambda driver, _: driver.add_adapter("a", Path("nowhere")),
    lambda driver, _: driver.remove_adapter("a"),
]
plans = st.lists(st.tuples(st.integers(0, len(ACTS) - 1), st.integers(0, 4), st.booleans()), max_size=12)


@settings(max_examples=150, deadline=None)
@given(plans, st.booleans())
def test_everything_ends_whatever_is_cancelled(plan: list[tuple[int, int, bool]], close_early: bool) -> None:
    """Calls of all kinds, some of them cancelled after a few turns of the loop, leave nothing behind."""

    async def run() -> None:
        driver = EngineDriver(simulated())
        tasks = []
        for number, (act, turns, cancel) in enumerate(plan):
            task = asyncio.ensure_future(ACTS[act](driver, str(number)))
            tasks.append(task)
            for _ in range(turns):
                await asyncio.sleep(0)
            if cancel:
                task.cancel()
        if close_early:
            await driver.close()
        outcomes = await asyncio.gather(*tasks, return_exceptions=True)
        allowed = (InputError, RequestError, asyncio.CancelledError, *([RuntimeError] if close_early else []))
        assert [
            each for each in outcomes if isinstance(each, BaseException) and not isinstance(each, allowed)
        ] == []
        if not close_early:
            assert driver.statistics().kv_usage == 0
            await driver.close()
        assert not driver._calls
        assert not driver._awaited

    asyncio.run(run())
