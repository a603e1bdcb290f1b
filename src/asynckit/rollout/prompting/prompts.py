"""Prompts, read from files or made by reasoning-gym tasks.

``load_prompts`` reads everything before it returns, so a bad line at the end of a file is found before
anything is generated. What a row may look like is in ``docs/prompts.md``.
"""

import json
import math
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date, datetime, time
from decimal import Decimal
from itertools import islice
from pathlib import Path
from typing import Any

from asynckit.console import print_note
from asynckit.errors import ConfigError, InputError
from asynckit.near_miss import did_you_mean
from asynckit.rollout.config import PromptsConfig
from asynckit.rollout.prompting.mixing import mixed_order
from asynckit.rollout.prompting.prompt_files import EXAMPLE, kind, read_rows
from asynckit.rollout.prompting.prompt_filter import LengthFilter, has_bounds, report
from asynckit.rollout.prompting.reasoning_tasks import PREFIX, generated_entries

DEFAULT_SOURCE = "reasoning_gym:chain_sum"
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
        source: the source it came from, as ``prompts.source`` or ``prompts.sources`` names it.
    """

    index: int
    text: str | None
    messages: Messages | None
    ground_truth: Any
    data_source: str
    extra: Mapping[str, Any]
    where: str
    source: str = ""

    def chat(self) -> list[dict[str, Any]]:
        """The prompt as a new list of chat messages; text is one user message."""
        if self.messages is None:
            return [{"role": "user", "content": self.text}]
        return [dict(message) for message in self.messages]


def load_prompts(config: PromptsConfig, tokenizer: Callable[[], Any] | None = None) -> list[Prompt]:
    """One epoch of prompts: read, filtered by length, mixed by weight, up to the limit.

    What was filtered is said on stderr.

    Args:
        config: where they come from, and which are wanted.
        tokenizer: loads the model's tokenizer; called, and needed, only where ``config`` bounds the tokens.

    Raises:
        ConfigError: the settings contradict each other.
        InputError: a file, row or task setting cannot be used, or nothing is left; ``where`` is the place.
        DependencyError: a source is a reasoning-gym task and reasoning_gym is not installed.
        AsynckitError: ``tokenizer`` raises it.
    """
    weights = chosen_sources(config)
    lengths = LengthFilter(config, tokenizer) if has_bounds(config) else None
    found = {source: _prompts_of(source, config, lengths) for source in weights}
    return mixed(found, weights, config.limit)


def chosen_sources(config: PromptsConfig) -> dict[str, float]:
    """The weights, above 0, of the sources that ``config`` names.

    Raises:
        ConfigError: it names one source and others beside it, or leaves out all.
    """
    weights = {source: weight for source, weight in config.sources.items() if weight}
    if config.source is None and config.sources and not weights:
        mend = "give one a weight above 0"
        raise ConfigError("leaves out every source", where="prompts.sources", mend=mend)
    if config.source is None:
        return weights or {DEFAULT_SOURCE: 1.0}
    if weights and list(weights) != [config.source]:
        raise ConfigError(
            f"prompts.source (--prompts) names {config.source}, but prompts.sources has {', '.join(weights)}",
            where="prompts.sources",
            mend="use one of the two; a source with weight 0 is left out",
        )
    return {config.source: 1.0}


def mixed(
    found: Mapping[str, Sequence[Prompt]], weights: Mapping[str, float], limit: int | None
) -> list[Prompt]:
    """The prompts of all sources in the order of :func:`mixed_order`, up to ``limit``, indexed by place."""
    sizes = {source: len(prompts) for source, prompts in found.items()}
    rests = {source: iter(prompts) for source, prompts in found.items()}
    order = islice(mixed_order(sizes, weights), limit)
    return [_at(next(rests[source]), index) for index, source in enumerate(order)]


def _at(prompt: Prompt, index: int) -> Prompt:
    return prompt if prompt.index == index else replace(prompt, index=index)


def _prompts_of(source: str, config: PromptsConfig, lengths: LengthFilter | None) -> list[Prompt]:
    """The prompts of one source that are not filtered out, up to the limit."""
    generated = source.startswith(PREFIX)
    found = _generated(source, config) if generated else _from_file(source)
    chat = generated if config.chat is None else config.chat
    dressed = (_dressed(prompt, chat=chat, system=config.system) for prompt in found)
    tally: Counter[str] = Counter()
    prompts = list(islice(lengths.passing(dressed, tally) if lengths else dressed, config.limit))
    if tally:
        print_note(f"{source}: {report(tally)}")
    if not prompts and tally:
        mend = "widen prompts.min_tokens, prompts.max_tokens or prompts.max_chars"
        raise InputError("all prompts in it are left out for their length", where=source, mend=mend)
    if not prompts:
        raise InputError("there are no prompts in it", where=source, mend=f"write rows such as {EXAMPLE}")
    return prompts


def _generated(source: str, config: PromptsConfig) -> Iterator[Prompt]:
    for index, (entry, recipe) in enumerate(generated_entries(source, config)):
        where, name = f"{source}[{index}]", f"{PREFIX}{recipe['task']}"
        yield Prompt(index, entry["question"], None, entry["answer"], name, recipe, where, source)


def _from_file(source: str) -> Iterator[Prompt]:
    path = Path(source).expanduser()
    for index, (row, where) in enumerate(read_rows(path)):
        yield prompt_from_row(row, index=index, where=where, data_source=path.name, source=source)


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


def prompt_from_row(row: Any, *, index: int, where: str, data_source: str, source: str = "") -> Prompt:
    """The prompt that one row of ``source`` describes; ``data_source`` is for rows that name none.

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
    return Prompt(index, text, messages, ground_truth, named or data_source, rest, where, source)


def _plain(value: Any, column: str, where: str) -> Any:
    """``value`` in JSON's types; dates become ISO text and decimals text."""
    if value is None or (type(value) is str and value.isascii()):  # most values, in a million rows
        return value
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
