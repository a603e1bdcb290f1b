"""The reference sees a sample and all that is unusual, and what differs is stopped."""

import numpy as np
import pytest
from byte_level import gpt2_like, parts, trained
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import normalizers

from asynckit.errors import ConfigError, EncoderMismatch
from asynckit.models.tokenizer_parts import TokenizerParts
from asynckit.tokenization.arrays import Ragged
from asynckit.tokenization.config import TokenizationConfig
from asynckit.tokenization.encoding import choose
from asynckit.tokenization.encoding.choose import choose_encoder
from asynckit.tokenization.encoding.encoder import ragged
from asynckit.tokenization.encoding.gate import CheckedEncoder, bound
from asynckit.tokenization.encoding.gigatoken_encoder import Gigatoken
from asynckit.tokenization.encoding.reference import Reference
from asynckit.tokenization.encoding.shrink import shrink
from asynckit.tokenization.encoding.trial import trial_texts

ORDINARY = [f"Document {n} says something ordinary, {n * 7} times.\n" * (1 + n % 5) for n in range(3000)]


class Faulty:
    """Right but for texts in which ``wrong`` stands: their last id is left out."""

    name, version = "faulty", "1"
    checked_documents = checked_excerpts = 0

    def __init__(self, reference: Reference, wrong: str) -> None:
        self._reference = reference
        self._wrong = wrong

    def encode(self, texts: list[str]) -> Ragged:
        """Ids, some of them wrong."""
        rows = self._reference.encode(texts)
        return ragged([rows.row(n)[: -1 if self._wrong in text else None] for n, text in enumerate(texts)])


@pytest.fixture(scope="session")
def reference(embedded_parts: TokenizerParts) -> Reference:
    """The embedded model's tokenizer."""
    return Reference(embedded_parts)


def _checked(reference: Reference, wrong: str, share: float = 0.0) -> CheckedEncoder:
    return CheckedEncoder(Faulty(reference, wrong), reference, share, ["<|im_end|>"])


def test_a_mismatch_in_the_sample_stops_with_a_minimal_text(reference: Reference) -> None:
    """Both encoders' ids of a text that has nothing more to take away, and what to do."""
    with pytest.raises(EncoderMismatch) as caught:
        _checked(reference, "77 t", share=0.2).encode(ORDINARY)
    message = caught.value.message
    assert message.startswith("faulty 1 makes [")
    assert "'77 t'" in message
    assert str(reference.ids("77 t")) in message
    assert caught.value.mend == "--encoder tokenizers"


@pytest.mark.parametrize("odd", ["\x00", "<|im_end", "\u202e", "-" * 250, "𐌰"])
def test_what_is_unusual_is_checked_in_every_document(reference: Reference, odd: str) -> None:
    """However rare it is, and also where it is deep inside a long document."""
    long = "Some words. " * 3000 + odd + " and words." * 3000
    with pytest.raises(EncoderMismatch):
        _checked(reference, odd[:200]).encode([*ORDINARY[:50], long])
    _checked(reference, "not there").encode([*ORDINARY[:50], long])


def test_ordinary_documents_outside_the_sample_are_not_checked(reference: Reference) -> None:
    """That is what makes it fast, and why the bound is stated."""
    encoder = _checked(reference, "ordinary")
    encoder.encode(ORDINARY[:200])
    assert (encoder.checked_documents, encoder.checked_excerpts) == (0, 0)


def test_the_sample_has_its_share_and_does_not_depend_on_batches(reference: Reference) -> None:
    """Workers and batches divide the documents as they like: the same ones are checked."""
    counts = []
    for size in (10, 300, len(ORDINARY)):
        encoder = _checked(reference, "not there", share=0.05)
        for first in range(0, len(ORDINARY), size):
            encoder.encode(ORDINARY[first : first + size])
        counts.append(encoder.checked_documents)
    assert len(set(counts)) == 1
    assert 0.03 < counts[0] / len(ORDINARY) < 0.07


def test_documents_of_one_pattern_are_drawn_one_by_one(reference: Reference) -> None:
    """Those that differ in the middle only are not all in the sample, or all outside it."""
    encoder = _checked(reference, "never", share=0.05)
    encoder.encode([f"The number {n} is the number of this document." for n in range(1000, 5000)])
    assert 60 < encoder.checked_documents < 600


def test_a_share_of_one_checks_every_document(reference: Reference) -> None:
    """And a call whose sample is empty checks one all the same."""
    encoder = _checked(reference, "not there", share=1.0)
    encoder.encode([*ORDINARY[:40], "", ""])
    assert encoder.checked_documents == 42
    encoder = _checked(reference, "Document 1 ", share=1e-9)
    with pytest.raises(EncoderMismatch):
        encoder.encode(ORDINARY[1:2])


def test_an_empty_document_with_tokens_is_a_mismatch(reference: Reference) -> None:
    """It costs nothing to look at all of them."""

    class Chatty(Faulty):
        def encode(self, texts: list[str]) -> Ragged:
            return ragged([np.array([*reference.ids(text)] or [7], np.uint32) for text in texts])

    encoder = CheckedEncoder(Chatty(reference, ""), reference, 0.0, [])
    encoder.encode(["full"])
    with pytest.raises(EncoderMismatch, match=r"makes \[7\] of '', the tokenizer itself \[\]"):
        encoder.encode(["full", ""])


def test_long_documents_are_checked_by_windows(reference: Reference) -> None:
    """Encoding all of one again would take seconds."""
    encoder = _checked(reference, "not there", share=0.5)
    encoder.encode(["Long documents have many words. " * 10_000])
    assert encoder.checked_documents == 0
    assert 50 < encoder.checked_excerpts < 200
    with pytest.raises(EncoderMismatch):
        _checked(reference, "many", share=0.002).encode(["Long documents have many words. " * 10_000])


def test_the_bound_is_the_rule_of_three() -> None:
    """About 3 / n for a sample of n."""
    assert bound(0) == 1.0
    assert bound(1) == pytest.approx(0.95)
    assert bound(3000) == pytest.approx(0.001, rel=0.01)


@given(before=st.text(max_size=30), after=st.text(max_size=30))
def test_shrinking_leaves_what_matters(before: str, after: str) -> None:
    """Nothing more can be taken from it."""
    assert shrink(f"{before}ab{after}", lambda text: "ab" in text) == "ab"
    assert shrink(f"{before}a{after}b", lambda text: "a" in text and "b" in text) in ("ab", "ba")


def test_shrinking_ends_within_its_bound() -> None:
    """A long text that is hard to shrink does not hold up the run."""
    seen = 0

    def differ(text: str) -> bool:
        nonlocal seen
        seen += len(text)
        return text.count("a") == 200_000

    text = "ab" * 200_000
    assert shrink(text, differ).count("a") == 200_000
    assert seen < 6_000_000


def test_auto_takes_the_fastest_that_passes(embedded_parts: TokenizerParts) -> None:
    """And the next one where that was found to differ."""
    assert choose_encoder(embedded_parts, TokenizationConfig()).name == "gigatoken"
    avoid = frozenset({"gigatoken"})
    assert choose_encoder(embedded_parts, TokenizationConfig(), avoid).name == "tokenizers"  # kitoken fails
    assert choose_encoder(embedded_parts, TokenizationConfig(encoder="tokenizers")).name == "tokenizers"


def test_an_engine_that_fails_its_trial_is_not_used(
    embedded_parts: TokenizerParts, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With its name it is an error, with auto the next one is taken."""
    monkeypatch.setitem(choose._ENGINES, "gigatoken", lambda _, reference: Faulty(reference, "世"))
    assert choose_encoder(embedded_parts, TokenizationConfig(), frozenset({"kitoken"})).name == "tokenizers"
    with pytest.raises(EncoderMismatch):
        choose_encoder(embedded_parts, TokenizationConfig(encoder="gigatoken"))


def test_an_engine_that_cannot_do_a_tokenizer_says_why(embedded_parts: TokenizerParts) -> None:
    """When it was asked for by name."""
    tokenizer = trained(gpt2_like())
    tokenizer.normalizer = normalizers.Lowercase()
    with pytest.raises(ConfigError, match="cannot encode with this tokenizer: its normalizer is Lower"):
        choose_encoder(parts(tokenizer), TokenizationConfig(encoder="gigatoken"))
    assert Gigatoken(embedded_parts, Reference(embedded_parts)).version


def test_a_tokenizer_that_is_random_is_refused() -> None:
    """No two runs would write the same."""
    tokenizer = trained(gpt2_like())
    tokenizer.model.dropout = 0.1
    with pytest.raises(ConfigError, match="at random"):
        choose_encoder(parts(tokenizer), TokenizationConfig())


def test_the_trial_is_the_same_every_time() -> None:
    """So what auto chooses does not depend on the day."""
    texts = trial_texts(["<|im_end|>"])
    assert texts == trial_texts(["<|im_end|>"])
    assert sum(map(len, texts)) < 60_000
    assert "a<|im_end|>b" in texts
