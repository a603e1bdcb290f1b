"""Settings of the model loader."""

from dataclasses import dataclass, field


@dataclass(frozen=True)
class ModelConfig:
    """Which model to load and how far to trust what comes with it."""

    name: str = field(
        default="smollm2-135m-instruct",
        metadata={
            "help": "built-in name, local folder, GGUF file, Hub id, or remote folder (s3://, hdfs://, gs://)"
        },
    )
    revision: str | None = field(default=None, metadata={"help": "branch, tag or commit of a Hub model"})
    tokenizer: str | None = field(
        default=None, metadata={"help": "tokenizer to use instead of the model's own"}
    )
    trust_remote_code: bool = field(
        default=False, metadata={"help": "run Python code that comes with the model"}
    )
    use_fast: bool = field(
        default=True,
        metadata={"help": "prefer the Rust tokenizer; transformers 5 has no other for most models"},
    )
    cache_dir: str | None = field(
        default=None,
        metadata={"help": "folder for fetched and converted models; ASYNCKIT_CACHE_DIR or the user's cache"},
    )
