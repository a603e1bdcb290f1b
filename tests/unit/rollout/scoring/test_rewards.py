"""Scores: what is one, and how the scores of components make one."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from asynckit.errors import InputError
from asynckit.rollout.prompting.prompts import Prompt
from asynckit.rollout.scoring.rewards import Failure, Reward, RewardInput, Score, as_score, evaluate, weigh

NUMBERS = st.floats(allow_nan=False, allow_infinity=False)
PROMPT = Prompt(0, "2 + 3?", None, None, "sums", {}, "f.jsonl:1")


@given(st.dictionaries(st.sampled_from("abc"), st.tuples(NUMBERS, NUMBERS), min_size=1))
def test_a_weighted_sum_is_finite_or_a_failure(parts: dict[str, tuple[float, float]]) -> None:
    """Records hold finite numbers only; every component's own value is kept unweighted."""
    weights = {name: weight for name, (weight, _) in parts.items()}
    total = weigh(weights, {name: Score(value) for name, (_, value) in parts.items()})
    if isinstance(total, Failure):
        assert "the weighted sum" in total.error
    else:
        assert math.isfinite(total.value)
        assert total.components == {name: value for name, (_, value) in parts.items()}


def test_components_keep_their_parts_under_their_names() -> None:
    """Two components may both have a part of one name."""
    scores = {"m:f": Score(1.0, {"length": 3.0}), "m:g": Score(0.5, {"length": 4.0})}
    assert weigh({"m:f": 1.0, "m:g": -2.0}, scores) == Score(
        0.0, {"m:f": 1.0, "m:f/length": 3.0, "m:g": 0.5, "m:g/length": 4.0}
    )


def test_a_component_that_fails_fails_the_sample_and_is_named() -> None:
    """Every one that failed is, once."""
    scores: dict[str, Score | Failure] = {
        "a": Score(1.0),
        "b": Failure("KeyError: 'x'"),
        "c": Failure("c: the reward is nan"),
    }
    assert weigh(dict.fromkeys(scores, 1.0), scores) == Failure("b: KeyError: 'x'; c: the reward is nan")


def test_an_error_fits_into_a_record() -> None:
    """Names that a dict returns may be endless, or no UTF-8; a record is neither."""

    def score(_: RewardInput) -> Score:
        return as_score({"\udcff\n" * 5000: 1}, "m:f")

    failure = evaluate(Reward("m:f", score), RewardInput("", PROMPT))
    assert isinstance(failure, Failure)
    assert len(failure.error.encode()) < 1000
    assert "\n" not in failure.error


def test_a_dict_without_a_score_is_none() -> None:
    """It says what it holds instead."""
    with pytest.raises(InputError, match="only acc"):
        as_score({"acc": 1}, "m:f")
