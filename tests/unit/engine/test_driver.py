"""The driver: every call ends, a cancelled one only after the engine has let go."""

import asyncio
from pathlib import Path

import pytest

from asynckit.engine.config import EngineConfig, SamplingParams
from asynckit.engine.driver import EngineDriver
from asynckit.engine.engine import Engine
from asynckit.engine.request import Finish, Request
from asynckit.errors import RequestError
from asynckit.models.config import ModelConfig
from asynckit.models.resolve import resolve_model

LONG = SamplingParams(max_tokens=200, ignore_eos=True)


@pytest.fixture
def engine(tiny_llama: Path) -> Engine:
    config = EngineConfig(dtype="float32", device="cpu", max_running=4, kv_cache_tokens=4096)
    model = ModelConfig(name=str(tiny_llama))
    return Engine.load(config, model, resolve_model(model))


async def started(driver: EngineDriver) -> None:
    """Return once the engine has sampled a token."""
    while not driver.sampled_tokens:  # noqa: ASYNC110 - the driver has no event for this
        await asyncio.sleep(0)


async def test_requests_run_side_by_side(engine: Engine) -> None:
    """Many callers await one engine; each gets its own samples with all their numbers."""
    driver = EngineDriver(engine)
    short = SamplingParams(max_tokens=5, ignore_eos=True)
    results = await asyncio.gather(
        *(driver.generate(Request(str(i), (5, 6, 7 + i), short, n=2)) for i in range(6))
    )
    for completions in results:
        assert [len(c.token_ids) for c in completions] == [5, 5]
        assert [len(c.logprobs) for c in completions] == [5, 5]
        assert all(
            c.finish is Finish.LENGTH and c.first_token and c.end >= c.first_token for c in completions
        )
    assert driver.sampled_tokens == 60
    await driver.close()


async def test_a_refused_request_raises_in_its_caller(engine: Engine) -> None:
    """The refusal reaches the one who asked, and the engine goes on."""
    driver = EngineDriver(engine)
    with pytest.raises(RequestError):
        await driver.generate(Request("empty", ()))
    assert await driver.generate(Request("fine", (5,), SamplingParams(max_tokens=1)))
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


async def test_close_ends_what_runs(engine: Engine) -> None:
    """Whoever still waits hears ``abort``."""
    driver = EngineDriver(engine)
    task = asyncio.create_task(driver.generate(Request("long", (5, 6), LONG)))
    await started(driver)
    await driver.close()
    assert [c.finish for c in await task] == [Finish.ABORT]
    with pytest.raises(RuntimeError, match="has stopped"):
        await driver.generate(Request("late", (5,)))


async def test_a_broken_engine_fails_every_caller(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    """An error in the engine's own code reaches everyone who waits, as itself."""
    driver = EngineDriver(engine)

    def explode() -> None:
        raise ZeroDivisionError("a bug")

    monkeypatch.setattr(engine, "step", explode)
    with pytest.raises(ZeroDivisionError):
        await driver.generate(Request("any", (5,)))
    with pytest.raises(RuntimeError, match="has stopped"):
        await driver.generate(Request("next", (5,)))
