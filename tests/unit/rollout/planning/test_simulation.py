"""Runs in virtual time: nothing is lost, the bound holds, and who overlaps work is not slower for it."""

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from asynckit.engine.config import EngineConfig, SamplingParams
from asynckit.engine.request import Request
from asynckit.engine.simulated_config import SimulatedConfig
from asynckit.errors import ConfigError
from asynckit.rollout.backlog import places_for
from asynckit.rollout.config import AsyncTrainingConfig, LearnerConfig
from asynckit.rollout.planning.simulation import (
    Learning,
    Prediction,
    Setup,
    SimulatedGroup,
    simulate,
)
from asynckit.rollout.staleness import Policy, Schedule

ENGINE = EngineConfig(max_running=6, max_model_len=200, block_size=4)
SIMULATED = SimulatedConfig(
    response_tokens="lognormal(10,60)",
    step_seconds="uniform(0.5,1.5)",
    prefill_token_seconds=0.01,
    sequence_seconds=0.05,
)


def groups(count: int, n: int = 2, prompt: int = 5, max_tokens: int = 90) -> list[SimulatedGroup]:
    return [
        SimulatedGroup(Request(str(i), (i, *range(prompt)), SamplingParams(max_tokens=max_tokens, seed=i), n))
        for i in range(count)
    ]


learnings = st.builds(
    lambda batch, steps, threshold, most, policy, partial, on_update, seconds: Learning(
        Schedule(batch, batch * steps, threshold, most, policy), lambda _: seconds, partial, on_update
    ),
    batch=st.integers(1, 4),
    steps=st.integers(1, 3),
    threshold=st.sampled_from([0.0, 0.1, 0.5, 1.0, 2.5]),
    most=st.integers(0, 3),
    policy=st.sampled_from(Policy),
    partial=st.booleans(),
    on_update=st.sampled_from(["keep_kv", "recompute_kv", "restart"]),
    seconds=st.sampled_from([0.0, 3.0, 40.0]),
)
setups = st.builds(
    Setup,
    engine=st.builds(
        lambda running, cache: replace(ENGINE, max_running=running, kv_cache_tokens=cache),
        running=st.integers(1, 8),
        cache=st.sampled_from([None, None, 200, 240]),
    ),
    simulated=st.just(SIMULATED),
    replicas=st.integers(1, 3),
    places=st.integers(1, 5),
    reward_seconds=st.sampled_from([0.0, 0.0, 7.0]),
    learning=st.one_of(st.none(), learnings),
)


@settings(max_examples=200, deadline=None)
@given(setup=setups, count=st.integers(0, 25), n=st.integers(1, 4))
def test_every_group_ends_once_and_no_token_is_too_old(setup: Setup, count: int, n: int) -> None:
    """Whatever the settings, the run comes to its end, and its numbers add up."""
    found = simulate(setup, groups(count, n))
    assert sum(found.groups.values()) == count
    assert sum(found.samples.values()) == count * n
    assert all(0 <= share <= 1 for share in found.replica_idle)
    if setup.learning is None:
        assert found.groups in ({"completed": count}, {})
        assert found.learner_idle is None
        return
    rules = setup.learning.schedule
    assert found.max_age <= rules.max_staleness
    assert sum(found.ages.values()) <= found.response_tokens
    assert found.groups.get("stale") or sum(found.ages.values()) == found.response_tokens
    assert found.learner_idle is not None
    assert found.versions == found.batches * rules.batch // rules.groups_per_version
    assert rules.policy is Policy.DROP or not found.groups.get("stale")


@settings(max_examples=20, deadline=None)
@given(setup=setups)
def test_the_same_run_is_forecast_twice_alike(setup: Setup) -> None:
    """Nothing depends on hashes or the machine's clock."""
    assert simulate(setup, groups(12)) == simulate(setup, groups(12))


def learning(mode: str, **changes: object) -> Learning:
    config = replace(AsyncTrainingConfig(), **changes)  # type: ignore[arg-type]
    return Learning(Schedule.of(config, LearnerConfig(batch_size=4), mode=mode), lambda _: 20.0)


def predicted(mode: str, count: int = 96, **changes: object) -> Prediction:
    setup = Setup(ENGINE, SIMULATED, 2, places_for(6, 2), learning=learning(mode, **changes))
    return simulate(setup, groups(count))


@pytest.mark.parametrize("policy", list(Policy))
@pytest.mark.parametrize("threshold", [0.5, 1.0, 2.0])
def test_async_is_not_slower_than_sync_on_long_tails(policy: Policy, threshold: float) -> None:
    """What the whole thing is for: generation goes on while the learner trains and stragglers finish."""
    sync = predicted("sync")
    found = predicted("async", policy=policy.value, staleness_threshold=threshold)
    assert found.makespan < sync.makespan
    assert sync.ages.keys() == {0}


def test_sync_takes_turns() -> None:
    """Generation of a batch, then its training, then the next: the times add up, and no token is old."""
    equal = replace(SIMULATED, response_tokens="constant(10)", step_seconds="constant(1)", sequence_seconds=0)
    setup = Setup(replace(ENGINE, max_running=100), equal, 1, 100, learning=learning("sync"))
    found = simulate(setup, groups(32))
    prefill = 4 * 6 * 0.01
    assert found.makespan == pytest.approx(8 * (10 + prefill + 20))
    assert found.batches == found.versions == 8
    assert found.learner_idle == pytest.approx(1 - 160 / found.makespan)


def test_without_a_learner_the_makespan_is_the_engine_s() -> None:
    """One wave of equal responses takes a prefill and its decode steps, and scoring at the end."""
    equal = replace(
        SIMULATED, response_tokens="constant(10)", step_seconds="constant(1)", sequence_seconds=0.1
    )
    setup = Setup(ENGINE, equal, 1, 3, reward_seconds=2.0)
    found = simulate(setup, groups(3))
    assert found.makespan == pytest.approx(10 * (1 + 6 * 0.1) + 3 * 6 * 0.01 + 2)
    assert found.response_tokens == 60
    assert found.samples == {"completed": 6}


def test_two_replicas_share_the_work() -> None:
    """Each has its own clock; together they are about twice as fast."""
    one = simulate(Setup(ENGINE, SIMULATED, 1, 6), groups(80))
    two = simulate(Setup(ENGINE, SIMULATED, 2, 6), groups(80))
    assert 0.45 < two.makespan / one.makespan < 0.65
    assert two.response_tokens == one.response_tokens


def test_an_update_that_waits_interrupts_nobody() -> None:
    """Without partial rollouts the update waits for what runs, which can only take longer."""
    waiting = learning("async", staleness_threshold=1.0)
    setup = Setup(ENGINE, SIMULATED, 2, 6, learning=replace(waiting, partial_rollout=False))
    interrupting = replace(setup, learning=waiting)
    assert simulate(setup, groups(96)).makespan >= simulate(interrupting, groups(96)).makespan


def test_a_restarted_response_is_of_one_version() -> None:
    """With restart nothing of the old version is left in a response, at the cost of doing it again."""
    keep = learning("async", staleness_threshold=1.0)
    setup = Setup(ENGINE, SIMULATED, 2, 6, learning=keep)
    again = replace(setup, learning=replace(keep, on_update="restart"))
    kept, restarted = simulate(setup, groups(96)), simulate(again, groups(96))
    assert restarted.makespan > kept.makespan
    assert restarted.response_tokens == kept.response_tokens
    assert restarted.mean_age < kept.mean_age


def test_a_refused_prompt_fails_its_group_alone() -> None:
    """As in a run: the group ends as failed, the others go on, and the learner does without it."""
    bad = replace(groups(1)[0], request=Request("bad", tuple(range(300)), SamplingParams(), 2))
    found = simulate(Setup(ENGINE, SIMULATED, 1, 2, learning=learning("sync")), [bad, *groups(20)])
    assert found.groups == {"failed": 1, "completed": 20}
    assert found.samples["failed"] == 2


def test_lengths_of_a_recording_are_kept() -> None:
    """A replay has the recorded tokens, not drawn ones."""
    given_lengths = [replace(group, lengths=(7, 3)) for group in groups(5)]
    assert simulate(Setup(ENGINE, SIMULATED, 1, 2), given_lengths).response_tokens == 50


def test_impossible_settings_are_refused() -> None:
    """The same error as a run would give."""
    with pytest.raises(ConfigError):
        simulate(Setup(ENGINE, replace(SIMULATED, step_seconds="soon"), 1, 1), groups(1))
