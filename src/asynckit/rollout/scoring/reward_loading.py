"""From names in the configuration to rewards that can be called.

Every mistake that can be found before generation starts is found here.
"""

import copy
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from asynckit.errors import ConfigError, InputError
from asynckit.near_miss import did_you_mean
from asynckit.rollout.config import RewardConfig
from asynckit.rollout.prompting.prompts import Prompt
from asynckit.rollout.prompting.reasoning_tasks import import_reasoning_gym, parse_setting
from asynckit.rollout.scoring.built_in_rewards import BUILT_IN, choose_reward
from asynckit.rollout.scoring.math_reward import import_math_verify
from asynckit.rollout.scoring.rewards import Reward, RewardInput, Score, as_score
from asynckit.rollout.scoring.user_function import UserFunction

_PACKAGES: dict[str, Callable[[], Any]] = {
    "math_verify": import_math_verify,
    "reasoning_gym": import_reasoning_gym,
}


def weights_of(config: RewardConfig) -> dict[str, float]:
    """The rewards that a configuration names, with their weights; 1 for a single one."""
    return config.components or {config.name: 1.0}


def choose_rewards(config: RewardConfig, prompts: Sequence[Prompt]) -> RewardConfig:
    """The configuration with what ``auto`` stands for in its place.

    Raises:
        ConfigError: both a name and components are given, or ``auto`` stands for another component.
        InputError: a prompt lacks what a reward needs.
    """
    if not config.components:
        return replace(config, name=choose_reward(config.name, prompts))
    if config.name != "auto":
        raise ConfigError(
            f"reward.name is {config.name} and reward.components are {', '.join(config.components)}",
            where="reward.components",
            mend=f"leave out one of them; --reward {config.name} can be a component with a weight",
        )
    chosen: dict[str, float] = {}
    for name, weight in config.components.items():
        own = choose_reward(name, prompts)
        if own in chosen:
            raise ConfigError(
                f"{own} is there twice: auto stands for it",
                where="reward.components",
                mend="leave out one of them",
            )
        chosen[own] = weight
    return replace(config, components=chosen)


def check_rewards(config: RewardConfig, *, import_paths: Sequence[str] = ()) -> None:
    """Load every reward without opening it.

    A class is checked and not instantiated: it may load a model, for which the workers need the memory.

    Raises:
        InputError: a reward can't be loaded.
        ConfigError: none of the rewards takes a setting of ``reward.args``.
        DependencyError: the package of a built-in is missing.
    """
    rewards = [load_reward(name, import_paths=import_paths, args=config.args) for name in weights_of(config)]
    for reward in rewards:
        reward.close()
    taken = sorted(set().union(*(reward.settings for reward in rewards)))
    for name in config.args:
        if name not in taken:
            choice = f"there is {', '.join(taken)}" if taken else "built-in rewards take none"
            raise ConfigError(
                f"no reward takes the setting {name}",
                where=f"reward.args.{name}",
                mend=did_you_mean(name, taken) or choice,
            )


def load_reward(
    name: str, *, import_paths: Sequence[str] = (), args: Mapping[str, str] | None = None
) -> Reward:
    """Load a built-in, or ``module:function`` or ``module:Class`` from the paths or the working folder.

    Args:
        name: what to load; not ``auto``.
        import_paths: folders to import from, before the working folder.
        args: settings as text, JSON where it parses, for what declares them.

    Raises:
        InputError: there is no such reward, its module cannot be imported, or the function or class requires
            arguments that asynckit does not have.
        DependencyError: the package of a built-in is not installed.
    """
    assert name != "auto", "choose_rewards() says what auto means"
    if name in BUILT_IN:
        _PACKAGES.get(name, lambda: None)()
        return Reward(name, BUILT_IN[name])
    module, _, attribute = name.partition(":")
    if not module or not attribute:
        names = ", ".join(BUILT_IN)
        mend = (
            did_you_mean(name, [*BUILT_IN, "auto"]) or f"use auto, {names}, module:function or module:Class"
        )
        raise InputError(f"there is no reward {name!r}", where="reward.name (--reward)", mend=mend)
    settings = {key: parse_setting(text) for key, text in (args or {}).items()}
    function = UserFunction(name, tuple(_ARGUMENTS), import_paths, settings)

    def score(given: RewardInput) -> Score:
        # Copies, because functions do change the dicts they are given, and the prompt serves other samples.
        result = function.call({name: copy.deepcopy(make(given)) for name, make in _ARGUMENTS.items()})
        return as_score(result, name)

    return Reward(name, score, function.source, function.open, function.close, function.settings)


# --- what a person's function is called with ---


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
