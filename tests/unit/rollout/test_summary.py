"""The summary: true counts, true percentiles, the right end."""

import io
from collections import Counter
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from asynckit.errors import Interrupted, WorkFailed
from asynckit.rollout.summary import Summary, percentile, render_table

DONE = Summary(
    status="done",
    groups={"completed": 3, "failed": 1, "stale": 0, "filtered": 0, "cancelled": 0},
    samples={"completed": 6, "failed": 2},
    wanted=4,
    submitted=4,
    versions=0,
    staleness={},
    mean_reward=0.5,
    response_tokens=100,
    tokens_per_second=10.0,
    response_length_p50=12,
    response_length_p95=30,
    idle_ratio=0.1,
    seconds=12.0,
    files=["trajectories/part-000000.parquet"],
    errors={"ValueError: no": 2},
    folder="runs/x",
)


@given(st.lists(st.integers(0, 50), min_size=1, max_size=40), st.sampled_from([0.01, 0.5, 0.95, 1.0]))
def test_percentiles_are_nearest_rank(values: list[int], share: float) -> None:
    """At least the share of values is at or below it, and it is one of them."""
    found = percentile(Counter(values), share)
    assert found in values
    assert sum(value <= found for value in values) >= share * len(values)
    assert sum(value < found for value in values) < share * len(values)


def test_failures_beyond_the_allowed_end_the_command() -> None:
    """With the count, the commonest reason and how to allow them."""
    DONE.raise_for_failures(2)
    with pytest.raises(WorkFailed, match="2 of 8 samples failed; 2 of them with: ValueError: no"):
        DONE.raise_for_failures(1)


def test_an_interrupted_run_says_what_is_kept() -> None:
    """130 is not 0, and the person learns where the finished part is."""
    with pytest.raises(Interrupted, match="stopped after 4 of 4 groups"):
        replace(DONE, status="interrupted").raise_for_failures(10)


def test_the_table_has_every_number_a_person_asks_for() -> None:
    """Status, counts, reward, speed, lengths, idleness and where the files are."""
    from rich.console import Console

    console = Console(width=100, record=True, file=io.StringIO())
    console.print(render_table(DONE))
    text = console.export_text()
    for words in (
        "3 completed, 1 failed of 4",
        "0.5000",
        "10.0 per second",
        "p50 12, p95 30",
        "10.0%",
        "12.0 s",
    ):
        assert words in text
