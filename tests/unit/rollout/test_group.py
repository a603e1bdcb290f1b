"""Groups: seeds that differ, advantages as GRPO defines them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from asynckit.rollout.group import advantages, group_seed
from asynckit.rollout.prompting.prompts import Prompt


@given(st.lists(st.floats(-100, 100), min_size=2, max_size=20))
def test_advantages_are_centred_and_keep_the_order(rewards: list[float]) -> None:
    """They add up to nothing, and a better reward never gets a smaller advantage."""
    values = [value for value in advantages(rewards) if value is not None]
    assert sum(values) == pytest.approx(0, abs=1e-6)
    ranked = [value for _, value in sorted(zip(rewards, values, strict=True))]
    assert ranked == sorted(ranked)


def test_advantages_by_hand() -> None:
    """Mean 0.5, sample deviation 1/sqrt(2); a sample without a reward does not count."""
    assert advantages([0.0, None, 1.0]) == [
        pytest.approx(-0.70711, abs=1e-5),
        None,
        pytest.approx(0.70711, abs=1e-5),
    ]
    assert advantages([3.0]) == [0.0]
    assert advantages([None]) == [None]
    assert advantages([2.0, 2.0]) == [0.0, 0.0]


def test_group_seeds_differ_by_group_and_by_run() -> None:
    """Two groups, or two seeds, never share a random stream."""
    prompts = [Prompt(i, "1+1=", None, "2", "sums", {}, f"sums:{i}") for i in (0, 1)]
    seeds = {group_seed(prompt, seed) for seed in (0, 1) for prompt in prompts}
    assert len(seeds) == 4
    assert all(0 <= seed < 2**63 for seed in seeds)
