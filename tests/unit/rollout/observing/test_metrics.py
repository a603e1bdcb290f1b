"""Metrics: each means what its name says, and what is undefined is not there."""

import math
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from asynckit.rollout.observing.metrics import metrics_of, percentile
from asynckit.rollout.observing.snapshot import ReplicaSnapshot, Snapshot

PAGE = (Path(__file__).parents[4] / "docs" / "metrics.md").read_text(encoding="utf-8")


def replica(name: str = "rollouter-0", *, tokens: int = 0, busy: float = 0.0) -> ReplicaSnapshot:
    return ReplicaSnapshot(name, "running", 3, 5, tokens, 10 * tokens, busy, 0)


BEFORE = Snapshot(
    seconds=10.0,
    submitted=100,
    groups={"completed": 10, "failed": 1, "cancelled": 0},
    samples={"completed": 40, "failed": 4},
    consumed=8,
    ages=Counter({0: 100, 1: 10}),
    partial_groups=2,
    reward_sum=20.0,
    reward_count=40,
    response_tokens=1000,
    learner_busy_seconds=2.0,
    replicas=(replica(tokens=1000, busy=8.0), replica("rollouter-1", tokens=500, busy=4.0)),
)
NOW = Snapshot(
    seconds=20.0,
    submitted=100,
    groups={"completed": 13, "failed": 1, "stale": 2, "cancelled": 3},
    samples={"completed": 52, "failed": 4, "stale": 8},
    in_flight=7,
    backlog=60,
    queued=3,
    learner_waiting=4,
    version=2,
    consumed=12,
    ages=Counter({0: 100, 1: 40, 2: 10}),
    partial_groups=4,
    max_partial_span=2,
    reward_sum=26.0,
    reward_count=52,
    response_tokens=1600,
    longest_response=77,
    group_seconds=(4.0, 1.0, 2.0, 3.0),
    learner_busy_seconds=9.5,
    written=48,
    replicas=(replica(tokens=3000, busy=18.0), replica("rollouter-1", tokens=1500, busy=9.0)),
)


def test_every_number_is_what_its_name_says() -> None:
    """People compare these with verl's; the arithmetic is written out once here."""
    assert metrics_of(BEFORE, NOW) == pytest.approx(
        {
            "fully_async/count/current_param_version": 2,
            "fully_async/count/total_generated_samples": 15,
            "fully_async/count/dropped_stale_samples": 2,
            "fully_async/monitor/active_tasks_size": 7,
            "fully_async/monitor/queue/pending_queue_size": 60,
            "fully_async/monitor/queue/mq_queue_size": 3,
            "fully_async/partial/total_partial_num": 2,
            "fully_async/partial/partial_ratio": 2 / 5,
            "fully_async/partial/max_partial_span": 2,
            "fully_async/processing_time/avg": 2.5,
            "fully_async/processing_time/max": 4.0,
            "fully_async/processing_time/min": 1.0,
            "fully_async/processing_time/tp50": 2.5,
            "fully_async/processing_time/tp95": 3.85,
            "fully_async/processing_time/tp99": 3.97,
            "fully_async/rollouter/active_time": 7.5,
            "fully_async/rollouter/idle_ratio": 0.25,
            "fully_async/trainer/idle_ratio": 0.25,
            "critic/score/mean": 6 / 12,
            "response_length/mean": 600 / 20,
            "response_length/max": 77,
            "rollout/tokens_per_second": 300.0,
            "rollout/prefill_tokens_per_second": 3000.0,
            "rollout/groups_per_second": 0.5,
            "rollout/reward_mean": 0.5,
            "rollout/written": 48,
            "rollout/groups/completed": 13,
            "rollout/groups/failed": 1,
            "rollout/groups/stale": 2,
            "rollout/groups/cancelled": 3,
            "rollout/samples/completed": 52,
            "rollout/samples/failed": 4,
            "rollout/samples/stale": 8,
            "learner/waiting": 4,
            "learner/consumed": 12,
            "staleness/mean": (30 + 20) / 40,
            "staleness/max": 2,
            "replica/rollouter-0/busy": 1.0,
            "replica/rollouter-0/tokens_per_second": 200.0,
            "replica/rollouter-0/in_flight": 5,
            "replica/rollouter-0/version": 3,
            "replica/rollouter-1/busy": 0.5,
            "replica/rollouter-1/tokens_per_second": 100.0,
            "replica/rollouter-1/in_flight": 5,
            "replica/rollouter-1/version": 3,
        }
    )


def test_every_name_is_on_the_page() -> None:
    """Nobody has to read the code to know what a curve is."""
    names = {
        name.replace("rollouter-0", "<name>") if name.startswith("replica/") else name
        for name in metrics_of(BEFORE, NOW)
        if "rollouter-1" not in name
    }
    for kind in ("groups", "samples"):
        names = {
            f"rollout/{kind}/<status>" if name.startswith(f"rollout/{kind}/") else name for name in names
        }
    assert [name for name in sorted(names) if f"`{name}`" not in PAGE] == []


def test_what_does_not_exist_is_left_out() -> None:
    """No mean of nothing, no rate without an interval, and no idle learner where there is none."""
    quiet = replace(BEFORE, seconds=20.0, learner_busy_seconds=0.0, consumed=0)
    absent = {
        "fully_async/partial/partial_ratio",
        "critic/score/mean",
        "response_length/mean",
        "staleness/mean",
        "fully_async/trainer/idle_ratio",
    }
    found = metrics_of(replace(BEFORE, learner_busy_seconds=0.0, consumed=0), quiet)
    assert not absent & found.keys()
    assert found["rollout/tokens_per_second"] == 0
    for previous in (None, BEFORE):
        found = metrics_of(previous, BEFORE)
        assert not [name for name in found if name.endswith(("_per_second", "idle_ratio", "active_time"))]
    assert "rollout/reward_mean" not in metrics_of(None, Snapshot(seconds=0.0, submitted=0))


def test_a_replica_that_is_new_has_no_rates_yet() -> None:
    """Its counts began before the interval, or in it; nobody knows."""
    found = metrics_of(replace(BEFORE, replicas=BEFORE.replicas[:1]), NOW)
    assert "replica/rollouter-1/busy" not in found
    assert found["rollout/tokens_per_second"] == 200.0
    assert "fully_async/rollouter/idle_ratio" not in metrics_of(replace(BEFORE, replicas=()), NOW)


def test_clocks_that_disagree_give_no_impossible_shares() -> None:
    """A replica's seconds and the runner's are read at different moments."""
    busier = replace(NOW, replicas=(replica(busy=30.0),), learner_busy_seconds=100.0)
    found = metrics_of(BEFORE, busier)
    assert found["fully_async/rollouter/idle_ratio"] == 0
    assert found["fully_async/trainer/idle_ratio"] == 0


@given(values=st.lists(st.floats(-1e6, 1e6), min_size=1), share=st.floats(0, 1))
def test_percentiles_are_numpys(values: list[float], share: float) -> None:
    """As verl computes them."""
    import numpy as np

    expected = np.percentile(values, share * 100)
    assert math.isclose(percentile(sorted(values), share), expected, rel_tol=1e-9, abs_tol=1e-6)
