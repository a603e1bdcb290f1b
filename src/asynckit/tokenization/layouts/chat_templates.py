"""A chat as text, and which stretches of it are the assistant's turns."""

import datetime as dt
import json
import re
from contextlib import suppress
from itertools import accumulate
from typing import Any, NamedTuple

from asynckit.errors import ConfigError, InputError
from asynckit.models.light_tokenizer import GENERATION, LightTokenizer
from asynckit.tokenization.layouts.chat_messages import (
    Messages,
    Tools,
    refuse_what_a_template_leaves_out,
    refuse_what_was_lost,
)

Spans = list[tuple[int, int]]


class RenderedChat(NamedTuple):
    """A chat as text.

    Attributes:
        text: all of it.
        borders: 0, then the characters at which the assistant's turns begin and end, then the text's length.
        is_marked: whether the template itself said so; else they were found by prefixes.
    """

    text: str
    borders: tuple[int, ...]
    is_marked: bool


NO_CHAT = RenderedChat("", (0, 0), is_marked=False)

_BORDER = "\ue000\uf8ff\ue000"
# Within these the text of a turn may be made before what stands before it, and transformers then takes the
# turn to begin too early.
_MADE_BEFOREHAND = re.compile(r"\{%-?\s*(macro|call|filter|set\s+[\w.]+\s*(\||-?%))")
_OPENING = re.compile(r"^\{%-?")
_TODAY = re.compile(r"strftime_now\(\s*(['\"])([^'\"]*)\1\s*\)")


class ChatTemplate:
    """A tokenizer's chat template, for chats with tools or for those without."""

    def __init__(self, tokenizer: LightTokenizer, template: str, date: str | None) -> None:
        self._tokenizer = tokenizer
        self._template = dated(template, date)
        self._is_marked = tokenizer.has_offsets and GENERATION.search(template) is not None
        self._checked_by = _with_borders(self._template) if _MADE_BEFOREHAND.search(template) else None
        special = (tokenizer.decode([id_]) for id_ in tokenizer.special_ids)
        self._special = tuple(text for text in special if text)
        with suppress(InputError):  # a template may refuse this chat, but not be broken
            self._render([{"role": "user", "content": "a"}], None)

    def lay_out(self, messages: Messages, tools: Tools | None) -> RenderedChat:
        """The chat's text and its assistant's turns; raises InputError where it can't be, or not surely."""
        refuse_what_a_template_leaves_out(self._template, messages, tools)
        text, marked = self._render(messages, tools)
        refuse_what_was_lost(text, messages)
        if self._is_marked:
            turns = self._checked(marked, text, messages, tools)
        else:
            turns = self._turns_by_prefixes(text, messages, tools)
        borders = (0, *(place for turn in _united(turns) for place in turn), len(text))
        return RenderedChat(text, borders, self._is_marked)

    def _checked(self, turns: Spans, text: str, messages: Messages, tools: Tools | None) -> Spans:
        """The turns as transformers marks them; raises InputError where they begin elsewhere."""
        if self._checked_by is None:
            return turns
        shown, _ = self._render_by(self._checked_by, messages, tools)
        parts = shown.split(_BORDER)
        begins = list(accumulate(map(len, parts[:-1])))
        if "".join(parts) != text or begins != [start for start, _ in turns]:
            raise InputError(
                "where the assistant's turns begin can't be told: the chat template makes their text in a "
                "macro or a variable, and writes it later",
                mend="write {% generation %} around where the text comes out",
            )
        return turns

    def _turns_by_prefixes(self, text: str, messages: Messages, tools: Tools | None) -> Spans:
        """From where the model is asked to answer, to where the chat with its answer ends."""
        numbers = [number for number, message in enumerate(messages) if message["role"] == "assistant"]
        return [self._turn(number, text, messages, tools) for number in numbers]

    def _turn(self, number: int, text: str, messages: Messages, tools: Tools | None) -> tuple[int, int]:
        if number == 0:
            raise InputError("the chat begins with the assistant, whom nobody asked", mend=_MARK_IT)
        asked, _ = self._render(messages[:number], tools, add_generation_prompt=True)
        answered, _ = self._render(messages[: number + 1], tools)
        if not text.startswith(answered):
            raise InputError(
                f"the chat template lays out message {number} otherwise once the chat goes on, such as "
                "without its reasoning",
                mend=_MARK_IT,
            )
        if not answered.startswith(asked):
            raise InputError(
                f"message {number} does not begin as the chat template asks for an answer", mend=_MARK_IT
            )
        if text.startswith(self._special, len(asked)) and asked == self._render(messages[:number], tools)[0]:
            raise InputError(
                f"the chat template asks for no answer before message {number}, so what it puts before one "
                "would be learned",
                mend=_MARK_IT,
            )
        return len(asked), len(answered)

    def _render(self, messages: Messages, tools: Tools | None, **arguments: Any) -> tuple[str, Spans]:
        return self._render_by(self._template, messages, tools, **arguments)

    def _render_by(
        self, template: str, messages: Messages, tools: Tools | None, **arguments: Any
    ) -> tuple[str, Spans]:
        import jinja2

        try:
            return self._tokenizer.render_marked(template, messages, tools, **arguments)
        except jinja2.TemplateSyntaxError as error:
            raise ConfigError(f"the chat template is broken: {error}", where="the tokenizer") from error
        except (jinja2.TemplateError, TypeError, ValueError, KeyError) as error:
            raise InputError(f"the chat template can't lay it out: {error}") from error


_MARK_IT = "take a template that marks the assistant's turns by {% generation %}"


def _with_borders(template: str) -> str:
    """The template with a mark written before each of the assistant's turns, white space untouched."""
    mark = f' filter replace("", "{_BORDER}", 1) %}}{{% endfilter %}}{{%'
    return GENERATION.sub(lambda found: _OPENING.sub(lambda tag: tag[0] + mark, found[0]), template)


def _united(spans: Spans) -> Spans:
    """The same characters in order, without empty, nested and touching stretches."""
    united: Spans = []
    for start, end in sorted(spans):
        if united and start <= united[-1][1]:
            united[-1] = (united[-1][0], max(end, united[-1][1]))
        elif start < end:
            united.append((start, end))
    return united


def dated(template: str, date: str | None) -> str:
    """The template with a date of its own wherever it asks for today's; raises ConfigError if it has none."""
    if "strftime_now(" not in template:
        return template
    if date is None:
        raise ConfigError(
            "the chat template writes today's date: every day would give other tokens",
            where="tokenization.chat_date",
            mend="say which date it is, such as --set tokenization.chat_date=2026-01-31",
        )
    try:
        day = dt.date.fromisoformat(date)
    except ValueError as error:
        place, mend = "tokenization.chat_date", "such as 2026-01-31"
        raise ConfigError(f"{date!r} is no date", where=place, mend=mend) from error
    fixed = _TODAY.sub(lambda found: json.dumps(day.strftime(found[2])), template)
    if "strftime_now(" in fixed:
        raise ConfigError("the chat template computes how it writes dates", where="tokenization.chat_date")
    return fixed
