"""Small tokenizers of every kind of decoder, saved as models save theirs."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tiny_models import CHAT_TEMPLATE, save_tokenizer
from tokenizers import Tokenizer, decoders, models, pre_tokenizers

from asynckit.models.config import ModelConfig
from asynckit.models.light_tokenizer import LightTokenizer

SPECIAL = ["<s>", "</s>", "<|im_end|>"]
_PIECES = [
    *"▁abcdehilnorstuw.,!?'é世",
    "▁▁",
    "th",
    "▁th",
    "▁the",
    "n't",
    "▁n",
    "▁'",
    "'s",
    "▁.",
    "he",
    "\ufffd",
]
_MERGES = [("▁", "▁"), ("t", "h"), ("▁", "th"), ("h", "e"), ("▁", "n"), ("▁", "'"), ("'", "s"), ("▁", ".")]


def _vocabulary(pieces: list[str]) -> dict[str, int]:
    return {piece: id_ for id_, piece in enumerate(dict.fromkeys(["<unk>", *SPECIAL, *pieces]))}


def _fallback(*, strip: bool) -> Tokenizer:
    """As of Llama 2 and Mistral (``strip``) or Gemma: pieces with spaces, and bytes for all else."""
    vocabulary = _vocabulary([*(f"<0x{byte:02X}>" for byte in range(256)), *_PIECES])
    tokenizer = Tokenizer(
        models.BPE(vocabulary, _MERGES, unk_token="<unk>", fuse_unk=True, byte_fallback=True)  # noqa: S106
    )
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(
        prepend_scheme="first" if strip else "never", split=False
    )
    parts = [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()]
    tokenizer.decoder = decoders.Sequence([*parts, decoders.Strip(" ", 1, 0)] if strip else parts)
    return tokenizer


def _metaspace() -> Tokenizer:
    """As of XLNet and T5: the decoder drops the first token's space."""
    scored = [(piece, -1.0) for piece in _vocabulary(_PIECES)]
    tokenizer = Tokenizer(models.Unigram(scored, unk_id=0, byte_fallback=False))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.decoder = decoders.Metaspace()
    return tokenizer


def _word_piece() -> Tokenizer:
    """As of BERT: words are joined by spaces, endings by nothing."""
    pieces = [*"abcdehilnorstuw.,!?'é世", "##s", "##th", "##世", "the", "not", "n't", "do"]
    tokenizer = Tokenizer(models.WordPiece(_vocabulary(pieces), unk_token="<unk>"))  # noqa: S106
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.decoder = decoders.WordPiece(cleanup=False)
    return tokenizer


def _word_ends() -> Tokenizer:
    """As of the first GPT: words end with a mark, and the last one's stands for no space."""
    vocabulary = _vocabulary([*"abcehilnorst.", *(f"{letter}</w>" for letter in "abcehilnorst."), "the</w>"])
    tokenizer = Tokenizer(models.BPE(vocabulary, [], unk_token="<unk>", end_of_word_suffix="</w>"))  # noqa: S106
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer.decoder = decoders.BPEDecoder()
    return tokenizer


def _save(tokenizer: Tokenizer, folder: Path, **settings: Any) -> None:
    from transformers import PreTrainedTokenizerFast

    tokenizer.add_special_tokens(SPECIAL)
    names = {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>"}
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, **names, **settings)
    fast.chat_template = CHAT_TEMPLATE
    fast.save_pretrained(folder)


def _bytes_in_python(folder: Path) -> None:
    """Bytes as tokens, by Python code alone."""
    from transformers import ByT5Tokenizer

    tokenizer = ByT5Tokenizer()
    tokenizer.chat_template = CHAT_TEMPLATE
    tokenizer.save_pretrained(folder)


SAVE: dict[str, Callable[[Path], object]] = {
    "byte-level": save_tokenizer,
    "byte-fallback": lambda folder: _save(_fallback(strip=True), folder),
    "byte-fallback without strip": lambda folder: _save(_fallback(strip=False), folder),
    "metaspace": lambda folder: _save(_metaspace(), folder),
    "metaspace with clean-up": lambda folder: _save(_metaspace(), folder, clean_up_tokenization_spaces=True),
    "word pieces with clean-up": lambda folder: _save(
        _word_piece(), folder, clean_up_tokenization_spaces=True
    ),
    "python": _bytes_in_python,
    "word ends": lambda folder: _save(_word_ends(), folder),
}


@dataclass(frozen=True)
class Pair:
    """The same tokenizer twice: transformers' is what the light one must equal."""

    light: LightTokenizer
    whole: Any


def config_of(kind: str, folder: Path) -> ModelConfig:
    """Where to find the tokenizer of this kind, made in a folder unless it is the embedded model's."""
    if kind == "embedded":
        return ModelConfig()
    SAVE[kind](folder)
    return ModelConfig(name=str(folder), cache_dir=str(folder / "cache"))
