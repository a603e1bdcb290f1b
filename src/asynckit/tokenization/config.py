"""Settings of ``asynckit tokenize``."""

from dataclasses import dataclass
from dataclasses import field as setting

MODES = ("documents", "chat", "pairs")
FORMATS = ("megatron", "npy", "parquet", "arrow")
ENCODERS = ("auto", "tokenizers", "gigatoken", "kitoken")
INPUT_FORMATS = ("auto", "jsonl", "json", "parquet", "arrow", "csv", "text")


@dataclass(frozen=True)
class TokenizationConfig:
    """How text becomes token shards.

    A setting with ``"identity": False`` changes how the work goes, never what is written.
    """

    out: str | None = setting(default=None, metadata={"help": "folder of the shards", "identity": False})
    format: str = setting(default="megatron", metadata={"help": "what is written", "choices": FORMATS})
    mode: str = setting(default="documents", metadata={"help": "what a record is", "choices": MODES})
    field: str | None = setting(
        default=None,
        metadata={"help": "where the text is, such as messages[0].content; text or messages by default"},
    )
    prompt_field: str = setting(default="prompt", metadata={"help": "where a pair's prompt is"})
    completion_field: str = setting(default="completion", metadata={"help": "where a pair's completion is"})
    tools_field: str | None = setting(default=None, metadata={"help": "where a chat's tools are"})
    chat_date: str | None = setting(
        default=None,
        metadata={"help": "today, such as 2026-01-31, for chat templates that write the date"},
    )
    input_format: str = setting(
        default="auto", metadata={"help": "of all inputs; auto goes by the name", "choices": INPUT_FORMATS}
    )
    text_unit: str = setting(
        default="file",
        metadata={"help": "what a document is in plain text", "choices": ("file", "line", "paragraph")},
    )
    encoder: str = setting(
        default="auto",
        metadata={"help": "auto takes the fastest that is exact for the tokenizer", "choices": ENCODERS},
    )
    check_share: float = setting(
        default=0.002,
        metadata={
            "help": "share of documents that the reference encodes too; more where the inputs are small",
            "min": 0.0,
            "max": 1.0,
        },
    )
    bos: str = setting(
        default="tokenizer",
        metadata={
            "help": "before each document: what the tokenizer does by itself, or always, or never",
            "choices": ("tokenizer", "add", "none"),
        },
    )
    eos: str = setting(
        default="add",
        metadata={"help": "after each document, likewise", "choices": ("tokenizer", "add", "none")},
    )
    max_length: int | None = setting(
        default=None, metadata={"help": "tokens after which a document is cut off, and reported", "min": 1}
    )
    pack_length: int | None = setting(
        default=None, metadata={"help": "tokens of the sequences that documents are packed into", "min": 2}
    )
    packing: str = setting(
        default="first_fit",
        metadata={
            "help": "whole documents where they fit, or one after another, cut at the length",
            "choices": ("first_fit", "concatenate"),
        },
    )
    on_error: str = setting(
        default="stop",
        metadata={"help": "what a broken record does to the rest", "choices": ("stop", "skip")},
    )
    unit_bytes: int = setting(
        default=8 << 20, metadata={"help": "of input that a worker takes at a time", "min": 1 << 10}
    )
    shard_bytes: int = setting(
        default=2 << 30, metadata={"help": "of input per shard; 0 makes one", "min": 0}
    )
    unit_seconds: float = setting(
        default=1800.0,
        metadata={
            "help": "after which a worker that has not finished a unit is taken for dead",
            "above": 0.0,
            "identity": False,
        },
    )
    workers: int | None = setting(
        default=None, metadata={"help": "processes; one per core by default", "min": 1, "identity": False}
    )
    ray: bool = setting(
        default=False, metadata={"help": "use the Ray cluster of ray.address", "identity": False}
    )
