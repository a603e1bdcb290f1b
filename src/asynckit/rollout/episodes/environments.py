"""Environments: what answers the assistant between its turns, such as a tool, a game or a simulated user.

A person writes a class and names it as ``module:Class``; ``docs/environments.md`` says how. What can be wrong
with it before anything is generated is found here.
"""

import inspect
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from asynckit.errors import ConfigError, InputError
from asynckit.near_miss import did_you_mean
from asynckit.rollout.prompting.prompts import Prompt
from asynckit.rollout.scoring.user_signature import VARIABLE, required_of, signature_of
from asynckit.user_code import import_object

BUILT_IN = {"calculator": "asynckit.rollout.episodes.calculator:Calculator"}
OFFERED = ("ground_truth", "data_source", "extra_info", "messages", "seed")
ROLES = ("tool", "user")  # in the order of preference


@dataclass(frozen=True)
class EnvironmentClass:
    """A person's class, imported and checked; every sample has an object of it.

    Its constructor declares, by keyword, what it wants to know of ``OFFERED``. ``step(text)`` hears what the
    assistant said and returns text, a message, or None at the end of the episode. ``reward()``, asked once
    after the last turn, and ``close()`` are optional. All may be ``async def``.

    Attributes:
        name: what it was loaded by.
        make: the class.
        declared: the names that its constructor is given.
        source: the file it is in, for errors.
        gives_reward: whether it has a method ``reward``.
    """

    name: str
    make: Callable[..., Any]
    declared: tuple[str, ...]
    source: str
    gives_reward: bool


@dataclass(frozen=True)
class Reply:
    """What an environment says; without a role where that is left to asynckit."""

    content: str
    role: str | None = None


def load_environment(name: str, import_paths: Sequence[str] = ()) -> EnvironmentClass:
    """Import a built-in, or ``module:Class`` from one of the ``import_paths`` or the working folder.

    Raises:
        InputError: there is no such class, importing it fails, it has no ``step``, or its constructor
            requires what asynckit does not have.
    """
    path = BUILT_IN.get(name, name)
    module_name, _, attributes = path.partition(":")
    if not module_name or not attributes:
        mend = did_you_mean(name, BUILT_IN) or f"use {', '.join(BUILT_IN)} or module:Class"
        raise InputError(f"there is no environment {name!r}", where="rollout.environment", mend=mend)
    found = import_object(path, import_paths)
    if not isinstance(found, type) or not callable(getattr(found, "step", None)):
        raise InputError(
            f"{attributes} is no class with a method step(text)", where=name, mend="see docs/environments.md"
        )
    source = getattr(inspect.getmodule(found), "__file__", None) or ""
    gives_reward = callable(getattr(found, "reward", None))
    return EnvironmentClass(name, found, _declared(found, name), source, gives_reward)


def arguments_of(prompt: Prompt, seed: int) -> dict[str, Any]:
    """What a constructor may declare."""
    own = prompt.extra.get("extra_info")
    return {
        "ground_truth": prompt.ground_truth,
        "data_source": prompt.data_source,
        "extra_info": own if isinstance(own, Mapping) else dict(prompt.extra),
        "messages": prompt.chat(),
        "seed": seed,
    }


def check_environment(
    name: str | None, rewards: Collection[str], prompts: Sequence[Prompt], import_paths: Sequence[str]
) -> None:
    """Find what is wrong with an environment, or with its absence, before anything starts.

    Args:
        name: ``rollout.environment``.
        rewards: names of the run's rewards.
        prompts: of the run.
        import_paths: folders to import from.

    Raises:
        ConfigError: the reward is the environment's, and there is no environment.
        InputError: the environment can't be loaded, gives no reward though it should, or a prompt is no chat.
    """
    wants_reward = "environment" in rewards
    if name is None:
        if wants_reward:
            raise ConfigError(
                "there is no environment to give the reward",
                where="reward.name",
                mend="name one with rollout.environment, or another reward",
            )
        return
    kind = load_environment(name, import_paths)
    if wants_reward and not kind.gives_reward:
        raise InputError(
            "the environment has no method reward(), and reward.name is environment",
            where=name,
            mend="write one, or name another reward",
        )
    bare = next((prompt for prompt in prompts if prompt.messages is None), None)
    if bare is not None:
        raise InputError(
            "an environment answers in a chat, and this prompt is plain text",
            where=bare.where,
            mend="use prompts.chat=true",
        )


def _declared(kind: type, name: str) -> tuple[str, ...]:
    parameters = signature_of(kind, name).parameters.values()
    unnamed = (*VARIABLE, inspect.Parameter.POSITIONAL_ONLY)
    declared = tuple(p.name for p in parameters if p.kind not in unnamed and p.name in OFFERED)
    if required := required_of(parameters, declared):
        raise InputError(
            f"its constructor requires {', '.join(required)}, which asynckit cannot give",
            where=name,
            mend=f"it may declare {', '.join(OFFERED)}, by keyword; give others a default",
        )
    return declared
