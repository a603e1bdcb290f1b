"""``POST /v1/completions``."""

from typing import Annotated, Literal

from pydantic import BeforeValidator, Field

from asynckit.serve.api.schemas.fields import MOST_PROMPTS, Answer, TextField, TokenIds, at_most
from asynckit.serve.api.schemas.sampling import SamplingFields

Prompts = (
    TextField
    | TokenIds
    | Annotated[
        list[TextField],
        Field(min_length=1, max_length=MOST_PROMPTS, fail_fast=True),
        BeforeValidator(at_most(MOST_PROMPTS)),
    ]
    | Annotated[
        list[TokenIds],
        Field(min_length=1, max_length=MOST_PROMPTS, fail_fast=True),
        BeforeValidator(at_most(MOST_PROMPTS)),
    ]
)


class CompletionRequest(SamplingFields):
    """A text to go on with, or several; as text or as token ids."""

    prompt: Annotated[Prompts, Field(union_mode="left_to_right")]
    echo: bool | None = Field(default=None, description="begin with the prompt")
    logprobs: Annotated[int, Field(ge=0, le=20)] | None = Field(
        default=None, description="report the logprobs of the tokens, and of so many likeliest ones"
    )
    best_of: Annotated[int, Field(ge=1)] | None = Field(default=None, description="must equal n")
    suffix: Literal[""] | None = Field(default=None, description="not supported")


class Usage(Answer):
    """Tokens of a request."""

    prompt_tokens: int
    completion_tokens: int
    total_tokens: int


class CompletionLogprobs(Answer):
    """Logprobs, in lists with an entry for each token."""

    text_offset: list[int]
    token_logprobs: list[float | None]
    tokens: list[str]
    top_logprobs: list[dict[str, float] | None]


class PromptLogprob(Answer):
    """A token of the prompt, or a likelier one in its place; vLLM's."""

    logprob: float
    rank: int | None
    decoded_token: str


class CompletionChoice(Answer):
    """One sample."""

    index: int
    text: str
    finish_reason: Literal["stop", "length", "abort"] | None
    logprobs: CompletionLogprobs | None = None
    token_ids: list[int] | None = None
    prompt_token_ids: list[int] | None = None
    prompt_logprobs: list[dict[str, PromptLogprob] | None] | None = None


class CompletionAnswer(Answer):
    """All samples of all prompts: sample ``s`` of prompt ``p`` has index ``p * n + s``."""

    id: str
    object: Literal["text_completion"]
    created: int
    model: str
    choices: list[CompletionChoice]
    usage: Usage | None
