"""The fields of sampling that completions and chats share, and what the engine makes of them."""

import json
import secrets
from collections.abc import Iterable
from typing import Annotated, Literal, TypeVar

from pydantic import ConfigDict, Field

from asynckit.engine.config import SamplingParams
from asynckit.serve.api.errors import ApiError
from asynckit.serve.api.schemas.fields import (
    AllowedIds,
    Anything,
    Biases,
    Fields,
    Grammar,
    JsonObject,
    Name,
    Stop,
    StopIds,
)

Value = TypeVar("Value")


class StreamOptions(Fields):
    """What a stream has besides its pieces."""

    include_usage: bool | None = Field(default=None, description="a last chunk counts the tokens")


class NamedSchema(Fields):
    """A JSON schema as OpenAI's clients send it."""

    name: Name
    description: str | None = None
    schema_: JsonObject | None = Field(default=None, alias="schema")
    strict: bool | None = None

    model_config = ConfigDict(serialize_by_alias=True)


class PlainFormat(Fields):
    """Any text."""

    type: Literal["text"]


class ObjectFormat(Fields):
    """Some JSON object."""

    type: Literal["json_object"]


class SchemaFormat(Fields):
    """JSON that matches a schema."""

    type: Literal["json_schema"]
    json_schema: NamedSchema


ResponseFormat = Annotated[PlainFormat | ObjectFormat | SchemaFormat, Field(discriminator="type")]


class SamplingFields(Fields):
    """How tokens are chosen and when a response ends; OpenAI's fields, then vLLM's, then what is ignored."""

    model: Name
    temperature: Annotated[float, Field(ge=0, le=100)] | None = None
    top_p: Annotated[float, Field(gt=0, le=1)] | None = None
    n: Annotated[int, Field(ge=1, le=4096)] | None = None
    stop: Stop | None = None
    seed: Annotated[int, Field(ge=-(2**63), le=2**63 - 1)] | None = None
    presence_penalty: Annotated[float, Field(ge=-2, le=2)] | None = None
    frequency_penalty: Annotated[float, Field(ge=-2, le=2)] | None = None
    logit_bias: Biases | None = None
    max_tokens: Annotated[int, Field(ge=0, le=10_000_000)] | None = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    response_format: ResponseFormat | None = None

    top_k: Annotated[int, Field(ge=-1, le=10_000_000)] | None = Field(
        default=None, description="keep the k likeliest tokens; 0 and -1 keep all"
    )
    min_p: Annotated[float, Field(ge=0, le=1)] | None = None
    repetition_penalty: Annotated[float, Field(gt=0, le=100)] | None = None
    stop_token_ids: StopIds | None = None
    allowed_token_ids: AllowedIds | None = None
    min_tokens: Annotated[int, Field(ge=0, le=10_000_000)] | None = None
    ignore_eos: bool | None = None
    prompt_logprobs: Annotated[int, Field(ge=0, le=20)] | None = None
    skip_special_tokens: bool | None = Field(default=None, description="leave them out of the text (true)")
    add_special_tokens: bool | None = Field(
        default=None,
        description="add what the tokenizer puts before a text; chat templates do that",
    )
    return_token_ids: bool | None = Field(
        default=None, description="add prompt_token_ids and each choice's token_ids"
    )
    guided_json: JsonObject | Grammar | None = Field(default=None, description="a JSON schema")
    guided_regex: Grammar | None = Field(default=None, description="what the whole response matches")

    user: Anything = None
    store: Anything = None
    metadata: Anything = None
    service_tier: Anything = None
    safety_identifier: Anything = None
    prompt_cache_key: Anything = None
    prompt_cache_retention: Anything = None
    spaces_between_special_tokens: Anything = None


def sampling_of(
    body: SamplingFields,
    max_tokens: int,
    *,
    top_logprobs: int = 0,
    prompt_logprobs: int | None = None,
    tool_schema: str | None = None,
) -> SamplingParams:
    """The engine's parameters for a request.

    Args:
        body: the request.
        max_tokens: longest response.
        top_logprobs: likeliest tokens to report.
        prompt_logprobs: the same for the prompt; None leaves the prompt unscored.
        tool_schema: that a forced tool call matches.

    Raises:
        ApiError: more than one thing says what the response must match.
    """
    json_schema, regex = _grammar(body, tool_schema)
    return SamplingParams(
        temperature=_or(body.temperature, 1.0),
        top_k=max(0, _or(body.top_k, 0)),
        top_p=_or(body.top_p, 1.0),
        min_p=_or(body.min_p, 0.0),
        max_tokens=max_tokens,
        stop=(body.stop,) if isinstance(body.stop, str) else tuple(body.stop or ()),
        stop_token_ids=_once_each(body.stop_token_ids or ()),
        ignore_eos=bool(body.ignore_eos),
        min_tokens=_or(body.min_tokens, 0),
        seed=secrets.randbits(63) if body.seed is None else body.seed % 2**63,
        repetition_penalty=_or(body.repetition_penalty, 1.0),
        presence_penalty=_or(body.presence_penalty, 0.0),
        frequency_penalty=_or(body.frequency_penalty, 0.0),
        logit_bias=dict(body.logit_bias or {}),
        allowed_token_ids=None if body.allowed_token_ids is None else _once_each(body.allowed_token_ids),
        top_logprobs=top_logprobs,
        prompt_logprobs=prompt_logprobs,
        json_schema=json_schema,
        regex=regex,
    )


def grammar_field(body: SamplingFields) -> str:
    """Where the grammar of a request that has one comes from."""
    if body.guided_regex is not None:
        return "guided_regex"
    if body.guided_json is not None:
        return "guided_json"
    return "tool_choice" if _format_schema(body.response_format) is None else "response_format"


def _once_each(ids: Iterable[int]) -> tuple[int, ...]:
    return tuple(dict.fromkeys(ids))


def _or(value: Value | None, default: Value) -> Value:
    return default if value is None else value


def _grammar(body: SamplingFields, tool_schema: str | None) -> tuple[str | None, str | None]:
    """JSON schema and regex that a response must match, at most one of them."""
    wanted = {
        "tool_choice": tool_schema,
        "response_format": _format_schema(body.response_format),
        "guided_json": _schema_text(body.guided_json),
        "guided_regex": body.guided_regex,
    }
    given = [name for name, value in wanted.items() if value is not None]
    if len(given) > 1:
        raise ApiError(400, f"{' and '.join(given)} exclude each other", param=given[1])
    if not given:
        return None, None
    text = wanted[given[0]]
    return (None, text) if given == ["guided_regex"] else (text, None)


def _schema_text(schema: dict[str, object] | str | None) -> str | None:
    return json.dumps(schema, ensure_ascii=False) if isinstance(schema, dict) else schema


def _format_schema(wanted: PlainFormat | ObjectFormat | SchemaFormat | None) -> str | None:
    if isinstance(wanted, ObjectFormat):
        return '{"type": "object"}'
    if isinstance(wanted, SchemaFormat):
        return json.dumps(wanted.json_schema.schema_ or {}, ensure_ascii=False)
    return None
