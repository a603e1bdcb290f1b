"""``POST /v1/chat/completions``."""

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Field

from asynckit.serve.api.schemas.completion import PromptLogprob, Usage
from asynckit.serve.api.schemas.fields import (
    MOST_MESSAGES,
    MOST_TOOLS,
    Answer,
    Anything,
    Fields,
    JsonObject,
    Name,
    TextField,
    at_most,
    plain_json,
)
from asynckit.serve.api.schemas.sampling import SamplingFields

Scalar = Annotated[str, Field(max_length=1024)] | bool | int | float | None
TemplateArguments = Annotated[
    dict[Name, Scalar], Field(max_length=16), BeforeValidator(at_most(16)), AfterValidator(plain_json)
]  # scalars only: nothing that a template could walk through for long


class TextPart(Fields):
    """A part of a message; others than text are refused."""

    type: Literal["text"]
    text: TextField


Parts = Annotated[
    list[TextPart], Field(min_length=1, max_length=1024, fail_fast=True), BeforeValidator(at_most(1024))
]
Content = TextField | Parts


class CalledFunction(Fields):
    """The function and the arguments, as JSON text, that a model chose."""

    name: Name
    arguments: TextField


class ToolCall(Fields):
    """A call that a model made."""

    id: Annotated[str, Field(max_length=256)] | None = None
    type: Literal["function"] = "function"
    function: CalledFunction


class SystemMessage(Fields):
    """Instructions."""

    role: Literal["system", "developer"]
    content: Content
    name: Name | None = None


class UserMessage(Fields):
    """What the user says."""

    role: Literal["user"]
    content: Content
    name: Name | None = None


class AssistantMessage(Fields):
    """What the model said."""

    role: Literal["assistant"]
    content: Content | None = None
    name: Name | None = None
    tool_calls: Annotated[list[ToolCall], Field(max_length=MOST_TOOLS)] | None = None
    refusal: Anything = None
    reasoning_content: TextField | None = Field(default=None, description="for templates that know it")
    audio: None = None
    annotations: Anything = None
    function_call: None = None


class ToolMessage(Fields):
    """What a call gave."""

    role: Literal["tool"]
    content: Content
    tool_call_id: Annotated[str, Field(max_length=256)] | None = None
    name: Name | None = None


Message = Annotated[SystemMessage | UserMessage | AssistantMessage | ToolMessage, Field(discriminator="role")]
Messages = Annotated[
    list[Message],
    Field(min_length=1, max_length=MOST_MESSAGES, fail_fast=True),
    BeforeValidator(at_most(MOST_MESSAGES)),
]


class FunctionDefinition(Fields):
    """A function that the model may call."""

    name: Annotated[str, Field(pattern=r"^[a-zA-Z0-9_.-]{1,64}$")]
    description: Annotated[str, Field(max_length=16_384)] | None = None
    parameters: JsonObject | None = None
    strict: bool | None = None


class Tool(Fields):
    """A tool; functions are the only ones."""

    type: Literal["function"]
    function: FunctionDefinition


Tools = Annotated[
    list[Tool],
    Field(min_length=1, max_length=MOST_TOOLS, fail_fast=True),
    BeforeValidator(at_most(MOST_TOOLS)),
]


class ChosenFunction(Fields):
    """The name of a function."""

    name: Name


class ChosenTool(Fields):
    """The tool that must be called."""

    type: Literal["function"]
    function: ChosenFunction


class ChatRequest(SamplingFields):
    """A chat to answer."""

    messages: Messages
    max_tokens: Annotated[int, Field(ge=1, le=10_000_000)] | None = None  # no echo, so nothing to say with 0
    max_completion_tokens: Annotated[int, Field(ge=1, le=10_000_000)] | None = Field(
        default=None, description="longest answer; max_tokens is its older name"
    )
    logprobs: bool | None = None
    top_logprobs: Annotated[int, Field(ge=0, le=20)] | None = None
    tools: Tools | None = None
    tool_choice: Literal["none", "auto", "required"] | ChosenTool | None = None
    parallel_tool_calls: bool | None = Field(default=None, description="false: a forced call is one call")
    modalities: list[Literal["text"]] | None = None

    chat_template_kwargs: TemplateArguments | None = Field(
        default=None, description="variables for the chat template, such as enable_thinking"
    )
    add_generation_prompt: bool | None = None
    continue_final_message: bool | None = Field(
        default=None, description="go on with the last message; needs add_generation_prompt=false"
    )


class AnsweredFunction(Answer):
    """The function and the arguments, as JSON text, that the model chose."""

    name: str
    arguments: str


class AnsweredCall(Answer):
    """A call that the model made."""

    id: str
    type: Literal["function"]
    function: AnsweredFunction


class ChatAnswerMessage(Answer):
    """What the model said."""

    role: Literal["assistant"]
    content: str | None
    tool_calls: list[AnsweredCall] | None = None


class LikelyToken(Answer):
    """A token and its logprob."""

    token: str
    logprob: float
    bytes: list[int]


class ChatToken(LikelyToken):
    """A token of the answer, with the likeliest in its place."""

    top_logprobs: list[LikelyToken]


class ChatLogprobs(Answer):
    """Logprobs of an answer's tokens."""

    content: list[ChatToken]


class ChatChoice(Answer):
    """One sample."""

    index: int
    message: ChatAnswerMessage
    finish_reason: Literal["stop", "length", "tool_calls", "abort"]
    logprobs: ChatLogprobs | None = None
    token_ids: list[int] | None = None


class ChatAnswer(Answer):
    """All samples."""

    id: str
    object: Literal["chat.completion"]
    created: int
    model: str
    choices: list[ChatChoice]
    usage: Usage
    prompt_token_ids: list[int] | None = None
    prompt_logprobs: list[dict[str, PromptLogprob] | None] | None = None


_NOT_SHOWN = {"refusal", "annotations", "audio", "function_call"}  # to templates


def template_messages(messages: list[Any]) -> list[dict[str, Any]]:
    """Messages as chat templates know them: text instead of parts, arguments of calls as objects."""
    return [_template_message(message) for message in messages]


def _template_message(message: Any) -> dict[str, Any]:
    kept: dict[str, Any] = message.model_dump(exclude_none=True, exclude=_NOT_SHOWN)
    if isinstance(kept.get("content"), list):
        kept["content"] = "\n".join(part["text"] for part in kept["content"])
    if kept["role"] == "developer":
        kept["role"] = "system"
    if kept["role"] == "assistant":
        kept.setdefault("content", "")
    return kept
