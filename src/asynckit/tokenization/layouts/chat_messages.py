"""Whether a record's messages are a chat that a template can lay out without losing any of it."""

import json
from collections.abc import Mapping
from typing import Any

from asynckit.errors import InputError

Messages = list[dict[str, Any]]
Tools = list[dict[str, Any]]

_REASONING = ("reasoning_content", "thinking", "reasoning")  # transformers shows templates each under all
_SINGLE = ("tool_calls", "function_call")


def messages_of(value: Any) -> Messages:
    """The record's messages; raises InputError where they are no chat."""
    if not isinstance(value, list) or not value:
        raise InputError("the messages are no list, or an empty one", mend="--field names another place")
    for number, message in enumerate(value):
        if not isinstance(message, Mapping) or not isinstance(message.get("role"), str):
            raise InputError(f"message {number} is no object with a role", mend=_SHAPE)
        if not isinstance(message.get("content", ""), str | list | None):
            raise InputError(f"the content of message {number} is no text", mend=_SHAPE)
    return value


_SHAPE = 'as in {"role": "user", "content": "hello"}'


def tools_of(value: Any) -> Tools | None:
    """The record's tools, also where they are kept as JSON in a text; raises InputError for anything else."""
    if value is None:
        return None
    if isinstance(value, str):
        try:
            value = json.loads(value)
        except json.JSONDecodeError as error:
            raise InputError(f"the tools are no JSON: {error}") from error
    if not isinstance(value, list) or not all(isinstance(tool, Mapping) for tool in value):
        raise InputError("the tools are no list of JSON schemas")
    return value or None


def refuse_what_a_template_leaves_out(template: str, messages: Messages, tools: Tools | None) -> None:
    """Raise InputError for parts of messages that the template never mentions: they would just be gone."""
    for number, message in enumerate(messages):
        unseen = [name for name in _SINGLE if message.get(name) and name not in template]
        reasoning = [name for name in _REASONING if message.get(name)]
        if reasoning and not any(name in template for name in _REASONING):
            unseen += reasoning
        if unseen:
            mend = "take them out of the data, or use a template that knows them"
            raise InputError(f"the chat template leaves out {unseen[0]} of message {number}", mend=mend)
    if tools and "tools" not in template:
        raise InputError("the chat template leaves out the tools", mend="take away tokenization.tools_field")


def refuse_what_was_lost(text: str, messages: Messages) -> None:
    """Raise InputError where the chat's text lacks what the assistant says, or has a list in Python's way.

    A template that expects texts prints lists, one that expects lists of parts finds no parts in a text, and
    some leave out what is said beside a call of a tool.
    """
    for number, message in enumerate(messages):
        content = message.get("content")
        if isinstance(content, list) and content and str(content) in text:
            raise InputError(
                f"the chat template knows no lists as content, as message {number} has one",
                mend="make each content one text",
            )
        if message["role"] != "assistant":
            continue
        for part in _texts(content):
            said = part.rpartition("</think>")[2].strip()  # what comes before may be dropped on purpose
            if said not in text:
                raise InputError(
                    f"the chat template leaves out, or changes, what message {number} says",
                    mend="lay the content out as the template expects it, or use another template",
                )


def _texts(content: Any) -> list[str]:
    if isinstance(content, str):
        return [content]
    parts = content if isinstance(content, list) else []
    return [part["text"] for part in parts if isinstance(part, Mapping) and isinstance(part.get("text"), str)]
