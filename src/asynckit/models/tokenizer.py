"""Tokenizers and processors, loaded from a model's folder."""

import hashlib
import json
import logging
from pathlib import Path
from typing import TYPE_CHECKING, Any

from asynckit.errors import DependencyError, InputError, ModelNotFound
from asynckit.models.config import ModelConfig
from asynckit.models.local import LocalModel, read_json
from asynckit.models.resolve import resolve_tokenizer

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase, ProcessorMixin

_logger = logging.getLogger(__name__)
_VOCABULARIES = (
    *("tokenizer.json", "tokenizer.model", "vocab.json", "vocab.txt", "tekken.json"),
    *("spiece.model", "sentencepiece.bpe.model", "*.tiktoken", "tokenization_*.py"),
)
_PROCESSORS = ("processor_config.json", "preprocessor_config.json", "video_preprocessor_config.json")


def load_tokenizer(model: LocalModel | None, config: ModelConfig) -> "PreTrainedTokenizerBase":
    """The model's tokenizer, or the one that ``config.tokenizer`` names.

    Without a model, for want of its weights, the tokenizer alone is looked for.

    Python code that comes with it runs only under ``config.trust_remote_code``.

    Raises:
        ModelNotFound: there are no tokenizer files.
        InputError: the files cannot be read.
        DependencyError: the tokenizer needs its own Python code or a package that is not installed.
    """
    folder = resolve_tokenizer(config) if config.tokenizer or model is None else model.path
    tokenizer: PreTrainedTokenizerBase
    if _has_vocabulary(folder):
        tokenizer = _load("AutoTokenizer", folder, config)
    else:
        tokenizer = _load_without_vocabulary(folder, config)
    _report_backend(tokenizer, config)
    return tokenizer


def _has_vocabulary(folder: Path) -> bool:
    return any(any(folder.glob(pattern)) for pattern in _VOCABULARIES)


def _load_without_vocabulary(folder: Path, config: ModelConfig) -> Any:
    """A tokenizer of bytes or characters; refuses the empty one that transformers makes of missing files."""
    absent = ModelNotFound(
        f"{folder} has no tokenizer files",
        where="model.tokenizer",
        mend="name a tokenizer with model.tokenizer",
    )
    if not (folder / "tokenizer_config.json").is_file():
        raise absent
    try:
        tokenizer = _load("AutoTokenizer", folder, config)
    except InputError as error:
        raise absent from error
    if tokenizer.is_fast:  # only Python tokenizers can do without a vocabulary
        raise absent
    return tokenizer


def load_processor(model: LocalModel, config: ModelConfig) -> "ProcessorMixin | None":
    """What turns images, audio or video into model inputs; None for a text-only model.

    Raises as ``load_tokenizer`` does.
    """
    if not any((model.path / name).is_file() for name in _PROCESSORS):
        return None
    processor: ProcessorMixin = _load("AutoProcessor", model.path, config)
    return processor


def _load(auto_class: str, folder: Path, config: ModelConfig) -> Any:
    import transformers

    trusted = (
        config.trust_remote_code
    )  # trusted code may live in another repository, all else lies in the folder
    options: dict[str, Any] = {"trust_remote_code": trusted, "local_files_only": not trusted}
    if not (folder / "config.json").is_file():
        options["config"] = transformers.PreTrainedConfig()  # a tokenizer alone: there is no model to look at
    try:
        return getattr(transformers, auto_class).from_pretrained(folder, **options)
    except ImportError as error:
        raise DependencyError(
            _reason(error), where=str(folder), mend="install the package it names"
        ) from error
    except (
        Exception
    ) as error:  # the Rust side of tokenizers raises plain Exception for a file that it cannot use
        if "trust_remote_code" in str(error):
            raise DependencyError(
                "comes with its own Python code, which is not run unless you trust it",
                where=str(folder),
                mend="read the code, then set model.trust_remote_code=true",
            ) from error
        raise InputError(
            f"cannot be loaded: {_reason(error)}", where=str(folder), mend="save or fetch the files again"
        ) from error


def _reason(error: Exception) -> str:
    return next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)


def _report_backend(tokenizer: "PreTrainedTokenizerBase", config: ModelConfig) -> None:
    """Say when the tokenizer is not of the kind that ``use_fast`` asks for."""
    if config.use_fast and not tokenizer.is_fast:
        _logger.warning(
            "%s has no Rust version: the slower Python tokenizer is used", type(tokenizer).__name__
        )
    if not config.use_fast and tokenizer.is_fast:
        _logger.warning("model.use_fast=false has no effect: this tokenizer exists in Rust only")


def tokenizer_digest(tokenizer: "PreTrainedTokenizerBase | Path") -> str:
    """Digest over what decides the ids: 64 hex digits, the same for a tokenizer and its folder.

    Padding and truncation are left out: they are settings of a call. So is the chat template. Raises for a
    folder as ``load_tokenizer`` does.
    """
    if isinstance(tokenizer, Path):
        return tokenizer_digest(_load("AutoTokenizer", tokenizer, ModelConfig()))
    if tokenizer.is_fast:
        content = json.loads(tokenizer.backend_tokenizer.to_str())
        content.pop("padding", None)
        content.pop("truncation", None)
    else:
        content = {"class": type(tokenizer).__name__, "vocabulary": tokenizer.get_vocab()}
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def eos_token_ids(model_path: Path, tokenizer: "PreTrainedTokenizerBase | None" = None) -> frozenset[int]:
    """Every id that ends a text: of ``generation_config.json``, of ``config.json`` and of the tokenizer.

    Raises:
        InputError: a file is no JSON, or its ``eos_token_id`` is neither an id nor a list of ids.
    """
    ids = {
        id_ for name in ("generation_config.json", "config.json") for id_ in _declared_eos(model_path / name)
    }
    if tokenizer is not None and tokenizer.eos_token_id is not None:
        ids.add(int(tokenizer.eos_token_id))
    return frozenset(ids)


def _declared_eos(path: Path) -> list[int]:
    if not path.is_file():
        return []
    content = read_json(path)
    text = content.get("text_config")  # where multimodal models keep the language model's settings
    declared = content.get("eos_token_id", text.get("eos_token_id") if isinstance(text, dict) else None)
    ids = declared if isinstance(declared, list) else [] if declared is None else [declared]
    if not all(type(id_) is int for id_ in ids):
        raise InputError(
            f"eos_token_id is {declared!r}",
            where=str(path),
            mend="it must be a token id or a list of token ids",
        )
    return ids
