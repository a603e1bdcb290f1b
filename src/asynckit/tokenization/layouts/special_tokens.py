"""Which special tokens stand around each document, and which one fills what is left of a sequence."""

from asynckit.errors import ConfigError
from asynckit.models.light_tokenizer import LightTokenizer
from asynckit.tokenization.config import TokenizationConfig
from asynckit.tokenization.layouts.rows import Around

_PROBES = ("", "a", "The end.", "x\ny 1")


def around(config: TokenizationConfig, tokenizer: LightTokenizer) -> Around:
    """What ``bos`` and ``eos`` put around each document.

    Raises:
        ConfigError: the tokenizer has no such token, or what it adds by itself is not the same for all texts.
    """
    own = by_itself(tokenizer) if "tokenizer" in {config.bos, config.eos} else Around((), ())
    prefix = own.prefix if config.bos == "tokenizer" else ()
    suffix = own.suffix if config.eos == "tokenizer" else ()
    if config.bos == "add":
        prefix = (_needed(tokenizer, "bos"),)
    if config.eos == "add":
        suffix = (_needed(tokenizer, "eos"),)
    return Around(prefix, suffix)


def by_itself(tokenizer: LightTokenizer) -> Around:
    """What the tokenizer adds with ``add_special_tokens=True``; raises ConfigError if that varies."""
    possible = set.intersection(*(_splits(tokenizer, text) for text in _PROBES))
    if not possible:
        raise ConfigError(
            "what the tokenizer adds around a text depends on the text",
            where="tokenization.bos",
            mend="say it yourself: --bos add or none, --eos add or none",
        )
    # Several are possible only where the same token is added on one side: then it is the one in front.
    return max(possible)


def _splits(tokenizer: LightTokenizer, text: str) -> set[Around]:
    """Every prefix and suffix that the tokenizer may have put around this text."""
    plain = tokenizer.encode(text, add_special_tokens=False)
    whole = tokenizer.encode(text)
    ends = range(len(plain), len(whole) + 1)
    found = ((end - len(plain), end) for end in ends if whole[end - len(plain) : end] == plain)
    return {Around(tuple(whole[:start]), tuple(whole[end:])) for start, end in found}


def _needed(tokenizer: LightTokenizer, kind: str) -> int:
    found = tokenizer.named_id(f"{kind}_token")
    if found is None:
        raise ConfigError(
            f"the tokenizer has no {kind.upper()} token to add",
            where=f"tokenization.{kind}",
            mend=f"--{kind} none, or another tokenizer",
        )
    return found


def padding_id(tokenizer: LightTokenizer) -> int:
    """The token that fills packed sequences: the tokenizer's for padding, or else its EOS.

    Raises:
        ConfigError: the tokenizer has neither.
    """
    found = tokenizer.named_id("pad_token")
    found = tokenizer.named_id("eos_token") if found is None else found
    if found is None:
        raise ConfigError(
            "the tokenizer has neither a padding nor an EOS token to fill sequences with",
            where="tokenization.pack_length",
            mend="write documents unpacked, or take another tokenizer",
        )
    return found
