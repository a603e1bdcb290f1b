"""reasoning-gym's tasks as data sets: the same arguments give the same entries on every machine."""

import functools
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import fields
from typing import Any

from asynckit.errors import DependencyError, InputError
from asynckit.near_miss import did_you_mean
from asynckit.rollout.config import PromptsConfig

PREFIX = "reasoning_gym:"
# What the config layer makes of YAML's true, false and null on their way into a dict of strings.
_PYTHON_WORDS = {"True": True, "False": False, "None": None}


def generated_entries(
    source: str, config: PromptsConfig
) -> Iterator[tuple[Mapping[str, Any], dict[str, Any]]]:
    """Yield ``(entry, recipe)``: a task's entry, and the plain JSON from which ``entry_of`` makes it again.

    Args:
        source: ``reasoning_gym:TASK``, or with settings of its own, which go before those of ``config``:
            ``reasoning_gym:TASK?size=100&name=value``.
        config: ``size``, ``seed`` and ``task`` for what ``source`` does not say.

    Raises:
        InputError: there is no such task, or it refuses its settings.
        DependencyError: reasoning_gym is not installed.
    """
    recipe = recipe_of(source, config)
    dataset = dataset_of(recipe)
    for index in range(recipe["size"]):
        with _refusal_of(recipe["task"], recipe["settings"]):
            entry = dataset[index]
        yield entry, {**recipe, "index": index}


def recipe_of(source: str, config: PromptsConfig) -> dict[str, Any]:
    """The task, settings, seed and size that ``source`` and ``config`` describe together.

    Raises:
        InputError: there is no such task, or it has no such setting.
        DependencyError: reasoning_gym is not installed.
    """
    task, asked, query = source.removeprefix(PREFIX).partition("?")
    own = _own_settings(query, source) if asked else {}
    known = _settings_of_task(task)
    for name in config.task:
        if name in ("size", "seed"):
            raise InputError(f"{name} is set twice", where=f"prompts.task.{name}", mend=f"use prompts.{name}")
        _refuse_unknown(name, known, task, f"prompts.task.{name}")
    for name in own:
        _refuse_unknown(name, [*known, "size", "seed"], task, source)
    settings = {name: parse_setting(text) for name, text in {**config.task, **own}.items()}
    return {
        "task": task,
        "seed": _whole(settings.pop("seed", config.seed), "seed", 0, source),
        "size": _whole(settings.pop("size", config.size), "size", 1, source),
        "settings": settings,
    }


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


@functools.cache  # the sources of a mix take turns, so all of their data sets stay
def _dataset(task: str, settings: str, seed: int, size: int) -> Any:
    chosen = json.loads(settings)
    with _refusal_of(task, chosen):
        return import_reasoning_gym().create_dataset(task, size=size, seed=seed, **chosen)


def _settings_of_task(task: str) -> list[str]:
    """The names of what a task can be told, besides its size and seed."""
    import_reasoning_gym()
    from reasoning_gym.factory import DATASETS

    if task not in DATASETS:
        mend = did_you_mean(task, DATASETS) or "for instance chain_sum, leg_counting or gcd"
        raise InputError(f"reasoning-gym has no task {task!r}", where=f"{PREFIX}{task}", mend=mend)
    return [field.name for field in fields(DATASETS[task][1]) if field.name not in ("size", "seed")]


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


def _refuse_unknown(name: str, known: list[str], task: str, where: str) -> None:
    if name not in known:
        mend = did_you_mean(name, known) or f"it has {', '.join(known)}"
        raise InputError(f"{PREFIX}{task} has no setting {name}", where=where, mend=mend)


def _own_settings(query: str, source: str) -> dict[str, str]:
    """What follows the question mark in a source's name, ``name=value&name=value``, as it is written."""
    settings: dict[str, str] = {}
    for word in query.split("&"):
        name, equals, value = word.partition("=")
        if not (name and equals):
            mend = f"for instance {PREFIX}chain_sum?max_terms=2&size=100"
            raise InputError(f"{word!r} is no setting: write name=value", where=source, mend=mend)
        if name in settings:
            raise InputError(f"{name} is set twice", where=source, mend="keep one of them")
        settings[name] = value
    return settings


def _whole(value: Any, name: str, least: int, source: str) -> int:
    if type(value) is not int or value < least:
        raise InputError(f"{name} must be a whole number from {least} on, not {value!r}", where=source)
    return value


def parse_setting(text: str) -> Any:
    """A setting given as text: JSON where it parses, else the text itself."""
    if text in _PYTHON_WORDS:
        return _PYTHON_WORDS[text]
    try:
        return json.loads(text)
    except ValueError:
        return text
