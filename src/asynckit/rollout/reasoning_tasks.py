"""reasoning-gym's tasks as data sets: the same arguments give the same entries on every machine."""

import functools
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import fields
from typing import Any

from asynckit.errors import DependencyError, InputError
from asynckit.rollout.config import PromptsConfig
from asynckit.rollout.near_miss import did_you_mean

PREFIX = "reasoning_gym:"
# What the config layer makes of YAML's true, false and null on their way into a dict of strings.
_PYTHON_WORDS = {"True": True, "False": False, "None": None}


def generated_entries(config: PromptsConfig) -> Iterator[tuple[Mapping[str, Any], dict[str, Any]]]:
    """Yield ``(entry, recipe)``: a task's entry, and the plain JSON from which ``entry_of`` makes it again.

    Raises:
        InputError: there is no such task, or it refuses its settings.
        DependencyError: reasoning_gym is not installed.
    """
    task = config.source.removeprefix(PREFIX)
    settings = {name: parse_setting(text) for name, text in config.task.items()}
    recipe = {"task": task, "settings": settings, "seed": config.seed, "size": config.size}
    dataset = dataset_of(recipe)
    for index in range(config.size):
        with _refusal_of(task, recipe["settings"]):
            entry = dataset[index]
        yield entry, {**recipe, "index": index}


def dataset_of(recipe: Mapping[str, Any]) -> Any:
    """The data set that ``recipe`` (task, settings, seed, size) describes, made once per process.

    Raises:
        InputError: there is no such task, or it refuses its settings.
        DependencyError: reasoning_gym is not installed.
    """
    settings = json.dumps(recipe["settings"], sort_keys=True)
    return _dataset(recipe["task"], settings, recipe["seed"], recipe["size"])


def import_reasoning_gym() -> Any:
    """The ``reasoning_gym`` module.

    Raises:
        DependencyError: it is not installed, or cannot be imported.
    """
    try:
        import reasoning_gym
    except ImportError as error:
        raise DependencyError(
            f"reasoning_gym cannot be imported: {error}", mend="pip install 'asynckit[tasks]'"
        ) from error
    return reasoning_gym


@functools.lru_cache(maxsize=8)
def _dataset(task: str, settings: str, seed: int, size: int) -> Any:
    reasoning_gym = import_reasoning_gym()
    from reasoning_gym.factory import DATASETS

    where = f"{PREFIX}{task}"
    if task not in DATASETS:
        mend = did_you_mean(task, DATASETS) or "for instance chain_sum, leg_counting or gcd"
        raise InputError(f"reasoning-gym has no task {task!r}", where=where, mend=mend)
    chosen = json.loads(settings)
    _refuse_unknown(chosen, [field.name for field in fields(DATASETS[task][1])], where)
    with _refusal_of(task, chosen):
        return reasoning_gym.create_dataset(task, size=size, seed=seed, **chosen)


@contextmanager
def _refusal_of(task: str, settings: Any) -> Iterator[None]:
    """The ways in which tasks refuse settings (most assert, some fail in arithmetic) as an InputError."""
    try:
        yield
    except (AssertionError, AttributeError, LookupError, RuntimeError, TypeError, ValueError) as error:
        message = (
            f"the task cannot work with the settings {json.dumps(settings)}: {error or type(error).__name__}"
        )
        raise InputError(message, where=f"{PREFIX}{task}", mend="check prompts.task.*") from error


def _refuse_unknown(chosen: Mapping[str, Any], known: list[str], where: str) -> None:
    for name in chosen:
        if name in ("size", "seed"):
            raise InputError(f"{name} is set twice", where=f"prompts.task.{name}", mend=f"use prompts.{name}")
        if name not in known:
            names = ", ".join(other for other in known if other not in ("size", "seed"))
            mend = did_you_mean(name, known) or f"it has {names}"
            raise InputError(f"{where} has no setting {name}", where=f"prompts.task.{name}", mend=mend)


def parse_setting(text: str) -> Any:
    """A setting given as text: JSON where it parses, else the text itself."""
    if text in _PYTHON_WORDS:
        return _PYTHON_WORDS[text]
    try:
        return json.loads(text)
    except ValueError:
        return text
