"""The built-in rewards: what they accept, and which one suits which prompts."""

from typing import Any

import pytest

from asynckit.errors import InputError
from asynckit.rollout.config import PromptsConfig
from asynckit.rollout.prompting.prompts import Prompt, load_prompts
from asynckit.rollout.scoring.built_in_rewards import choose_reward
from asynckit.rollout.scoring.reward_loading import load_reward
from asynckit.rollout.scoring.rewards import RewardInput, Score


def prompt(truth: Any = None, **extra: Any) -> Prompt:
    return Prompt(0, "2 + 3?", None, truth, "sums", extra, "f.jsonl:1")


def score(name: str, response: str, truth: Any) -> float:
    return load_reward(name)(RewardInput(response, prompt(truth))).value


@pytest.mark.parametrize(
    ("truth", "response", "value"),
    [
        (5, "it is 5", 1.0),
        ("5.0", "it is 5", 1.0),
        (1e-05, "0.00001", 1.0),
        ("1,000", "1000", 1.0),
        ("reasoning ... #### 42", "42", 1.0),
        (0.1, "0.10000000000000001", 0.0),
        (5, "it is 6", 0.0),
        (5, "no idea", 0.0),
        (9007199254740993, "9007199254740992", 0.0),
    ],
)
def test_last_number_against_the_ground_truth(truth: Any, response: str, value: float) -> None:
    """Equal as numbers, exactly, and nothing said is nothing earned."""
    assert score("last_number", response, truth) == value


@pytest.mark.parametrize(
    ("truth", "response", "value"),
    [(" yes ", "yes\n", 1.0), ("yes", "Yes", 0.0), (5, "5", 1.0), (True, "true", 1.0), ("", "", 1.0)],
)
def test_exact_match(truth: Any, response: str, value: float) -> None:
    """Only surrounding space is forgiven; values that are no text compare as JSON."""
    assert score("exact_match", response, truth) == value


def test_reasoning_gym_scores_with_the_tasks_own_verifier() -> None:
    """The answer may stand alone or in <answer> tags, of which the last counts."""
    for item in load_prompts(PromptsConfig(source="reasoning_gym:chain_sum", size=3)):
        reward = load_reward("reasoning_gym")
        assert reward(RewardInput(f" {item.ground_truth}\n", item)).value == 1.0
        tagged = f"<answer>1</answer> no: <answer> {item.ground_truth} </answer>."
        assert reward(RewardInput(tagged, item)).value == 1.0
        assert reward(RewardInput("no idea", item)).value < 1.0


def test_an_answer_that_a_verifier_cannot_parse_scores_zero_visibly() -> None:
    """Some verifiers raise on nonsense; a model's nonsense must not count as a failure of the run."""
    (item,) = load_prompts(PromptsConfig(source="reasoning_gym:prime_factorization", size=1))
    assert load_reward("reasoning_gym")(RewardInput("nonsense", item)) == Score(0.0, {"verifier_error": 1.0})


def test_none_gives_zero_to_everything() -> None:
    """Generation without scoring is a use of its own."""
    assert score("none", "anything", None) == 0.0


@pytest.mark.parametrize(
    ("truths", "chosen"),
    [([5, "6", "#### 7"], "last_number"), ([5, "six"], "exact_match"), ([True], "exact_match")],
)
def test_auto_chooses_by_the_ground_truths(truths: list[Any], chosen: str) -> None:
    """Numbers compare as numbers only when all of them are numbers."""
    assert choose_reward("auto", [prompt(truth) for truth in truths]) == chosen


def test_auto_takes_a_tasks_own_verifier() -> None:
    """reasoning-gym prompts bring their verifier, even for tasks without a single right answer."""
    prompts = load_prompts(PromptsConfig(source="reasoning_gym:rush_hour", size=1))
    assert choose_reward("auto", prompts) == "reasoning_gym"


@pytest.mark.parametrize(
    ("name", "truth"), [("auto", None), ("exact_match", None), ("last_number", "six"), ("reasoning_gym", 5)]
)
def test_a_reward_that_does_not_suit_a_prompt_is_refused_at_that_prompt(name: str, truth: Any) -> None:
    """Better refused at the start than a run of zeros."""
    with pytest.raises(InputError, match="--reward") as caught:
        choose_reward(name, [prompt(truth)])
    assert caught.value.where == "f.jsonl:1"


@pytest.mark.parametrize("name", ["none", "module:function"])
def test_other_rewards_suit_every_prompt(name: str) -> None:
    """What a person's function needs is its own affair."""
    assert choose_reward(name, [prompt()]) == name
