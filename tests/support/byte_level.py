"""Small byte-level tokenizers, of the kinds that big models have, as the tokenizers library holds them."""

from collections.abc import Callable
from typing import Any

from tiny_models import CORPUS
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers

from asynckit.models.tokenizer_parts import TokenizerParts

QWEN = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|"
    r"\s+(?!\S)|\s+"
)
LLAMA3 = QWEN.replace(r"|\p{N}|", r"|\p{N}{1,3}|")
_TEXTS = [
    *CORPUS,
    "Don't we'll 12 345 café naïve 世界你好 世界 привет ٣٤ नमस्ते   \n\n\t == -- ...",
    "aaaa    bbbb",
] * 20


def gpt2_like() -> Any:
    """Words as GPT-2 splits them."""
    return pre_tokenizers.ByteLevel(add_prefix_space=False)


def digits_like_smollm2() -> Any:
    """The same after each number character is taken out."""
    return pre_tokenizers.Sequence([pre_tokenizers.Digits(individual_digits=True), gpt2_like()])


def split_by(pattern: str) -> Any:
    """Words by a regular expression."""
    split = pre_tokenizers.Split(Regex(pattern), behavior="isolated")
    return pre_tokenizers.Sequence([split, pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])


def trained(pre_tokenizer: Any, *, nfc: bool = False, alphabet: bool = True, **settings: Any) -> Tokenizer:
    """A tokenizer of 400 tokens.

    Args:
        pre_tokenizer: how it splits words.
        nfc: whether it normalizes.
        alphabet: whether it has a token for every byte.
        settings: of the model, such as ``ignore_merges``.
    """
    tokenizer = Tokenizer(models.BPE(**settings))
    tokenizer.pre_tokenizer = pre_tokenizer
    tokenizer.normalizer = normalizers.NFC() if nfc else None
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=400,
        special_tokens=["<|end|>", "<|user|>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet() if alphabet else [],
        show_progress=False,
    )
    tokenizer.train_from_iterator(_TEXTS, trainer)
    tokenizer.add_tokens(
        [AddedToken("5G net", normalized=False), AddedToken("<mask>", lstrip=True, normalized=False)]
    )
    return tokenizer


def parts(tokenizer: Tokenizer) -> TokenizerParts:
    """The tokenizer as the encoders take it."""
    return TokenizerParts(tokenizer, {}, None, cleans=False)


KINDS: dict[str, Callable[[], Tokenizer]] = {
    "gpt2": lambda: trained(gpt2_like()),
    "smollm2": lambda: trained(digits_like_smollm2(), alphabet=False),
    "qwen": lambda: trained(split_by(QWEN), nfc=True),
    "llama3": lambda: trained(split_by(LLAMA3), ignore_merges=True),
    "bytes missing": lambda: trained(gpt2_like(), alphabet=False),
}
