"""The simulated engine in stretches: nothing but its speed differs from the one that goes token by token."""

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from asynckit.engine.config import EngineConfig, SamplingParams
from asynckit.engine.fast_simulated import Ended, FastSimulatedEngine
from asynckit.engine.request import Finish, OnUpdate, Request
from asynckit.engine.simulated import SimulatedEngine
from asynckit.engine.simulated_config import SimulatedConfig
from asynckit.errors import ConfigError, RequestError

SIMULATED = SimulatedConfig(
    response_tokens="uniform(1,60)",
    step_seconds="uniform(0.5,2)",
    prefill_token_seconds=0.125,
    sequence_seconds=0.03125,
    clock="virtual",
)

# (when, what): a request, or the next version's weights
Act = tuple[float, Request | OnUpdate]
End = tuple[float, str, int, Finish, tuple[tuple[int, int], ...]]

requests = st.builds(
    lambda prompt, shared, n, params: Request("", tuple(range(shared)) + (49,) * prompt, params, n=n),
    prompt=st.integers(1, 20),
    shared=st.integers(0, 12),
    n=st.integers(1, 6),
    params=st.builds(
        SamplingParams,
        max_tokens=st.integers(10, 40),
        min_tokens=st.integers(0, 10),
        ignore_eos=st.booleans(),
    ),
)
acts = st.lists(
    st.tuples(
        st.floats(0, 80),
        st.one_of(requests, requests, requests, st.sampled_from([OnUpdate.KEEP_KV, OnUpdate.RECOMPUTE_KV])),
    ),
    max_size=14,
).map(lambda found: sorted(found, key=lambda act: act[0]))
configs = st.builds(
    EngineConfig,
    max_running=st.integers(1, 9),
    max_step_tokens=st.sampled_from([1, 3, 8, 16, 64]),
    prefill_chunk=st.sampled_from([None, None, 1, 4, 12]),
    max_model_len=st.just(72),
    block_size=st.sampled_from([1, 4, 16]),
    kv_cache_tokens=st.sampled_from([None, 80, 96, 160, 400]),
)


def act_on(engine: Any, what: Request | OnUpdate, number: int) -> None:
    if isinstance(what, Request):
        # As in a run, no two requests have the same seed, so that their tokens differ.
        engine.add(replace(what, id=str(number), sampling=replace(what.sampling, seed=number)))
    elif isinstance(engine, SimulatedEngine):
        engine.update_weights(number + 1, on_update=what)
    else:
        engine.update_weights(number + 1, what)


def plainly(config: EngineConfig, todo: list[Act], simulated: SimulatedConfig = SIMULATED) -> list[End]:
    """Every sample's end, step by step."""
    engine = SimulatedEngine.load(config, simulated)
    versions: dict[tuple[str, int], list[int]] = {}
    ends: list[End] = []
    waiting = list(enumerate(todo))
    while waiting or engine.has_work():
        if not engine.has_work():
            engine.clock.advance(waiting[0][1][0] - engine.clock.now())
        while waiting and waiting[0][1][0] <= engine.clock.now():
            number, (_, what) = waiting.pop(0)
            act_on(engine, what, number)
        for event in engine.step() if engine.has_work() else ():
            key = (event.request_id, event.sample_index)
            versions.setdefault(key, []).append(event.version)
            if event.finish:
                ends.append((engine.clock.now(), *key, event.finish, spans_of(versions[key])))
    return ends


def spans_of(versions: list[int]) -> tuple[tuple[int, int], ...]:
    return tuple((version, versions.count(version)) for version in sorted(set(versions)))


def quickly(config: EngineConfig, todo: list[Act], simulated: SimulatedConfig = SIMULATED) -> list[End]:
    """Every sample's end, in stretches that are cut where something is to be done."""
    engine = FastSimulatedEngine(config, simulated)
    now, ends = 0.0, []
    waiting = list(enumerate(todo))
    while waiting or engine.has_work():
        if not engine.has_work():
            now = max(now, waiting[0][1][0])
        while waiting and waiting[0][1][0] <= now:
            number, (_, what) = waiting.pop(0)
            act_on(engine, what, number)
        if engine.has_work():
            then = engine.begin(now)
            if waiting and waiting[0][1][0] < then:
                then = engine.cut(waiting[0][1][0])
            now = then
            ends += [(now, e.request_id, e.sample_index, e.finish, e.spans) for e in engine.end()]
    return ends


@settings(max_examples=200, deadline=None)
@given(config=configs, todo=acts)
@example(
    config=EngineConfig(max_running=4, max_step_tokens=64, max_model_len=72, kv_cache_tokens=96), todo=[]
)
def test_stretches_change_nothing(config: EngineConfig, todo: list[Act]) -> None:
    """Ends, their order, times, reasons and versions: with prefixes, preemption and updates."""
    expected, found = plainly(config, todo), quickly(config, todo)
    assert [end[1:] for end in found] == [end[1:] for end in expected]
    assert [end[0] for end in found] == pytest.approx([end[0] for end in expected])


@settings(max_examples=100, deadline=None)
@given(
    stops=st.sets(st.integers(0, 49), min_size=1, max_size=5),
    seed=st.integers(0, 49),
    least=st.integers(0, 9),
)
def test_stop_tokens_end_samples_where_they_would(stops: set[int], seed: int, least: int) -> None:
    """Which tokens are drawn is known beforehand."""
    params = SamplingParams(max_tokens=30, stop_token_ids=tuple(stops), min_tokens=least)
    todo: list[Act] = [(float(i), Request("", (1, 2, seed), params, n=3)) for i in range(3)]
    few = replace(SIMULATED, vocabulary=50)
    expected, found = plainly(EngineConfig(), todo, few), quickly(EngineConfig(), todo, few)
    assert [end[1:] for end in found] == [end[1:] for end in expected]


def test_a_long_decode_is_one_stretch() -> None:
    """What nobody disturbs costs two steps however long it is: the prompt's, and all the rest."""
    engine = FastSimulatedEngine(EngineConfig(), replace(SIMULATED, step_seconds="constant(1)"))
    engine.add(Request("a", (1, 2), SamplingParams(max_tokens=1000, ignore_eos=True)))
    first = engine.begin(0.0)
    assert engine.end() == []
    last = engine.begin(first)
    assert last - first == pytest.approx(999 * 1.03125)
    assert engine.end() == [Ended("a", 0, Finish.LENGTH, ((0, 1000),))]
    assert engine.sampled_tokens == 1000
    assert engine.busy_seconds == pytest.approx(last)


def test_lengths_can_be_given() -> None:
    """A recorded run is replayed with the lengths that it had."""
    engine = FastSimulatedEngine(EngineConfig(), SIMULATED)
    engine.add(Request("a", (1,), n=2), lengths=(5, 9))
    now, found = 0.0, {}
    while engine.has_work():
        now = engine.begin(now)
        found.update({end.sample_index: end.tokens for end in engine.end()})
    assert found == {0: 5, 1: 9}


def test_what_the_engine_refuses_is_refused() -> None:
    """A forecast must not be rosier than the run."""
    engine = FastSimulatedEngine(EngineConfig(max_model_len=8), SIMULATED)
    with pytest.raises(RequestError, match="leaves no room"):
        engine.add(Request("a", tuple(range(8))))
    assert not engine.has_work()
    with pytest.raises(ConfigError):
        FastSimulatedEngine(EngineConfig(), replace(SIMULATED, step_seconds="sometimes"))


def test_an_aborted_request_leaves_nothing_behind() -> None:
    """A request that starts again under new weights is first dropped whole."""
    engine = FastSimulatedEngine(EngineConfig(), SIMULATED)
    engine.add(Request("a", (1, 2, 3), n=3))
    engine.begin(0.0)
    engine.end()
    engine.abort("a")
    engine.abort("b")
    assert not engine.has_work()
    assert engine.statistics().kv_usage == 0
