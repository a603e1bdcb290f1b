"""Documents have the tokens that they should have, each once."""

import numpy as np
import pytest
from made_tokenizers import Pair
from reference_encoding import reference_encode

from asynckit.errors import ConfigError
from asynckit.models.light_tokenizer import LightTokenizer
from asynckit.tokenization.config import TokenizationConfig
from asynckit.tokenization.layouts.layout import layout_for
from asynckit.tokenization.records import LaidOut

TEXTS = ["the quick brown fox", "", "a", "answer: forty two"]


def laid_out(tokenizer: LightTokenizer, texts: list[str], **settings: object) -> LaidOut:
    config = TokenizationConfig(**settings)  # type: ignore[arg-type]  # whatever a test sets
    return layout_for(config, tokenizer, reference_encode(tokenizer)).lay_out((texts,))


def rows_of(laid: LaidOut) -> list[list[int]]:
    return [laid.tokens.row(index).tolist() for index in range(len(laid.kept))]


def test_the_tokenizers_own_way_is_transformers_way(pair: Pair) -> None:
    """What ``add_special_tokens=True`` gives in every other program."""
    laid = laid_out(pair.light, TEXTS, bos="tokenizer", eos="tokenizer")
    assert rows_of(laid) == [pair.whole(text)["input_ids"] for text in TEXTS]


def test_bos_and_eos_are_added_once(fallback: LightTokenizer) -> None:
    """Also around an empty text."""
    laid = laid_out(fallback, ["the", ""], bos="add", eos="add")
    bos, eos = fallback.named_id("bos_token"), fallback.named_id("eos_token")
    assert rows_of(laid) == [[bos, *fallback.encode("the", add_special_tokens=False), eos], [bos, eos]]


def test_none_leaves_the_text_alone(fallback: LightTokenizer) -> None:
    """For texts that have their special tokens already."""
    laid = laid_out(fallback, ["<s>the</s>", ""], bos="none", eos="none")
    assert rows_of(laid) == [fallback.encode("<s>the</s>", add_special_tokens=False), []]


def test_a_token_that_would_be_there_twice_is_refused(fallback: LightTokenizer) -> None:
    """A model never saw two of them; the other records are kept."""
    laid = laid_out(fallback, ["<s>the", "the", "the</s>"], bos="add", eos="add")
    assert laid.kept.tolist() == [1]
    assert [(index, reason.split()[0]) for index, reason in laid.refused] == [(0, "begins"), (2, "ends")]
    assert len(rows_of(laid)) == 1


def test_what_the_tokenizer_does_not_have_is_not_added(byte_level: LightTokenizer) -> None:
    """It has no BOS token."""
    with pytest.raises(ConfigError, match="no BOS token"):
        laid_out(byte_level, ["a"], bos="add")


def test_a_long_document_is_cut_as_transformers_cuts_it(pair: Pair) -> None:
    """The special tokens stay, and what was lost is counted."""
    laid = laid_out(pair.light, TEXTS, bos="tokenizer", eos="tokenizer", max_length=5)
    expected = [pair.whole(text, truncation=True, max_length=5)["input_ids"] for text in TEXTS]
    assert rows_of(laid) == expected
    whole = [len(pair.whole(text)["input_ids"]) for text in TEXTS]
    assert laid.truncated_documents == sum(length > 5 for length in whole)
    assert laid.truncated_tokens == sum(length - 5 for length in whole if length > 5)


def test_a_length_without_room_for_text_is_refused(fallback: LightTokenizer) -> None:
    """Every document would be special tokens and nothing else."""
    with pytest.raises(ConfigError, match="no room"):
        laid_out(fallback, ["a"], bos="add", eos="add", max_length=2)


def test_no_documents_are_no_tokens(fallback: LightTokenizer) -> None:
    """A batch in which every record was broken."""
    laid = laid_out(fallback, [], bos="add", eos="add", max_length=9)
    assert laid.tokens.offsets.tolist() == [0]
    assert laid.kept.dtype == np.int64
