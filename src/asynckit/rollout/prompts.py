"""Prompts, read from a file or made by a reasoning-gym task.

``load_prompts`` reads everything before it returns, so a bad line at the end of a file is found before
anything is generated. What a row may look like is in ``docs/prompts.md``.
"""

import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import date, datetime, time
from decimal import Decimal
from itertools import islice
from pathlib import Path
from typing import Any

from asynckit.errors import InputError
from asynckit.rollout.config import PromptsConfig
from asynckit.rollout.near_miss import did_you_mean
from asynckit.rollout.prompt_files import EXAMPLE, kind, read_rows
from asynckit.rollout.reasoning_tasks import PREFIX, generated_entries

ROLES = ("system", "user", "assistant", "tool")
Messages = tuple[Mapping[str, Any], ...]


@dataclass(frozen=True)
class Prompt:
    """One prompt; everything in it is plain JSON, so it pickles and hashes the same on every machine.

    Attributes:
        index: position among the prompts of this run, from 0.
        text: the prompt as text; None when ``messages`` is set.
        messages: the prompt as chat messages, each ``{"role", "content"}``; None when ``text`` is set.
        ground_truth: the expected answer, any JSON value; None when the source gives none.
        data_source: name of the data set, which reward functions may dispatch on.
        extra: the other columns of the row; for a reasoning-gym task, what makes its entry again.
        where: the place it came from, such as ``train.jsonl:12``.
    """

    index: int
    text: str | None
    messages: Messages | None
    ground_truth: Any
    data_source: str
    extra: Mapping[str, Any]
    where: str

    def chat(self) -> list[dict[str, Any]]:
        """The prompt as a new list of chat messages; text is one user message."""
        if self.messages is None:
            return [{"role": "user", "content": self.text}]
        return [dict(message) for message in self.messages]


def load_prompts(config: PromptsConfig) -> list[Prompt]:
    """Read the prompts that ``config`` names, up to its limit, with its system message put before each.

    Raises:
        InputError: a file, row or task setting cannot be used; ``where`` is the file and line.
        DependencyError: the source is a reasoning-gym task and reasoning_gym is not installed.
    """
    generated = config.source.startswith(PREFIX)
    found = _generated(config) if generated else _from_file(config.source)
    chat = generated if config.chat is None else config.chat
    prompts = [_dressed(prompt, chat=chat, system=config.system) for prompt in islice(found, config.limit)]
    if not prompts:
        raise InputError(
            "there are no prompts in it", where=config.source, mend=f"write rows such as {EXAMPLE}"
        )
    return prompts


def _generated(config: PromptsConfig) -> Iterator[Prompt]:
    for index, (entry, recipe) in enumerate(generated_entries(config)):
        where = f"{config.source}[{index}]"
        yield Prompt(index, entry["question"], None, entry["answer"], config.source, recipe, where)


def _from_file(source: str) -> Iterator[Prompt]:
    path = Path(source).expanduser()
    for index, (row, where) in enumerate(read_rows(path)):
        yield prompt_from_row(row, index=index, where=where, data_source=path.name)


def _dressed(prompt: Prompt, *, chat: bool, system: str | None) -> Prompt:
    """The prompt as the model gets it: as chat messages where asked, with the system message before them."""
    if system is None:
        return replace(prompt, text=None, messages=tuple(prompt.chat())) if chat else prompt
    messages = prompt.chat()
    if messages[0]["role"] == "system":
        raise InputError(
            "the prompt has a system message of its own, and prompts.system would add a second",
            where=prompt.where,
            mend="unset prompts.system, or take the message out of the file",
        )
    return replace(prompt, text=None, messages=({"role": "system", "content": system}, *messages))


def prompt_from_row(row: Any, *, index: int, where: str, data_source: str) -> Prompt:
    """The prompt that one row describes; ``data_source`` is for rows that name none.

    Raises:
        InputError: the row is no object, has no usable prompt, contradicts itself, or holds what JSON cannot.
    """
    if not isinstance(row, dict):
        raise InputError(f"expected an object, found {kind(row)}", where=where, mend=f"write {EXAMPLE}")
    rest = {_plain(name, "a name", where): _plain(value, name, where) for name, value in row.items()}
    text, messages = _take_prompt(rest, where)
    ground_truth = _take_ground_truth(rest, where)
    named = rest.pop("data_source", None)
    if not isinstance(named, str | None):
        raise InputError(f"data_source must be text, not {kind(named)}", where=where)
    return Prompt(index, text, messages, ground_truth, named or data_source, rest, where)


def _plain(value: Any, column: str, where: str) -> Any:
    """``value`` in JSON's types; dates become ISO text and decimals text."""
    if isinstance(value, dict):
        return {_plain(name, column, where): _plain(item, column, where) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item, column, where) for item in value]
    if isinstance(value, datetime | date | time):
        return value.isoformat()
    if isinstance(value, Decimal):
        return str(value)
    if problem := _problem(value):
        mend = "replace the value (null is allowed) or drop the column"
        raise InputError(f"{column} holds {problem}, which JSON cannot carry", where=where, mend=mend)
    return value


def _problem(scalar: Any) -> str:
    if isinstance(scalar, str):
        halves = not scalar.isascii() and any("\ud800" <= character <= "\udfff" for character in scalar)
        return "half of a surrogate pair" if halves else ""
    fine = scalar is None or isinstance(scalar, int) or (isinstance(scalar, float) and math.isfinite(scalar))
    return "" if fine else kind(scalar)


def _take_prompt(rest: dict[str, Any], where: str) -> tuple[str | None, Messages | None]:
    columns = ", ".join(rest) or "none"
    given = {name: value for name in ("prompt", "messages") if (value := rest.pop(name, None)) is not None}
    if not given:
        mend = f"name a column prompt (text or chat messages); columns found: {columns}"
        raise InputError("no prompt", where=where, mend=mend)
    if len(given) == 2:
        raise InputError("both prompt and messages are given", where=where, mend="keep one of them")
    ((name, value),) = given.items()
    if name == "messages" or not isinstance(value, str):
        return None, _checked_messages(value, name, where)
    _refuse_empty([value], where)
    return value, None


def _refuse_empty(texts: list[str], where: str) -> None:
    if not any(text.strip() for text in texts):
        raise InputError("the prompt is empty", where=where, mend="write a prompt or remove the row")


def _checked_messages(value: Any, column: str, where: str) -> Messages:
    if not isinstance(value, list):
        shapes = "text or a list of messages" if column == "prompt" else "a list of messages"
        mend = 'write [{"role": "user", "content": "..."}]'
        raise InputError(f"{column} must be {shapes}, not {kind(value)}", where=where, mend=mend)
    messages = tuple(_checked_message(item, f"{column}[{place}]", where) for place, item in enumerate(value))
    _refuse_empty([message["content"] for message in messages], where)
    if messages[-1]["role"] == "assistant":
        raise InputError(
            f"{column} ends with the assistant's turn, so there is nothing to answer",
            where=where,
            mend="take that turn out; put its text in the answer column if a reward needs it",
        )
    return messages


def _checked_message(item: Any, place: str, where: str) -> dict[str, str]:
    if not isinstance(item, dict):
        raise InputError(f"{place} must be an object with role and content, not {kind(item)}", where=where)
    # Parquet gives every message all keys that any message has; null is how it says "absent".
    message = {key: value for key, value in item.items() if value is not None}
    role, content = message.pop("role", None), message.pop("content", None)
    if role not in ROLES:
        mend = did_you_mean(str(role), ROLES) or f"use one of {', '.join(ROLES)}"
        raise InputError(f"{place} has the role {role!r}", where=where, mend=mend)
    if not isinstance(content, str):
        mend = "only text can be prompted with"
        raise InputError(f"{place} must have text as content, not {kind(content)}", where=where, mend=mend)
    if message:
        mend = "only role and content are supported; move the rest to another column"
        raise InputError(f"{place} also has {', '.join(message)}", where=where, mend=mend)
    return {"role": role, "content": content}


def _take_ground_truth(rest: dict[str, Any], where: str) -> Any:
    """The expected answer: ``answer``, ``ground_truth``, or verl's ``reward_model.ground_truth``."""
    found = {name: rest.pop(name, None) for name in ("answer", "ground_truth")}
    if isinstance(rest.get("reward_model"), dict):
        found["reward_model.ground_truth"] = rest["reward_model"].pop("ground_truth", None)
    given = {name: value for name, value in found.items() if value is not None}
    # Compared as JSON text, because 1 == True in Python.
    if len({json.dumps(value, sort_keys=True) for value in given.values()}) > 1:
        raise InputError(f"{' and '.join(given)} contradict each other", where=where, mend="keep one of them")
    return next(iter(given.values()), None)
