"""Rewards: a response in, a score out.

``choose_reward`` and ``load_reward`` find every mistake that can be found before generation starts. What a
reward does wrong later ``evaluate`` turns into a ``Failure``: it costs one sample, not the run.
"""

import asyncio
import copy
import json
import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from numbers import Real
from typing import Any

from asynckit.errors import AsynckitError, InputError
from asynckit.rollout.near_miss import did_you_mean
from asynckit.rollout.prompts import Prompt
from asynckit.rollout.reasoning_tasks import PREFIX, dataset_of, import_reasoning_gym
from asynckit.rollout.user_function import UserFunction, describe


@dataclass(frozen=True)
class RewardInput:
    """What a reward is computed from.

    Attributes:
        response: the text of the response: what the assistant said last.
        prompt: its prompt.
        said: all that was said after the prompt, as messages; empty where the response is all of it.
        environment: what the environment gives for it; None without one that gives rewards.
    """

    response: str
    prompt: Prompt
    said: tuple[Mapping[str, str], ...] = ()
    environment: float | None = None


@dataclass(frozen=True)
class Score:
    """A finite reward, and finite named parts of it that are recorded beside it."""

    value: float
    components: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Failure:
    """Why a response has no score: ``TypeName: message (file:line)``."""

    error: str


def _nothing() -> None:
    pass


@dataclass(frozen=True)
class Reward:
    """A loaded reward: called with a ``RewardInput``, it returns a ``Score``.

    It may hold an event loop (for an ``async def``), so one thread uses it at a time and closes it.

    Attributes:
        name: what it was loaded by.
        score: computes the score; raises what a person's function raises, InputError for what is no score.
        source: file of a person's function; empty for a built-in.
        close: gives back what the reward holds.
    """

    name: str
    score: Callable[[RewardInput], Score]
    source: str = ""
    close: Callable[[], None] = _nothing

    def __call__(self, given: RewardInput) -> Score:
        """Score one response; raises as ``score`` does."""
        return self.score(given)


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


def load_reward(name: str, *, import_paths: Sequence[str] = ()) -> Reward:
    """Load a built-in, or ``module:function`` from one of the ``import_paths`` or the working folder.

    Raises:
        InputError: there is no such reward, its module cannot be imported, or the function requires arguments
            that asynckit does not have.
        DependencyError: ``reasoning_gym`` is asked for and not installed.
    """
    assert name != "auto", "choose_reward() says what auto means"
    if name == "reasoning_gym":
        import_reasoning_gym()
    if name in BUILT_IN:
        return Reward(name, BUILT_IN[name])
    module, _, attribute = name.partition(":")
    if not module or not attribute:
        mend = (
            did_you_mean(name, [*BUILT_IN, "auto"]) or f"use auto, {', '.join(BUILT_IN)} or module:function"
        )
        raise InputError(f"there is no reward {name!r}", where="reward.name (--reward)", mend=mend)
    function = UserFunction(name, tuple(_ARGUMENTS), import_paths)

    def score(given: RewardInput) -> Score:
        # Copies, because functions do change the dicts they are given, and the prompt serves other samples.
        result = function.call({name: copy.deepcopy(make(given)) for name, make in _ARGUMENTS.items()})
        return _as_score(result, name)

    return Reward(name, score, function.source, function.close)


def evaluate(reward: Reward, given: RewardInput) -> Score | Failure:
    """Score one response, on a thread without a running event loop.

    Whatever the reward raises becomes a Failure, ``SystemExit`` included; only ``KeyboardInterrupt`` passes.
    """
    try:
        return reward(given)
    except AsynckitError as error:
        return Failure(str(error))
    # CancelledError can only be one that an async function raised: nobody can cancel this call.
    except (Exception, SystemExit, asyncio.CancelledError) as error:  # noqa: BLE001
        return Failure(describe(error, reward.source))


# --- what a person's function is called with and may return ---


def _extra_info(given: RewardInput) -> Any:
    own = given.prompt.extra.get("extra_info")
    return own if isinstance(own, Mapping) else given.prompt.extra


_ARGUMENTS: dict[str, Callable[[RewardInput], Any]] = {
    "response": lambda given: given.response,
    "solution_str": lambda given: given.response,
    "ground_truth": lambda given: given.prompt.ground_truth,
    "data_source": lambda given: given.prompt.data_source,
    "extra_info": _extra_info,
    "messages": lambda given: [
        *given.prompt.chat(),
        *(given.said or ({"role": "assistant", "content": given.response},)),
    ],
    "prompt": lambda given: given.prompt.chat() if given.prompt.text is None else given.prompt.text,
}


def _as_score(result: Any, name: str) -> Score:
    if not isinstance(result, Mapping):
        return Score(_as_number(result, "the reward", name))
    key = next((key for key in ("score", "reward") if key in result), None)
    if key is None:
        found = ", ".join(map(str, result)) or "nothing"
        raise InputError(f"the dict it returned has no score, only {found}", where=name, mend='add "score"')
    for part in result:
        if not str(part).isprintable():  # lone surrogates among them: no file could hold it
            raise InputError(
                f"the dict it returned has the name {part!r}", where=name, mend="use plain names"
            )
    components = {
        str(part): _as_number(value, str(part), name) for part, value in result.items() if part != key
    }
    return Score(_as_number(result[key], key, name), components)


def _as_number(value: Any, part: str, name: str) -> float:
    if getattr(value, "shape", None) == ():
        value = value.item()  # a scalar of NumPy or torch
    if not isinstance(value, Real):
        mend = "return a number, or a dict of numbers with score among them"
        raise InputError(f"{part} is of type {type(value).__name__}, not a number", where=name, mend=mend)
    number = float(value)
    if not math.isfinite(number):
        raise InputError(f"{part} is {number}", where=name, mend="return a finite number")
    return number


# --- built-ins ---

_NUMBER = re.compile(
    r"""
    (?<![A-Za-z0-9_]) (?<![0-9]\.)                          # not inside a word or the tail of 1.2.3
    (?P<sign> (?<![)\]}]) [-+\u2212] )? [$\u20ac\u00a3]?    # 5-3 and (5)-3 subtract; -3 and -$3 are negative
    (?P<digits> (?: [0-9]{1,3} (?:,[0-9]{3})+ (?![0-9]) | [0-9]+ ) (?:\.[0-9]+)? | (?<!\.) \.[0-9]+ )
    (?P<exponent> [eE][-+]?[0-9]{1,3} (?![0-9]) )?
    """,
    re.VERBOSE,
)


def last_number(text: str) -> Decimal | None:
    """The last number in a text, exactly; None when it has none.

    ``1,234.50``, ``-3``, ``$5``, ``.5`` and ``1e-3`` are numbers. A minus after a digit or bracket subtracts.
    """
    found = None
    for found in _NUMBER.finditer(text):  # noqa: B007  # the last one is wanted
        pass
    return None if found is None else _decimal(found)


def _decimal(found: re.Match[str]) -> Decimal:
    sign = "-" if found["sign"] in ("-", "\u2212") else ""
    return Decimal(sign + found["digits"].replace(",", "") + (found["exponent"] or ""))


def _true_number(ground_truth: Any) -> Decimal | None:
    """The number that a ground truth is, or ends with after ``####`` (GSM8K); None when it is no number."""
    if isinstance(ground_truth, bool) or not isinstance(ground_truth, int | float | str):
        return None
    found = _NUMBER.fullmatch(str(ground_truth).rpartition("####")[2].strip())
    return _decimal(found) if found else None


def _score_last_number(given: RewardInput) -> Score:
    truth = _true_number(given.prompt.ground_truth)
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
    return _as_score(value, given.prompt.data_source)


def _score_environment(given: RewardInput) -> Score:
    if given.environment is None:
        raise InputError("there is no environment that gives a reward", where="reward.name=environment")
    return Score(given.environment)


def _score_nothing(_given: RewardInput) -> Score:
    return Score(0.0)


BUILT_IN: dict[str, Callable[[RewardInput], Score]] = {
    "exact_match": _score_exact_match,
    "last_number": _score_last_number,
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
    return _true_number(prompt.ground_truth) is not None


_NEEDS: dict[str, tuple[Callable[[Prompt], bool], str]] = {
    "exact_match": (_has_truth, "an answer (a column answer or ground_truth), and this prompt has none"),
    "last_number": (_has_number, "a number as answer, and this prompt's is none"),
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
