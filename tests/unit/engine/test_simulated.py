"""The simulated engine: the engine's interface and schedule, with times and lengths that are given."""

import asyncio
import re
import subprocess
import sys
import threading
from collections import defaultdict
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from asynckit.engine.config import EngineConfig, SamplingParams
from asynckit.engine.request import Finish, OnUpdate, Request, TokenEvent
from asynckit.engine.simulated import SimulatedEngine
from asynckit.engine.simulated_config import SimulatedConfig
from asynckit.errors import ConfigError, InputError, RequestError

ENGINE = EngineConfig(max_running=4, max_step_tokens=16, max_model_len=64, block_size=4, kv_cache_tokens=160)
SIMULATED = SimulatedConfig(
    response_tokens="uniform(1,30)",
    step_seconds="constant(1)",
    prefill_token_seconds=0.125,
    sequence_seconds=0.03125,
    clock="virtual",
    vocabulary=50,
)
PARAMS = SamplingParams(max_tokens=20)


def load(config: EngineConfig = ENGINE, **changes: Any) -> SimulatedEngine:
    return SimulatedEngine.load(config, replace(SIMULATED, **changes))


Seen = dict[tuple[str, int], list[TokenEvent]]


def drain(engine: SimulatedEngine, seen: Seen | None = None) -> Seen:
    seen = defaultdict(list) if seen is None else seen
    while engine.has_work():
        for event in engine.step():
            seen[event.request_id, event.sample_index].append(event)
    return seen


def tokens_of(events: list[TokenEvent]) -> list[int]:
    return [event.token_id for event in events if event.token_id is not None]


shapes = st.lists(
    st.tuples(st.integers(1, 40), st.integers(1, 6), st.integers(1, 24), st.booleans()), max_size=10
)


@given(shapes, st.lists(st.tuples(st.booleans(), st.integers(0, 30)), max_size=40))
def test_every_sample_ends_once_whatever_arrives_and_is_aborted(
    shapes: list[tuple[int, int, int, bool]], turns: list[tuple[bool, int]]
) -> None:
    """Each sample has events up to one that ends it, right for its limits, and the cache is empty after.

    Before each of the first steps a request may arrive, and one may be aborted; later one arrives each time.
    """
    engine, seen = load(), defaultdict(list)
    arriving = [
        Request(str(i), (7,) * prompt, SamplingParams(max_tokens=limit, ignore_eos=ignore, seed=i), n)
        for i, (prompt, n, limit, ignore) in enumerate(shapes)
    ]
    waiting = list(arriving)
    while waiting or engine.has_work():
        arrives, aborted = turns.pop(0) if turns else (True, len(arriving))
        if arrives and waiting:
            engine.add(waiting.pop())
        if aborted < len(arriving):
            engine.abort(arriving[aborted].id)
        for event in engine.step():
            seen[event.request_id, event.sample_index].append(event)
    assert set(seen) == {(r.id, index) for r in arriving for index in range(r.n)}
    for (name, _), events in seen.items():
        assert [bool(e.finish) for e in events] == [False] * (len(events) - 1) + [True]
        params, count = arriving[int(name)].sampling, len(tokens_of(events))
        assert count <= params.max_tokens
        assert (events[-1].finish is Finish.STOP) == (tokens_of(events)[-1:] == [2])
        assert events[-1].finish is not Finish.LENGTH or count == params.max_tokens
        assert not (params.ignore_eos and events[-1].finish is Finish.STOP)
    assert engine.statistics().kv_usage == 0


@given(st.permutations(range(6)), st.integers(1, 5))
def test_a_sample_is_the_same_in_any_order_and_company(order: list[int], max_running: int) -> None:
    """Tokens, logprobs and lengths follow from the request alone, so totals can be reproduced."""
    requests = [Request(str(i), (i + 3,) * (i + 1), replace(PARAMS, seed=i), n=2) for i in range(6)]
    together = load(replace(ENGINE, max_running=max_running))
    for index in order:
        together.add(requests[index])
    seen = drain(together)
    for request in requests:
        alone = load()
        alone.add(request)
        for key, events in drain(alone).items():
            assert events == seen[key]


def test_lengths_differ_between_samples_prompts_and_seeds() -> None:
    """Whatever makes a sample different in the engine makes its length differ here."""
    engine = load(replace(ENGINE, kv_cache_tokens=None), response_tokens="uniform(1,40)")
    params = SamplingParams(max_tokens=50)
    requests = [
        Request("a", (5,), params, n=9),
        Request("b", (6,), params, n=9),
        Request("c", (5,), replace(params, seed=1), n=9),
    ]
    for request in requests:
        engine.add(request)
    lengths = {key: len(events) for key, events in drain(engine).items()}
    groups = [tuple(lengths[name, index] for index in range(9)) for name in "abc"]
    assert len(set(groups)) == 3
    assert all(len(set(group)) > 1 for group in groups)


def test_time_is_the_latency_model_s() -> None:
    """One prompt of 10 tokens and 3 sampled ones: a step of prefill and two of one token."""
    engine = load(response_tokens="constant(3)")
    engine.add(Request("r", (5,) * 10, PARAMS))
    times = []
    while engine.has_work():
        engine.step()
        times.append(engine.clock.now())
    assert times == [1 + 1.25 + 0.03125, 2 + 1.25 + 2 * 0.03125, 3 + 1.25 + 3 * 0.03125]


def test_a_group_pays_for_its_prompt_once_and_for_every_sample() -> None:
    """Three samples of 2 tokens over a 10-token prompt: one prefill, then three sequences twice."""
    engine = load(response_tokens="constant(2)")
    engine.add(Request("r", (5,) * 10, PARAMS, n=3))
    drain(engine)
    assert engine.clock.now() == 2 * 1 + 10 * 0.125 + 2 * 3 * 0.03125
    assert engine.statistics().prefilled_tokens == 10


def test_a_long_prompt_takes_several_steps() -> None:
    """40 prompt tokens under a budget of 16 a step are three steps; the first token comes with the third."""
    engine = load(response_tokens="constant(1)")
    engine.add(Request("r", (5,) * 40, PARAMS))
    assert [len(engine.step()) for _ in range(3)] == [0, 0, 1]
    assert engine.clock.now() == 3 * (1 + 0.03125) + 40 * 0.125


def test_step_times_can_be_drawn() -> None:
    """Steps of random length are reproduced by the seed, and differ with it."""

    def total(seed: int) -> float:
        engine = load(step_seconds="lognormal(1,3)", seed=seed)
        engine.add(Request("r", (5,), PARAMS))
        drain(engine)
        return engine.clock.now()

    assert total(1) == total(1) != total(2)


def test_stop_tokens_end_a_sample() -> None:
    """A stop token among the drawn ones ends the sample, as in the engine."""
    params = SamplingParams(max_tokens=20, ignore_eos=True)
    engine = load()
    engine.add(Request("free", (5,), params))
    free = tokens_of(drain(engine)["free", 0])
    engine.add(Request("stopped", (5,), replace(params, stop_token_ids=(free[4],))))
    events = drain(engine)["stopped", 0]
    assert tokens_of(events) == free[: free.index(free[4]) + 1]
    assert events[-1].finish is Finish.STOP


def test_tokens_carry_the_version_that_sampled_them() -> None:
    """A learner reads the policy version from the events."""
    engine = load()
    engine.add(Request("r", (5,), SamplingParams(max_tokens=2, ignore_eos=True)))
    first = engine.step()
    engine.update_weights(7)
    assert [event.version for event in first + engine.step()] == [0, 7]


def test_a_small_cache_preempts_and_changes_no_sample() -> None:
    """What runs out of cache costs time, as in the engine, and nothing else."""
    params = SamplingParams(max_tokens=40, ignore_eos=True)
    requests = [Request(str(i), (i + 3,) * 20, params) for i in range(4)]
    small, large = load(), load(replace(ENGINE, kv_cache_tokens=None))
    for request in requests:
        small.add(request)
        large.add(request)
    assert drain(small) == drain(large)
    assert small.statistics().preemptions > large.statistics().preemptions == 0
    assert small.clock.now() > large.clock.now()


@pytest.mark.parametrize("on_update", list(OnUpdate))
def test_new_weights_do_to_running_requests_what_was_asked(on_update: OnUpdate) -> None:
    """They go on, compute all again, or end; versions of tokens grow with the weights'."""
    engine = load()
    engine.add(Request("r", (5,) * 10, SamplingParams(max_tokens=3, ignore_eos=True)))
    first = engine.step()
    engine.update_weights(4, on_update=on_update)
    events = first + drain(engine)["r", 0]
    versions = {OnUpdate.ABORT: [0, 4]}.get(on_update, [0, 4, 4])
    assert [event.version for event in events] == versions
    assert events[-1].finish is (Finish.ABORT if on_update is OnUpdate.ABORT else Finish.LENGTH)
    recomputed = 11 if on_update is OnUpdate.RECOMPUTE_KV else 0
    assert engine.statistics().prefilled_tokens == 10 + recomputed
    for version, words in ((4, "is not above"), (float("nan"), "must be an integer"), ("5", "integer")):
        with pytest.raises(InputError, match=words):
            engine.update_weights(version)  # type: ignore[arg-type]
    with pytest.raises(InputError, match="on_update must be one of"):
        engine.update_weights(5, on_update="whatever")
    assert engine.version == 4


def test_adapters_keep_prefixes_apart() -> None:
    """A cached prefix is reused under the same registration of the same adapter, and under no other."""
    engine = load()
    for name in ("a", "b"):
        engine.adapters.register(name, Path("nowhere"))

    def found(name: str, adapter: str | None) -> int:
        before = engine.statistics().prefix_hit_tokens
        engine.add(Request(name, (5,) * 13, replace(PARAMS, max_tokens=1), adapter=adapter))
        drain(engine)
        return engine.statistics().prefix_hit_tokens - before

    assert [found("1", "a"), found("2", "a"), found("3", "b"), found("4", None)] == [0, 12, 0, 0]
    engine.adapters.unregister("a")
    with pytest.raises(RequestError, match="no adapter 'a' is registered"):
        found("5", "a")
    engine.adapters.register("a", Path("nowhere"))
    assert engine.adapters.names() == ("b", "a")
    assert [found("6", "a"), found("7", "b")] == [0, 12]


@pytest.mark.parametrize("act", ["unregister", "pin", "unpin"])
def test_what_is_done_to_an_unknown_adapter_is_refused(act: str) -> None:
    """A wrong name is found here as in the engine."""
    with pytest.raises(InputError, match="no adapter of this name"):
        getattr(load().adapters, act)("a")


@given(st.integers(0, 20))
def test_a_sample_has_at_least_the_tokens_asked_for(least: int) -> None:
    """Neither its drawn length nor a stop token ends it before min_tokens."""
    engine = load(response_tokens="constant(1)")
    params = SamplingParams(max_tokens=30, min_tokens=least, stop_token_ids=tuple(range(50)))
    engine.add(Request("r", (5,), params))
    events = drain(engine)["r", 0]
    assert len(events) == least + 1
    assert events[-1].finish is Finish.STOP


async def test_the_driver_runs_it_on_the_real_clock() -> None:
    """Whoever awaits the engine's driver can await a simulated engine in the same way."""
    from asynckit.engine.driver import EngineDriver

    engine = load(clock="real", step_seconds="constant(0.001)", prefill_token_seconds=0, sequence_seconds=0)
    begin = engine.clock.now()
    driver = EngineDriver(engine)
    params = SamplingParams(max_tokens=8, ignore_eos=True)
    results = await asyncio.gather(*(driver.generate(Request(str(i), (5,), params, n=2)) for i in range(4)))
    assert [[len(c.token_ids) for c in completions] for completions in results] == [[8, 8]] * 4
    assert engine.clock.now() - begin >= 16 * 0.001  # eight samples, four at a time
    with pytest.raises(RequestError, match="prompt is empty"):
        await driver.generate(Request("empty", ()))
    await driver.close()


def test_close_ends_a_step_that_waits() -> None:
    """Nobody waits for a step that would take years."""
    engine = load(clock="real", step_seconds="constant(1e9)")
    engine.add(Request("r", (5,), PARAMS))
    thread = threading.Thread(target=engine.step)
    thread.start()
    engine.close()
    thread.join()
    assert not engine.has_work()
    assert engine.step() == []
    with pytest.raises(RequestError, match="closed"):
        engine.add(Request("late", (5,)))


@pytest.mark.parametrize(
    ("request_", "words"),
    [
        (Request("r", ()), "prompt is empty"),
        (Request("r", (50,)), "outside the vocabulary"),
        (Request("r", (-1,)), "outside the vocabulary"),
        (Request("r", (5,) * 64), "no room for a response"),
        (Request("r", (5,), n=0), "n must be at least 1"),
        (Request("r", (5,), replace(PARAMS, temperature=float("nan"))), "temperature must be a finite"),
        (Request("r", (5,), replace(PARAMS, stop=("",))), "stop string must not be empty"),
        (Request("taken", (5,)), "already running"),
        (Request("r", (5,), replace(PARAMS, regex="a+")), "has no regex"),
        (Request("r", (5,), replace(PARAMS, json_schema="{}")), "has no json_schema"),
        (Request("r", (5,), replace(PARAMS, allowed_token_ids=(7,))), "has no allowed_token_ids"),
        (Request("r", (5,), replace(PARAMS, top_logprobs=1)), "has no top_logprobs"),
        (Request("r", (5,), replace(PARAMS, prompt_logprobs=0)), "has no prompt_logprobs"),
    ],
)
def test_bad_requests_are_refused_as_by_the_engine(request_: Request, words: str) -> None:
    """A load test finds a wrong request before a model does."""
    engine = load()
    engine.add(Request("taken", (5,), PARAMS))
    with pytest.raises(RequestError, match=words):
        engine.add(request_)


def test_a_request_that_can_never_fit_the_cache_is_refused() -> None:
    """Waiting for room that never comes would hang."""
    with pytest.raises(RequestError, match="KV cache"):
        load(replace(ENGINE, kv_cache_tokens=16)).add(Request("r", (5,) * 10, PARAMS))


def test_a_trace_gives_the_lengths(tmp_path: Path) -> None:
    """What was recorded is what comes out."""
    file = tmp_path / "lengths.jsonl"
    file.write_text('{"prompt_tokens": 3, "response_tokens": 11}\n')
    engine = load(response_tokens=f"trace({file})")
    engine.add(Request("r", (5,) * 3, PARAMS))
    assert len(drain(engine)["r", 0]) == 11
    with pytest.raises(InputError, match="can't be read"):
        load(response_tokens="trace(nowhere.jsonl)")


@pytest.mark.parametrize(
    ("config", "changes", "words"),
    [
        (ENGINE, {"response_tokens": "many"}, "no distribution"),
        (ENGINE, {"step_seconds": "trace(x)"}, "no distribution"),
        (ENGINE, {"clock": "sun"}, "one of real, virtual"),
        (ENGINE, {"eos_token_id": 50}, "outside the vocabulary"),
        (ENGINE, {"max_model_len": 32}, "made for 32 tokens"),
        (ENGINE, {"sequence_seconds": float("inf")}, "finite"),
        (replace(ENGINE, max_running=0), {}, "max_running must be at least 1"),
    ],
)
def test_impossible_settings_are_refused(config: EngineConfig, changes: dict[str, Any], words: str) -> None:
    """Each is named before anything runs."""
    with pytest.raises(ConfigError, match=words):
        load(config, **changes)


def test_it_runs_without_torch() -> None:
    """A plan or a load test needs no model framework."""
    code = "import sys, asynckit.engine.simulated; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_the_page_s_example_runs(capsys: pytest.CaptureFixture[str]) -> None:
    """What the page shows first works when it is pasted."""
    page = Path(__file__).parents[3] / "docs" / "simulated.md"
    code = page.read_text(encoding="utf-8").split("```python\n")[1].split("```")[0]
    exec(compile(code, page.name, "exec"), {})  # noqa: S102 - our own documentation
    assert " s, Statistics(" in capsys.readouterr().out


def test_the_page_has_every_setting_with_its_default() -> None:
    """A default that changes has to change on the page."""
    page = (Path(__file__).parents[3] / "docs" / "simulated.md").read_text(encoding="utf-8")
    for part in fields(SimulatedConfig):
        default = str(part.default)
        assert re.search(rf"^\| `{part.name}` \| `?{re.escape(default)}`? \|", page, re.MULTILINE), part.name
