"""What the HTTP server asks its preparers for, and their answers: msgpack frames over pipes.

A frame is its length, as four bytes, and a message. A preparer's first frame is :class:`Loaded`, or
:class:`Wrong` where it can't load the tokenizer; then it answers each job with one frame.
"""

from typing import Any

import msgspec

from asynckit.models.config import ModelConfig

LENGTH_BYTES = 4


class _Job(msgspec.Struct, frozen=True, array_like=True, tag=True):
    pass


class Load(_Job, frozen=True):
    """The first job: load this model's tokenizer."""

    model: ModelConfig


class Encode(_Job, frozen=True):
    """Token ids of texts; special tokens that are typed in them become those tokens."""

    texts: tuple[str, ...]
    add_special_tokens: bool = True


class Chat(_Job, frozen=True):
    """Token ids of a chat, laid out by the model's template; what looks like a special token stays text."""

    messages: tuple[dict[str, Any], ...]
    tools: tuple[dict[str, Any], ...] | None = None
    add_generation_prompt: bool = True
    continue_final_message: bool = False
    arguments: dict[str, Any] = {}


class Decode(_Job, frozen=True):
    """Texts of lists of token ids; ``each`` gives the text of every single token instead."""

    ids: tuple[tuple[int, ...], ...]
    skip_special_tokens: bool = False
    each: bool = False


class Loaded(_Job, frozen=True):
    """The tokenizer is there.

    Attributes:
        chat_template: the template; empty where the model has none.
        tool_template: the one for chats with tools; the same one, mostly.
        longest_token: characters of the longest token.
    """

    chat_template: str
    tool_template: str
    longest_token: int


class Prepared(_Job, frozen=True):
    """The answer: ids for :class:`Encode` and :class:`Chat`, texts for :class:`Decode`."""

    ids: tuple[tuple[int, ...], ...] = ()
    texts: tuple[str, ...] = ()


class Wrong(_Job, frozen=True):
    """The job can't be done, and why; it is the job's fault."""

    message: str
    mend: str = ""


Job = Load | Encode | Chat | Decode
Outcome = Loaded | Prepared | Wrong


def frame(message: Job | Outcome) -> bytes:
    """A message with its length before it."""
    content = msgspec.msgpack.encode(message)
    return len(content).to_bytes(LENGTH_BYTES, "big") + content
