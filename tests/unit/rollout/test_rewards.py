"""Rewards: what the built-ins accept, which one suits which prompts, and what a wrong function costs."""

from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from asynckit.errors import InputError
from asynckit.rollout.config import PromptsConfig
from asynckit.rollout.prompts import Prompt, load_prompts
from asynckit.rollout.rewards import (
    Failure,
    Reward,
    RewardInput,
    Score,
    choose_reward,
    evaluate,
    last_number,
    load_reward,
)


def prompt(truth: Any = None, **extra: Any) -> Prompt:
    return Prompt(0, "2 + 3?", None, truth, "sums", extra, "f.jsonl:1")


def score(name: str, response: str, truth: Any) -> float:
    return load_reward(name)(RewardInput(response, prompt(truth))).value


def user_reward(folder: Path, code: str, name: str = "score") -> Reward:
    """A reward from a module named after the test's folder, so that modules never collide."""
    module = "reward_" + folder.name.replace("-", "_")
    (folder / f"{module}.py").write_text(code)
    return load_reward(f"{module}:{name}", import_paths=[str(folder)])


@pytest.fixture(autouse=True)
def _own_path(monkeypatch: pytest.MonkeyPatch) -> None:
    """Loading puts folders on sys.path; each test gives them back."""
    monkeypatch.syspath_prepend(".")


# --- built-ins ---


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("The answer is 5.", "5"),
        ("first 3, then 4", "4"),
        ("1,234,567.50 dollars", "1234567.50"),
        ("-$1,234", "-1234"),
        ("$-3", "-3"),
        ("x=-3", "-3"),
        ("\u22127", "-7"),
        ("5-3", "3"),
        ("(5)-3", "3"),
        ("1e-3", "0.001"),
        (".5", "0.5"),
        ("wait...42", "42"),
        ("12,34", "34"),
        (r"\boxed{42}", "42"),
        ("42 in H2O", "42"),
        ("50%", "50"),
        ("**7**", "7"),
        ("007", "7"),
        ("no digits", None),
        ("", None),
        ("\u0663", None),
    ],
)
def test_last_number_reads_numbers_as_people_write_them(text: str, number: str | None) -> None:
    """Separators, signs and decimals count; parts of words do not."""
    assert last_number(text) == (None if number is None else Decimal(number))


@given(
    st.decimals(allow_nan=False, allow_infinity=False, places=3), st.sampled_from(["{:,}", "{:f}", "${:,}"])
)
def test_any_decimal_is_read_back_exactly(number: Decimal, style: str) -> None:
    """No rounding on the way: a reward compares exactly."""
    assert last_number(f"so 1 becomes {style.format(number)}.") == number


@given(st.text())
def test_any_text_can_be_searched(text: str) -> None:
    """Models write anything; scoring never fails on it."""
    assert isinstance(last_number(text), Decimal | None)


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


# --- which reward ---


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


# --- a person's function ---


def test_a_function_written_for_verl_works_as_it_is(tmp_path: Path) -> None:
    """A function of verl's signature, with its extra_info column and its dict of parts."""
    reward = user_reward(
        tmp_path,
        "def compute_score(data_source, solution_str, ground_truth, extra_info=None, **kwargs):\n"
        "    assert not kwargs\n"
        "    right = solution_str == ground_truth\n"
        "    return {'score': float(right), 'index': extra_info['index'], 'acc': right}\n",
        "compute_score",
    )
    given = RewardInput("5", prompt("5", extra_info={"index": 7}, ability="math"))
    assert evaluate(reward, given) == Score(1.0, {"index": 7.0, "acc": 1.0})


def test_a_function_gets_what_it_declares(tmp_path: Path) -> None:
    """Every offered name arrives, by keyword, under its documented meaning."""
    reward = user_reward(
        tmp_path,
        "def score(*, response, prompt, messages, extra_info, threshold=0.5):\n"
        "    assert prompt == '2 + 3?' and extra_info == {'level': 1}\n"
        "    assert [tuple(m.values()) for m in messages] == [('user', prompt), ('assistant', response)]\n"
        "    return threshold\n",
    )
    assert evaluate(reward, RewardInput("5", prompt("5", level=1))) == Score(0.5)


def test_an_async_function_keeps_its_event_loop(tmp_path: Path) -> None:
    """Clients that live in one event loop can be reused from call to call."""
    reward = user_reward(
        tmp_path,
        "import asyncio\nloops = set()\n"
        "async def score(response):\n"
        "    await asyncio.sleep(0)\n"
        "    loops.add(asyncio.get_running_loop())\n"
        "    return len(loops)\n",
    )
    assert [evaluate(reward, RewardInput("", prompt())) for _ in range(2)] == [Score(1.0)] * 2
    reward.close()


def test_a_function_cannot_change_the_prompt(tmp_path: Path) -> None:
    """The prompt serves the other samples of its group and the record."""
    reward = user_reward(tmp_path, "def score(extra_info):\n    return extra_info.pop('level')\n")
    given = RewardInput("", prompt(level=1))
    assert [evaluate(reward, given) for _ in range(2)] == [Score(1.0)] * 2


@pytest.mark.parametrize(
    "value", ["numpy.float32(0.5)", "numpy.array(0.5)", "0.5", "{'reward': 0.5}", "fractions.Fraction(1, 2)"]
)
def test_numbers_of_other_libraries_count(tmp_path: Path, value: str) -> None:
    """Rewards are often computed with NumPy."""
    reward = user_reward(tmp_path, f"import numpy, fractions\ndef score():\n    return {value}\n")
    assert evaluate(reward, RewardInput("", prompt())) == Score(0.5)


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("None", "the reward is of type NoneType"),
        ("'1.0'", "the reward is of type str"),
        ("[1.0]", "the reward is of type list"),
        ("float('nan')", "the reward is nan"),
        ("{}", "has no score, only nothing"),
        ("{'acc': 1}", "has no score, only acc"),
        ("{'score': 1, 'pred': 'x'}", "pred is of type str"),
        ("{'score': 1, 'acc': float('inf')}", "acc is inf"),
        ("1 / 0", "ZeroDivisionError: division by zero ("),
        ("exit(3)", "SystemExit: 3 ("),
        ("__import__('json').loads('{')", "reward_"),
    ],
)
def test_what_is_no_score_fails_the_sample(tmp_path: Path, value: str, message: str) -> None:
    """One bad call becomes one failed sample that says why, and where in the person's file."""
    reward = user_reward(tmp_path, f"def score():\n    return {value}\n")
    failure = evaluate(reward, RewardInput("", prompt()))
    assert isinstance(failure, Failure)
    assert message in failure.error
    if "(" in message:
        assert failure.error.endswith(".py:2)")


@pytest.mark.parametrize("raised", ["SystemExit(1)", "asyncio.CancelledError()", "ValueError('no')"])
def test_a_failing_async_function_can_be_called_again(tmp_path: Path, raised: str) -> None:
    """Whatever an async function raises, the next sample is scored as if nothing had been."""
    code = f"import asyncio\nasync def score(response):\n    if response: raise {raised}\n    return 1\n"
    reward = user_reward(tmp_path, code)
    failure = evaluate(reward, RewardInput("x", prompt()))
    assert isinstance(failure, Failure)
    assert (
        failure.error.startswith(raised.removeprefix("asyncio.").partition("(")[0])
        or "Cancelled" in failure.error
    )
    assert evaluate(reward, RewardInput("", prompt())) == Score(1.0)
    reward.close()


def test_ctrl_c_inside_a_function_is_not_swallowed(tmp_path: Path) -> None:
    """Ctrl-C ends the run, wherever it strikes."""
    reward = user_reward(tmp_path, "def score():\n    raise KeyboardInterrupt\n")
    with pytest.raises(KeyboardInterrupt):
        evaluate(reward, RewardInput("", prompt()))


@pytest.mark.parametrize("name", ["exact_mach", "", ":", "rewards:", ":score"])
def test_unknown_names_are_refused(name: str) -> None:
    """A typing error in a built-in's name gets the near miss."""
    with pytest.raises(
        InputError, match="did you mean exact_match" if name == "exact_mach" else "there is no reward"
    ):
        load_reward(name)
