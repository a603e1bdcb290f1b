"""A tokenizer is rewritten only where that is known to change nothing."""

import json
import unicodedata
from collections.abc import Callable
from typing import Any

import pytest
from byte_level import digits_like_smollm2, gpt2_like, parts, trained
from tokenizers import AddedToken, Regex, normalizers, pre_tokenizers

from asynckit.tokenization.encoding.characters import characters_with_doubtful_nfc, number_characters
from asynckit.tokenization.encoding.encoder import NotApplicable
from asynckit.tokenization.encoding.reference import Reference
from asynckit.tokenization.encoding.rewriting import rewrite


def _rewrite(tokenizer: Any) -> Any:
    return rewrite(tokenizer.to_str(), Reference(parts(tokenizer)).ids)


def _with(change: Callable[[Any], object]) -> Any:
    tokenizer = trained(gpt2_like())
    change(tokenizer)
    return tokenizer


def _split(**settings: Any) -> Any:
    split = pre_tokenizers.Split(Regex(r"\s+"), **settings)
    return pre_tokenizers.Sequence([split, pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])


def _sequence(*several: Any) -> Any:
    return pre_tokenizers.Sequence(list(several))


def _set(name: str, value: Any) -> Callable[[Any], object]:
    return lambda tokenizer: setattr(tokenizer, name, value)


def _add(*tokens: AddedToken) -> Callable[[Any], object]:
    return lambda tokenizer: tokenizer.add_tokens(list(tokens))


def _two_kinds(tokenizer: Any) -> None:
    _add(AddedToken("<one>", normalized=True), AddedToken(">two", normalized=False))(tokenizer)


def _in_normalized_text(tokenizer: Any) -> None:
    _add(AddedToken("<one>", normalized=True))(tokenizer)
    tokenizer.normalizer = normalizers.NFC()


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda tokenizer: setattr(tokenizer.model, "dropout", 0.1), "dropout"),
        (_add(AddedToken("word", single_word=True)), "word of its own"),
        (_two_kinds, "overlap"),
        (_in_normalized_text, "normalized text"),
        (_set("normalizer", normalizers.NFKC()), "normalizer is NFKC"),
        (_set("normalizer", normalizers.Sequence([normalizers.Lowercase()])), "Lowercase"),
        (_set("pre_tokenizer", None), "way of its own"),
        (_set("pre_tokenizer", pre_tokenizers.ByteLevel(use_regex=False)), "way of its own"),
        (_set("pre_tokenizer", pre_tokenizers.ByteLevel(add_prefix_space=True)), "way of its own"),
        (_set("pre_tokenizer", _split(behavior="removed")), "way of its own"),
        (_set("pre_tokenizer", _split(behavior="isolated", invert=True)), "way of its own"),
        (
            _set("pre_tokenizer", _sequence(pre_tokenizers.Digits(individual_digits=False), gpt2_like())),
            "own",
        ),
        (_set("pre_tokenizer", _sequence(pre_tokenizers.Punctuation(), gpt2_like())), "own"),
    ],
)
def test_what_gigatoken_would_pass_over_is_refused(change: Callable[[Any], object], reason: str) -> None:
    """It reads a tokenizer.json only in part, and would encode with the rest left out."""
    with pytest.raises(NotApplicable, match=reason):
        _rewrite(_with(change))


def test_digits_under_a_normalizer_are_not_rewritten() -> None:
    """Added tokens are found before a text is normalized, digits are separated afterwards."""
    with pytest.raises(NotApplicable, match="way of its own"):
        _rewrite(trained(digits_like_smollm2(), nfc=True))


def test_entries_that_are_no_bytes_are_refused() -> None:
    """Gigatoken would take them for text that the reference never finds."""
    state = json.loads(trained(gpt2_like()).to_str())
    state["model"]["vocab"]["世"] = 5000
    with pytest.raises(NotApplicable, match="no bytes"):
        rewrite(json.dumps(state), lambda _: [])


def test_pseudo_ids_stand_above_every_id_and_mean_what_the_reference_says() -> None:
    """So none can be taken for a token."""
    tokenizer = trained(digits_like_smollm2(), alphabet=False)
    rewritten = _rewrite(tokenizer)
    assert rewritten.vocabulary == tokenizer.get_vocab_size(with_added_tokens=True)
    state = json.loads(rewritten.json)
    added = {token["content"]: token["id"] for token in state["added_tokens"]}
    for character in "7٤Ⅷ½":
        id_ = added[character]
        pseudo = id_ - rewritten.vocabulary
        assert tokenizer.encode(character).ids == list(
            rewritten.expansions[pseudo] if pseudo >= 0 else (id_,)
        )


def test_numbers_are_found_wherever_they_are() -> None:
    """The blocks that are left out hold none: the library is asked about every character."""
    everything = "a".join(chr(code) for code in range(0x110000) if not 0xD800 <= code < 0xE000)
    pieces = pre_tokenizers.Digits(individual_digits=True).pre_tokenize_str(f"a{everything}a")
    found = {piece for piece, _ in pieces if len(piece) == 1 and piece != "a"}
    assert set(number_characters()) == found
    assert {*"0123456789", "٣", "Ⅷ", "½"} <= found


def test_marks_that_the_library_normalizes_by_an_old_unicode_are_known() -> None:
    """Everything else is normalized as Python does."""
    doubtful = set(characters_with_doubtful_nfc())
    assert "\u0eba" in doubtful  # Lao, of Unicode 12
    assert not doubtful & {"a", "é", "\u0301", "가", "क", "\u094d"}
    nfc = normalizers.NFC()
    for code in (*range(0x80, 0xD800), *range(0xE000, 0x2FA20)):
        character = chr(code)
        if character not in doubtful:
            text = f"a\u0345{character}\u0334{character}\u0301"
            assert nfc.normalize_str(text) == unicodedata.normalize("NFC", text), hex(code)
