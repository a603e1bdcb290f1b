"""Deterministic mode: a request's bits don't depend on anything but the request."""

import random
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from asynckit.engine.config import EngineConfig, SamplingParams
from asynckit.engine.engine import Engine
from asynckit.engine.request import Request
from asynckit.errors import DependencyError
from asynckit.models.config import ModelConfig
from asynckit.models.resolve import resolve_model

Bits = dict[str, list[tuple[int | None, float]]]


def load(model: ModelConfig, dtype: str, **settings: int) -> Engine:
    defaults = {"kv_cache_tokens": 8192, "max_running": 40, "max_step_tokens": 300}
    config = EngineConfig(dtype=dtype, device="cpu", deterministic=True, block_size=16)
    return Engine.load(replace(config, **{**defaults, **settings}), model, resolve_model(model))  # type: ignore[arg-type]


def requests(vocabulary: int, count: int, longest: int = 40) -> list[Request]:
    """Sampled requests of mixed lengths, some with a common prefix."""
    generator = random.Random(0)  # noqa: S311 - reproducible
    common = tuple(generator.randrange(4, vocabulary) for _ in range(24))
    made = []
    for index in range(count):
        own = tuple(generator.randrange(4, vocabulary) for _ in range(generator.randint(1, 60)))
        params = SamplingParams(
            temperature=0.9, seed=index, max_tokens=generator.randint(longest // 2, longest), ignore_eos=True
        )
        made.append(Request(str(index), common + own if index % 3 == 0 else own, params))
    return made


def run(engine: Engine, wanted: list[Request]) -> Bits:
    """All requests through one engine, arriving a few at a time."""
    waiting, bits = list(wanted), dict[str, list[tuple[int | None, float]]]()
    while waiting or engine.has_work():
        for request in waiting[:5]:
            engine.add(request)
        del waiting[:5]
        for event in engine.step():
            bits.setdefault(event.request_id, []).append((event.token_id, event.logprob))
    return bits


def check(model: ModelConfig, dtype: str, wanted: list[Request]) -> None:
    together = run(load(model, dtype), wanted)
    alone: Bits = {}
    engine = load(model, dtype)
    for request in wanted:
        alone |= run(engine, [request])
    assert alone == together
    shuffled = random.Random(1).sample(wanted, len(wanted))  # noqa: S311 - reproducible
    assert run(load(model, dtype, max_step_tokens=37), shuffled) == together
    starved = load(model, dtype, kv_cache_tokens=256)
    assert run(starved, wanted) == together
    assert starved.statistics().preemptions > 0
    first, second = load(model, dtype), load(model, dtype, max_running=3)
    assert run(first, wanted[::2]) | run(second, wanted[1::2]) == together


@pytest.mark.parametrize("dtype", ["bfloat16", "float32"])
def test_bits_depend_on_the_request_alone(tiny_llama: Path, dtype: str) -> None:
    """Alone, together, shuffled, preempted, in other chunks, on one engine or two: the same bits."""
    check(ModelConfig(name=str(tiny_llama)), dtype, requests(250, count=20))


@pytest.mark.embedded
@pytest.mark.parametrize("dtype", ["bfloat16", "float32"])
def test_bits_of_the_embedded_model_depend_on_the_request_alone(dtype: str) -> None:
    """The same for a real model, whose matrices are large enough for other kernels, on two engines."""
    wanted = requests(49_000, count=6, longest=12)
    engine = load(ModelConfig(), dtype)
    together, alone = run(engine, wanted), dict[str, list[tuple[int | None, float]]]()
    for request in wanted:
        alone |= run(engine, [request])
    assert alone == together
    starved = load(ModelConfig(), dtype, kv_cache_tokens=160, max_step_tokens=37)
    assert run(starved, wanted) == together
    assert starved.statistics().preemptions > 0


@pytest.mark.parametrize("settings", [{"optimize": False}, {"block_size": 8}])
def test_where_it_can_t_be_kept_it_is_refused(tiny_llama: Path, settings: dict[str, Any]) -> None:
    """A promise that can't be kept is not made."""
    model = ModelConfig(name=str(tiny_llama))
    config = EngineConfig(device="cpu", dtype="float32", deterministic=True, kv_cache_tokens=512, **settings)
    with pytest.raises(DependencyError, match="compiled attention kernel"):
        Engine.load(config, model, resolve_model(model))
