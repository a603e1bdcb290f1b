"""Kinds of fields that several requests share, with the bounds that are checked before anything is computed.

The bounds of sampling are the engine's (:class:`asynckit.engine.config.SamplingParams`); these here keep a
request from costing anything before the engine sees it. Lists stop at their first mistake.
"""

import json
from collections.abc import Callable, Sized
from typing import Annotated, Any

import msgspec
from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, model_validator

LONGEST_TEXT = 8 * 2**20  # characters; the body's limit is usually reached first
LONGEST_GRAMMAR = 65_536  # characters of a schema or regex; see asynckit.engine.grammar
LONGEST_NAME = 256
MOST_FIELDS = 256
MOST_TOKENS = 2**20
MOST_MESSAGES = 4096
MOST_TOOLS = 128
MOST_STOPS = 16
MOST_BIASES = 1024
MOST_STOP_IDS = 1024
MOST_ALLOWED = 262_144
MOST_PROMPTS = 4096


class Fields(BaseModel):
    """What a client sends: exact types, finite numbers, no unknown fields."""

    model_config = ConfigDict(strict=True, extra="forbid", allow_inf_nan=False, protected_namespaces=())

    @model_validator(mode="before")
    @classmethod
    def _few_fields(cls, value: Any) -> Any:
        if not isinstance(value, dict):
            return value
        at_most(MOST_FIELDS)(value)
        if not all(map(_is_text, value)):
            raise ValueError("has a field whose name UTF-8 can't hold: half of a surrogate pair")
        return {name: _whole(each) for name, each in value.items()}


class Answer(BaseModel):
    """What a client gets; it documents the answer, which is written without it."""

    model_config = ConfigDict(protected_namespaces=())


def _is_text(name: object) -> bool:
    """Whether UTF-8 can hold a field's name; pydantic reports halves of surrogate pairs without a place."""
    return isinstance(name, str) and name.encode(errors="replace").decode() == name


def _whole(value: Any) -> Any:
    """JSON knows one kind of number: 16.0 is an integer too, and some clients write it so."""
    return int(value) if type(value) is float and value.is_integer() else value


def whole_ids(value: Any) -> Any:
    """The same for a list of them, which is looked through only where it holds such a number."""
    if isinstance(value, list) and float in set(map(type, value)):
        return [_whole(each) for each in value]
    return value


def at_most(most: int) -> Callable[[Any], Any]:
    """Refuses what has more entries before any of them is looked at."""

    def check(value: Any) -> Any:
        if isinstance(value, Sized) and len(value) > most:
            raise ValueError(f"has {len(value)} entries; {most} are accepted")
        return value

    return check


def plain_json(value: Any) -> Any:
    """Refuses halves of surrogate pairs, NaN, integers that msgpack can't hold, and what is far too long."""
    text = json.dumps(value, ensure_ascii=False, allow_nan=False)
    text.encode()
    try:
        msgspec.msgpack.encode(value)
    except OverflowError:
        raise ValueError("has an integer of more than 64 bits") from None
    if len(text) > LONGEST_GRAMMAR:
        raise ValueError(f"has {len(text)} characters as JSON; {LONGEST_GRAMMAR} are accepted")
    return value


JsonObject = Annotated[dict[str, Any], AfterValidator(plain_json)]
Name = Annotated[str, Field(min_length=1, max_length=LONGEST_NAME)]
TextField = Annotated[str, Field(max_length=LONGEST_TEXT)]
Grammar = Annotated[str, Field(min_length=1, max_length=LONGEST_GRAMMAR)]
TokenId = Annotated[int, Field(ge=0, le=2**31 - 1)]
TokenIds = Annotated[
    list[TokenId],
    Field(max_length=MOST_TOKENS, fail_fast=True),
    BeforeValidator(whole_ids),
    BeforeValidator(at_most(MOST_TOKENS)),
]
Stop = (
    Annotated[str, Field(min_length=1, max_length=1024)]
    | Annotated[
        list[Annotated[str, Field(min_length=1, max_length=1024)]],
        Field(max_length=MOST_STOPS, fail_fast=True),
        BeforeValidator(at_most(MOST_STOPS)),
    ]
)
StopIds = Annotated[
    list[TokenId],
    Field(max_length=MOST_STOP_IDS, fail_fast=True),
    BeforeValidator(whole_ids),
    BeforeValidator(at_most(MOST_STOP_IDS)),
]
AllowedIds = Annotated[
    list[TokenId],
    Field(min_length=1, max_length=MOST_ALLOWED, fail_fast=True),
    BeforeValidator(whole_ids),
    BeforeValidator(at_most(MOST_ALLOWED)),
]
Biases = Annotated[
    dict[str, Annotated[float, Field(ge=-100, le=100)]],
    Field(max_length=MOST_BIASES),
    BeforeValidator(at_most(MOST_BIASES)),
]
Anything = Annotated[Any, Field(description="accepted and ignored")]
