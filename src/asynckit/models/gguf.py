"""GGUF files to ordinary model folders: dequantized once to float32 safetensors, kept in the cache.

float32 keeps every value as the file defines it (a Q4_1 block is ``scale * q + minimum`` in float32); whoever
loads the folder casts from there.
"""

import contextlib
import errno
import io
import logging
import re
import shutil
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

from asynckit.console import print_note
from asynckit.errors import InputError
from asynckit.models.cache import build_once

Part = Literal["model", "tokenizer"]

_logger = logging.getLogger(__name__)
_FORMAT = 1  # of what is written; raised when a conversion is mended, so that no older result is used
_LONGEST_CONVERSION = 1800.0
_SPLIT_FILE = re.compile(r"-\d{5}-of-\d{5}\.gguf$")

# llama.cpp's pre-tokenizers that set every digit apart before GPT-2's splitting (llama-vocab.cpp).
# transformers builds these vocabularies with GPT-2's splitting alone, which gives other ids to white space
# before digits: "\n\n1", "  7".
_DIGITS_APART = frozenset({"smollm", "starcoder", "refact", "command-r", "codeshell", "exaone", "minerva-7b"})
_LIKE_GPT2 = frozenset({"gpt-2", "mpt", "olmo", "jais", "trillion", "granite-docling", "phi-2"})


def convert(gguf: Path, models: Path, name: str, *, part: Part, progress: bool) -> Path:
    """The folder in ``models`` with ``gguf`` in the Hugging Face format, converted if it is not there yet.

    Args:
        gguf: the file.
        models: the cache's folder for models.
        name: the folder's name, unique to the file's content.
        part: ``tokenizer`` writes the tokenizer only, which is much quicker; a converted model is used where
            one exists.
        progress: show on stderr what is done, and transformers' own bars and messages.

    Raises:
        InputError: no GGUF file, or one that transformers cannot read.
        DependencyError: the cache cannot be written, or another process converts for too long.
    """
    whole = models / f"{name}-v{_FORMAT}"
    if whole.is_dir():
        return whole
    _check(gguf)
    target = whole if part == "model" else whole.with_name(f"{whole.name}-tokenizer")

    def build(folder: Path) -> None:
        if progress:
            print_note(f"converting {gguf.name} once; kept in {target}")
        shutil.rmtree(folder, ignore_errors=True)  # what a killed conversion left
        _write(gguf, folder, part, progress=progress)

    return build_once(target, build, doing=f"converting {gguf.name}", wait_seconds=_LONGEST_CONVERSION)


def _check(gguf: Path) -> None:
    if _SPLIT_FILE.search(gguf.name):
        raise InputError(
            "one part of a split GGUF file",
            where=str(gguf),
            mend="join the parts with llama-gguf-split --merge",
        )
    with gguf.open("rb") as file:
        if file.read(4) != b"GGUF":
            raise InputError("not a GGUF file", where=str(gguf), mend="fetch the file again")


def _write(gguf: Path, folder: Path, part: Part, *, progress: bool) -> None:
    from safetensors import SafetensorError

    with quiet_transformers(progress=progress and sys.stderr.isatty()):
        try:
            load_gguf_tokenizer(gguf).save_pretrained(folder)
            if part == "model":
                _load_weights(gguf).save_pretrained(folder)
        except SafetensorError as error:  # how a full disk shows while weights are written
            raise OSError(errno.EIO, str(error)) from error
        except OSError as error:
            if (
                error.errno is not None
            ):  # from the system, not transformers' way to say that it lacks something
                raise
            raise _unconvertible(gguf, error) from error
        except Exception as error:  # a damaged binary file makes its reader fail in any way
            raise _unconvertible(gguf, error) from error


def _unconvertible(gguf: Path, error: Exception) -> InputError:
    reason = f"{type(error).__name__}: {error}".splitlines()[0]
    message = f"transformers cannot convert this GGUF file: {reason}"
    return InputError(message, where=str(gguf), mend="use the model's safetensors release")


def _load_weights(gguf: Path) -> Any:
    import torch
    from transformers import AutoModelForCausalLM, GgufConfig

    return AutoModelForCausalLM.from_pretrained(
        gguf.parent,
        gguf_file=gguf.name,
        quantization_config=GgufConfig(dequantize=True),
        dtype=torch.float32,
    )


def load_gguf_tokenizer(gguf: Path) -> Any:
    """The tokenizer inside a GGUF file, splitting text the way its vocabulary was trained."""
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(gguf.parent, gguf_file=gguf.name)
    _mend_splitting(tokenizer.backend_tokenizer, _pre_tokenizer_name(gguf), gguf)
    return tokenizer


def _mend_splitting(backend: Any, splitting: str, gguf: Path) -> None:
    from tokenizers import pre_tokenizers

    if splitting in _DIGITS_APART:
        backend.pre_tokenizer = pre_tokenizers.Sequence(
            [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
        )
        return
    unknown = splitting and splitting not in _LIKE_GPT2
    if unknown and isinstance(backend.pre_tokenizer, pre_tokenizers.ByteLevel):  # transformers' fallback
        _logger.warning(
            "%s splits text as %r, which transformers does not know: token ids can differ from the model's; "
            "name its original tokenizer with model.tokenizer",
            gguf.name,
            splitting,
        )


def _pre_tokenizer_name(gguf: Path) -> str:
    """What the file calls its pre-tokenizer; empty where it names none."""
    from gguf import GGUFReader

    field = GGUFReader(gguf).get_field("tokenizer.ggml.pre")
    return str(field.contents()) if field is not None else ""


@contextlib.contextmanager
def quiet_transformers(*, progress: bool) -> Iterator[None]:
    """Silence transformers' bars, logs and warnings in the block unless ``progress``; restore them after.

    The bar of the dequantization ignores transformers' own switch, so stderr goes nowhere meanwhile.
    """
    from transformers.utils import logging as transformers_logging

    if progress:
        yield
        return
    verbosity, bars = transformers_logging.get_verbosity(), transformers_logging.is_progress_bar_enabled()
    transformers_logging.set_verbosity_error()
    transformers_logging.disable_progress_bar()
    try:
        with warnings.catch_warnings(), contextlib.redirect_stderr(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        transformers_logging.set_verbosity(verbosity)
        if bars:
            transformers_logging.enable_progress_bar()
