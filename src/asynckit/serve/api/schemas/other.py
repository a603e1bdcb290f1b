"""The smaller routes: models, adapters, weights, tokenizing, embeddings, the server itself."""

from typing import Annotated, Literal

from pydantic import Field

from asynckit.serve.adapters import LONGEST_NAME, LONGEST_PATH
from asynckit.serve.api.schemas.chat import Messages, TemplateArguments, Tools
from asynckit.serve.api.schemas.completion import Prompts
from asynckit.serve.api.schemas.fields import (
    Answer,
    Anything,
    Fields,
    Name,
    TextField,
    TokenIds,
)

Folder = Annotated[str, Field(min_length=1, max_length=LONGEST_PATH)]
AdapterName = Annotated[str, Field(min_length=1, max_length=LONGEST_NAME)]


class ModelCard(Answer):
    """A name that requests can use: the model, or an adapter of it."""

    id: str
    object: Literal["model"]
    created: int
    owned_by: str
    root: str
    parent: str | None
    max_model_len: int


class ModelList(Answer):
    """All names."""

    object: Literal["list"]
    data: list[ModelCard]


class LoadAdapterRequest(Fields):
    """Which adapter to load; vLLM's fields."""

    lora_name: AdapterName
    lora_path: Folder


class UnloadAdapterRequest(Fields):
    """Which adapter to take away; vLLM's fields."""

    lora_name: Name
    lora_int_id: Anything = None


class UpdateWeightsRequest(Fields):
    """Other weights of the same model to sample with from now on."""

    version: Annotated[int, Field(ge=0, le=2**53)]
    path: Folder
    on_update: Literal["keep_kv", "recompute_kv", "abort"] = "keep_kv"


class Done(Answer):
    """It has been done."""

    message: str


class TokenizeRequest(Fields):
    """A text, or a chat, to turn into token ids; vLLM's fields."""

    model: Name | None = None
    prompt: TextField | None = None
    add_special_tokens: bool | None = None
    return_token_strs: bool | None = None
    messages: Messages | None = None
    tools: Tools | None = None
    add_generation_prompt: bool | None = None
    continue_final_message: bool | None = None
    chat_template_kwargs: TemplateArguments | None = None


class TokenizeAnswer(Answer):
    """The ids."""

    count: int
    max_model_len: int
    tokens: list[int]
    token_strs: list[str] | None


class DetokenizeRequest(Fields):
    """Token ids to turn into text; vLLM's fields."""

    model: Name | None = None
    tokens: TokenIds


class DetokenizeAnswer(Answer):
    """The text, special tokens included."""

    prompt: str


class EmbeddingsRequest(Fields):
    """Texts or token ids to turn into vectors."""

    model: Name
    input: Annotated[Prompts, Field(union_mode="left_to_right")]
    encoding_format: Literal["float", "base64"] | None = None
    dimensions: None = Field(default=None, description="not supported")
    add_special_tokens: bool | None = None
    user: Anything = None


class EmbeddingUsage(Answer):
    """Tokens of the inputs."""

    prompt_tokens: int
    total_tokens: int


class Embedding(Answer):
    """A vector; base64 holds its little-endian 32-bit floats."""

    object: Literal["embedding"]
    index: int
    embedding: list[float] | str


class EmbeddingsAnswer(Answer):
    """A vector for each input."""

    object: Literal["list"]
    data: list[Embedding]
    model: str
    usage: EmbeddingUsage


class Health(Answer):
    """Whether a probe has passed through the whole ring."""

    status: Literal["ok"]


class Readiness(Answer):
    """Whether requests are taken."""

    ready: Literal[True]


class AdapterState(Answer):
    """An adapter that requests can name."""

    name: str


class Stats(Answer):
    """Where the server stands; counts are over all replicas."""

    running: int
    waiting: int
    kv_usage: float
    generated_tokens: int
    prompt_tokens: int
    finished: int
    replicas: int
    replicas_ready: int
    version: int
    adapters: list[AdapterState]
    uptime: float
    open_requests: int = Field(description="of this HTTP process")
    model: str
