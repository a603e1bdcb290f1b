"""What a model worker answers, with the simulated engine."""

from pathlib import Path
from typing import Any

import pytest
from msgspec import structs

from asynckit.engine.config import EngineConfig, SamplingParams
from asynckit.engine.request import Request, TokenEvent
from asynckit.engine.simulated import SimulatedEngine
from asynckit.engine.simulated_config import SimulatedConfig
from asynckit.errors import WorkFailed
from asynckit.serve.engine_steps import EngineSteps
from asynckit.serve.messages import (
    Adapter,
    Embed,
    LoadAdapter,
    Reset,
    Step,
    Stepped,
    UnloadAdapter,
    UpdateWeights,
    WasReset,
)


class _Embedding(SimulatedEngine):
    """One that makes vectors and whose step and weights can be made to fail."""

    embeds = True
    fails = False

    def embed(self, prompts_ids: Any) -> list[list[float]]:
        return [[float(len(ids)), 1.0] for ids in prompts_ids]

    def step(self) -> list[TokenEvent]:
        if self.fails:
            raise ZeroDivisionError
        return super().step()

    def update_weights(self, version: int, new: object = None, on_update: str = "keep_kv") -> None:
        if str(new) == "/torn":
            raise WorkFailed("an update broke off")
        super().update_weights(version, new, on_update)


@pytest.fixture
def engine() -> _Embedding:
    made = _Embedding.load(EngineConfig(), SimulatedConfig(clock="virtual"))
    assert isinstance(made, _Embedding)
    return made


@pytest.fixture
def steps(engine: _Embedding) -> EngineSteps:
    return EngineSteps(engine, {})


def _request(id_: str, *, n: int = 1, adapter: str | None = None, **more: object) -> Request:
    sampling = SamplingParams(ignore_eos=True, **more)  # type: ignore[arg-type]
    return Request(id_, (1, 2, 3), sampling, n=n, adapter=adapter)


def _step(steps: EngineSteps, number: int = 1, **more: object) -> Stepped:
    stepped = steps.answer(Step(number, **more))  # type: ignore[arg-type]
    assert isinstance(stepped, Stepped)
    assert stepped.number == number
    return stepped


def test_a_refused_request_touches_nobody_else(steps: EngineSteps) -> None:
    """Each gets its own reason, and the one that is right runs in the same step."""
    wrong = Request("wrong", (), SamplingParams())
    long = Request("long", tuple(range(9000)), SamplingParams())
    unknown = _request("unknown", adapter="nobody")
    stepped = _step(steps, requests=(wrong, long, unknown, _request("right")))
    assert {problem.id: problem.code for problem in stepped.problems} == {
        "wrong": "invalid",
        "long": "too_long",
        "unknown": "model_not_found",
    }
    assert [token.id for token in stepped.tokens] == ["right"]


def test_a_bug_in_one_request_is_its_own(engine: _Embedding, caplog: pytest.LogCaptureFixture) -> None:
    """What no check foresaw ends one request, and the log has the trace."""
    add = engine.add

    def add_or_break(request: Request) -> None:
        if request.id == "poison":
            raise IndexError("no such place")
        add(request)

    engine.add = add_or_break  # type: ignore[method-assign]
    stepped = _step(EngineSteps(engine, {}), requests=(_request("poison"), _request("right")))
    assert [(each.id, each.code) for each in stepped.problems] == [("poison", "internal")]
    assert [token.id for token in stepped.tokens] == ["right"]
    assert "no such place" in caplog.text


def test_an_abort_acts_in_the_very_step(steps: EngineSteps) -> None:
    """Its blocks are free when the step is reported."""
    assert _step(steps, requests=(_request("r", n=3),)).state.kv_usage > 0
    stepped = _step(steps, aborts=("r", "unknown"))
    assert [(token.sample, token.finish) for token in stepped.tokens] == [(i, "abort") for i in range(3)]
    assert (stepped.state.kv_usage, stepped.state.has_work) == (0, False)


def test_a_reset_empties_the_engine_and_tells_what_stays(engine: _Embedding) -> None:
    """Requests go; adapters, those it began with too, and weights stay and are reported."""
    engine.adapters.register("first", Path("/first"))
    steps = EngineSteps(engine, {"first": Path("/first")})
    calls = (LoadAdapter("1", "h", "second", "/second"), UpdateWeights("2", "h", 4, "/w"))
    stepped = _step(steps, requests=(_request("r", n=2, max_tokens=1000),), calls=calls)
    assert stepped.done == ("1", "2")
    was = steps.answer(Reset(2))
    both = (Adapter("first", "/first"), Adapter("second", "/second"))
    assert was == WasReset(2, both, 4, "/w", fresh=True)
    assert steps.answer(Reset(3)) == WasReset(3, both, 4, "/w", fresh=False)
    assert not engine.has_work()
    assert _step(steps, requests=(_request("r"),)).tokens  # the id is free again


def test_calls_that_fail_say_why(steps: EngineSteps) -> None:
    """Adapters and weights that can't be had are problems of their calls."""
    calls = (
        UnloadAdapter("1", "h", "nobody"),
        UpdateWeights("2", "h", 1, "/torn"),
        UpdateWeights("3", "h", 0, "/older"),
        Embed("4", "h", ((1, 2), (3,)), 0.0, 1.0),
    )
    stepped = _step(steps, calls=calls)
    assert [(each.id, each.code) for each in stepped.problems] == [
        ("1", "adapter"),
        ("2", "weights"),
        ("3", "weights"),
    ]
    assert stepped.done == ("4",)
    assert stepped.vectors == {"4": ((2.0, 1.0), (1.0, 1.0))}


def test_what_is_too_large_to_send_ends_alone(steps: EngineSteps) -> None:
    """Scores and vectors that no frame can take become errors; tokens beside them are kept."""
    stepped = _step(
        steps,
        requests=(_request("scored", n=2), _request("plain")),
        calls=(Embed("e", "h", ((1, 2),), 0.0, 1.0), LoadAdapter("l", "h", "a", "/a")),
    )
    first, *others = stepped.tokens
    scores = (None, (1, -1.0, ((1, -1.0),)))
    large = structs.replace(stepped, tokens=(structs.replace(first, prompt_logprobs=scores), *others))
    light = steps.lighten(large, 1_000)
    assert [(token.id, token.sample, token.finish) for token in light.tokens] == [
        ("scored", 0, "error"),
        ("scored", 1, None),
        ("plain", 0, None),
    ]
    assert (light.done, light.vectors) == (("l",), {})
    assert [problem.id for problem in light.problems] == ["e"]
    assert [(token.id, token.finish) for token in _step(steps).tokens] == [
        ("scored", "abort"),
        ("scored", "abort"),
        ("plain", None),
    ]


def test_a_rank_that_failed_does_not_go_on(engine: _Embedding) -> None:
    """Where others may have come further, a failed update ends the process, so that all start anew."""
    steps = EngineSteps(engine, {}, alone=False)
    with pytest.raises(WorkFailed):
        steps.answer(Step(1, calls=(UpdateWeights("2", "h", 1, "/torn"),)))


def test_a_broken_engine_is_not_hidden(engine: _Embedding) -> None:
    """An error out of a step goes on, and ends the process."""
    engine.fails = True
    with pytest.raises(ZeroDivisionError):
        EngineSteps(engine, {}).answer(Step(1, (_request("r"),)))
