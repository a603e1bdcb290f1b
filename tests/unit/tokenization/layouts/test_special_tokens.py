"""Which special tokens a tokenizer adds by itself is found out, not guessed."""

from types import SimpleNamespace
from typing import Any

import pytest
from made_tokenizers import Pair
from tokenizers import Tokenizer, models, pre_tokenizers, processors

from asynckit.errors import ConfigError
from asynckit.models.light_tokenizer import LightTokenizer
from asynckit.models.tokenizer_parts import TokenizerParts
from asynckit.tokenization.layouts.special_tokens import by_itself, padding_id


def tokenizer_with(single: str | None) -> LightTokenizer:
    """Words, and whatever is put around them."""
    vocabulary = {word: id_ for id_, word in enumerate(["<unk>", "<s>", "</s>", "<pad>", "a", "The"])}
    backend = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))  # noqa: S106
    backend.pre_tokenizer = pre_tokenizers.Whitespace()
    if single is not None:
        special = [("<s>", 1), ("</s>", 2)]
        backend.post_processor = processors.TemplateProcessing(
            single=single, pair=f"{single} $B", special_tokens=special
        )
    return LightTokenizer(TokenizerParts(backend, {}, None, cleans=False))


@pytest.mark.parametrize(
    ("single", "expected"),
    [
        (None, ((), ())),
        ("<s> $A", ((1,), ())),
        ("$A </s>", ((), (2,))),
        ("<s> $A </s>", ((1,), (2,))),
        ("<s> <s> $A </s> <s>", ((1, 1), (2, 1))),
        ("</s> $A </s>", ((2,), (2,))),
    ],
)
def test_prefix_and_suffix_are_what_the_tokenizer_adds(single: str | None, expected: Any) -> None:
    """As of GPT-2, Llama, T5, BERT and stranger ones."""
    assert by_itself(tokenizer_with(single)) == expected


def test_what_depends_on_the_text_is_refused() -> None:
    """Nothing that is put around every document could be right."""
    odd: Any = SimpleNamespace(
        encode=lambda text, add_special_tokens=True: (
            [len(text)] * add_special_tokens + [100 + ord(letter) for letter in text]
        )
    )
    with pytest.raises(ConfigError, match="depends on the text"):
        by_itself(odd)


def test_sequences_are_filled_with_padding_or_eos(pair: Pair) -> None:
    """As transformers' names are; one of the two is needed."""
    token = pair.whole.pad_token_id
    assert padding_id(pair.light) == (pair.whole.eos_token_id if token is None else token)
    with pytest.raises(ConfigError, match="neither a padding nor an EOS token"):
        padding_id(tokenizer_with(None))
