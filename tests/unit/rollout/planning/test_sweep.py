"""The sweep: it tries what may be tried, and recommends what a person can paste."""

from dataclasses import replace

from asynckit.config.load import load_config
from asynckit.engine.config import EngineConfig, SamplingParams
from asynckit.engine.request import Request
from asynckit.engine.simulated_config import SimulatedConfig
from asynckit.rollout.config import AsyncTrainingConfig, LearnerConfig
from asynckit.rollout.planning.simulation import Setup, SimulatedGroup
from asynckit.rollout.planning.sweep import Knobs, Sweep, learning_of, sweep

LEARNER = LearnerConfig(kind="simulated", batch_size=2, step_seconds="constant(3)")
SIMULATED = SimulatedConfig(response_tokens="lognormal(10,80)")


def swept(settings: AsyncTrainingConfig, mode: str = "async") -> Sweep:
    groups = [
        SimulatedGroup(Request(str(i), (i, 1, 2), SamplingParams(max_tokens=100, seed=i), 4))
        for i in range(60)
    ]
    present = Knobs(mode, settings)
    setup = Setup(EngineConfig(max_running=16), SIMULATED, 2, 8, learning=learning_of(present, LEARNER))
    found = sweep(setup, groups, present, LEARNER)
    assert found
    return found


def test_the_tries_are_sorted_and_compared_with_sync() -> None:
    """The present settings and sync are among them, each once."""
    found = swept(AsyncTrainingConfig(staleness_threshold=0.3))
    lines = [each.knobs.line() for each in found.tries]
    assert len(set(lines)) == len(lines)
    assert Knobs("async", AsyncTrainingConfig(staleness_threshold=0.3)).line() in lines
    spans = [each.prediction.makespan for each in found.tries]
    assert spans == sorted(spans)
    sync = found.tries[lines.index("rollout.mode=sync")]
    assert sync.speed_up == 1
    assert found.best.speed_up > 1
    assert found.groups == 60


def test_the_recommendation_drops_nothing_and_can_be_pasted() -> None:
    """Its line is settings that load, and load to what was tried."""
    best = swept(AsyncTrainingConfig()).best
    assert not best.prediction.groups.get("stale")
    root = load_config(overrides=best.knobs.line().split(), environ={}).root
    assert root.rollout.mode == best.knobs.mode
    assert root.async_training == best.knobs.settings


def test_a_bound_that_is_set_is_kept() -> None:
    """Nobody is told to train on older tokens than they allow."""
    found = swept(AsyncTrainingConfig(max_staleness=1))
    assert max(each.prediction.max_age for each in found.tries) <= 1
    assert max(each.knobs.settings.staleness_threshold for each in found.tries) <= 1
    none = swept(AsyncTrainingConfig(max_staleness=0))
    assert max(each.prediction.max_age for each in none.tries) == 0


def test_a_run_that_is_sync_is_told_what_async_would_do() -> None:
    """The present settings count as sync then."""
    found = swept(AsyncTrainingConfig(), mode="sync")
    assert sum(each.knobs.mode == "sync" for each in found.tries) == 1
    assert found.best.knobs.mode == "async"


def test_without_a_learner_there_is_nothing_to_try() -> None:
    """Generation alone doesn't depend on these settings."""
    setup = Setup(EngineConfig(), SIMULATED, 1, 4)
    assert sweep(setup, [], Knobs("async", AsyncTrainingConfig()), replace(LEARNER, kind="none")) is None
