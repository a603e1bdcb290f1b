"""The built-in rewards, and which of them suit which prompts."""

import json
import re
from collections.abc import Callable, Sequence

from asynckit.errors import InputError
from asynckit.rollout.prompting.prompts import Prompt
from asynckit.rollout.prompting.reasoning_tasks import PREFIX, dataset_of
from asynckit.rollout.scoring.math_reward import is_readable, score_math
from asynckit.rollout.scoring.numbers_in_text import last_number, true_number
from asynckit.rollout.scoring.rewards import RewardInput, Score, as_score


def choose_reward(name: str, prompts: Sequence[Prompt]) -> str:
    """The name of the reward to load: ``name``, or for ``auto`` the one that suits the prompts.

    Raises:
        InputError: some prompt lacks what the reward needs (an answer, a number, a reasoning-gym task).
    """
    chosen = _automatic(prompts) if name == "auto" else name
    suits, need = _NEEDS.get(chosen, (None, ""))
    unfit = next((prompt for prompt in prompts if suits and not suits(prompt)), None)
    if unfit is not None:
        mend = "choose another with --reward, for instance module:function or none"
        raise InputError(f"the reward {chosen} needs {need}", where=unfit.where, mend=mend)
    return chosen


def _score_last_number(given: RewardInput) -> Score:
    truth = true_number(given.prompt.ground_truth)
    return Score(float(truth is not None and last_number(given.response) == truth))


def _score_exact_match(given: RewardInput) -> Score:
    truth = given.prompt.ground_truth
    expected = truth if isinstance(truth, str) else json.dumps(truth, ensure_ascii=False)
    return Score(float(given.response.strip() == expected.strip()))


def _score_reasoning_gym(given: RewardInput) -> Score:
    recipe = given.prompt.extra
    dataset = dataset_of(recipe)
    tagged = re.findall(r"<answer>(.*?)</answer>", given.response, flags=re.DOTALL)
    answer = (tagged[-1] if tagged else given.response).strip()
    try:
        value = dataset.score_answer(answer, dataset[recipe["index"]])
    # Some verifiers raise on what they cannot parse, which is a wrong answer; the component keeps it visible.
    except Exception:  # noqa: BLE001
        return Score(0.0, {"verifier_error": 1.0})
    return as_score(value, given.prompt.data_source)


def _score_environment(given: RewardInput) -> Score:
    if given.environment is None:
        raise InputError("there is no environment that gives a reward", where="reward.name=environment")
    return Score(given.environment)


def _score_nothing(_given: RewardInput) -> Score:
    return Score(0.0)


BUILT_IN: dict[str, Callable[[RewardInput], Score]] = {
    "exact_match": _score_exact_match,
    "last_number": _score_last_number,
    "math_verify": score_math,
    "reasoning_gym": _score_reasoning_gym,
    "environment": _score_environment,
    "none": _score_nothing,
}


# --- which built-in suits which prompts ---


def _is_generated(prompt: Prompt) -> bool:
    return prompt.data_source.startswith(PREFIX) and "task" in prompt.extra


def _has_truth(prompt: Prompt) -> bool:
    return prompt.ground_truth is not None


def _has_number(prompt: Prompt) -> bool:
    return true_number(prompt.ground_truth) is not None


def _has_mathematics(prompt: Prompt) -> bool:
    return is_readable(prompt.ground_truth)


_NEEDS: dict[str, tuple[Callable[[Prompt], bool], str]] = {
    "exact_match": (_has_truth, "an answer (a column answer or ground_truth), and this prompt has none"),
    "last_number": (_has_number, "a number as answer, and this prompt's is none"),
    "math_verify": (_has_mathematics, "a number or text as answer, and this prompt's is none"),
    "reasoning_gym": (_is_generated, f"prompts from {PREFIX}TASK"),
}


def _automatic(prompts: Sequence[Prompt]) -> str:
    if all(map(_is_generated, prompts)):
        return "reasoning_gym"
    bare = next((prompt for prompt in prompts if not _has_truth(prompt)), None)
    if bare is not None:
        message = "this prompt has no answer, so no reward can be chosen for it"
        mend = "name a reward with --reward (module:function, or none), or add a column answer"
        raise InputError(message, where=bare.where, mend=mend)
    return "last_number" if all(map(_has_number, prompts)) else "exact_match"
