"""Rewards: a response in, a score out.

What a reward does wrong ``evaluate`` turns into a ``Failure``: it costs one sample, not the run.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from numbers import Real
from typing import Any

from asynckit.errors import AsynckitError, InputError
from asynckit.rollout.prompting.prompts import Prompt
from asynckit.user_code import describe, one_line


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
    """A loaded reward: opened and called with a ``RewardInput``, it returns a ``Score``.

    It may hold an event loop (for an ``async def``), so one thread uses it at a time and closes it.

    Attributes:
        name: what it was loaded by.
        score: computes the score; raises what a person's function raises, InputError for what is no score.
        source: file of a person's function; empty for a built-in.
        open: makes the instance of a person's class; InputError where the constructor fails.
        close: gives back what the reward holds; raises what a person's ``close`` raises.
        settings: the names in ``reward.args`` that it takes.
    """

    name: str
    score: Callable[[RewardInput], Score]
    source: str = ""
    open: Callable[[], None] = _nothing
    close: Callable[[], None] = _nothing
    settings: frozenset[str] = frozenset()

    def __call__(self, given: RewardInput) -> Score:
        """Score one response; raises as ``score`` does."""
        return self.score(given)


def evaluate(reward: Reward, given: RewardInput) -> Score | Failure:
    """Score one response, on a thread without a running event loop.

    Whatever the reward raises becomes a Failure, ``SystemExit`` included; only ``KeyboardInterrupt`` passes.
    """
    try:
        return reward(given)
    except AsynckitError as error:
        return Failure(one_line(str(error)))
    except KeyboardInterrupt:
        raise
    # CancelledError can only be one that an async function raised: nobody can cancel this call. And some
    # packages derive their time-outs from BaseException.
    except BaseException as error:  # noqa: BLE001
        return Failure(describe(error, reward.source))


def weigh(weights: Mapping[str, float], scores: Mapping[str, Score | Failure]) -> Score | Failure:
    """The weighted sum of the components' scores; a Failure that names them where some failed.

    Its components are the unweighted scores, each under its name, and their own parts as ``name/part``.
    """
    failures = [_named(name, score.error) for name, score in scores.items() if isinstance(score, Failure)]
    if failures:
        return Failure("; ".join(failures))
    parts: dict[str, float] = {}
    for name, score in scores.items():
        assert isinstance(score, Score)
        parts |= {name: score.value, **{f"{name}/{part}": x for part, x in score.components.items()}}
    total = sum(weight * parts[name] for name, weight in weights.items())
    if not math.isfinite(total):
        return Failure(f"the weighted sum of {', '.join(weights)} is {total}")
    return Score(total, parts)


def _named(name: str, error: str) -> str:
    return error if error.startswith(f"{name}: ") else f"{name}: {error}"


def as_score(result: Any, name: str) -> Score:
    """What the reward ``name`` returned, a number or a dict of numbers, as a Score.

    Raises:
        InputError: it is no finite number, or a dict without a score or with anything but finite numbers.
    """
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
