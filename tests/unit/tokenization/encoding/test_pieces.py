"""Long texts in pieces have the tokens of the whole."""

import numpy as np
import pytest
from byte_level import parts
from hypothesis import given, settings
from hypothesis import strategies as st
from made_tokenizers import _fallback
from nasty_texts import nasty_texts

from asynckit.errors import InputError
from asynckit.models.tokenizer_parts import TokenizerParts
from asynckit.tokenization.encoding.pieces import in_pieces
from asynckit.tokenization.encoding.reference import Reference

_LIMIT = 400


def _pieces(reference: Reference, text: str) -> list[int]:
    found = in_pieces(text, reference._encode_short, limit=_LIMIT)
    return [id_ for piece in found for id_ in piece.tolist()]


@settings(deadline=None, max_examples=25)
@given(bits=st.lists(nasty_texts(), min_size=5, max_size=12), words=st.integers(100, 500))
def test_pieces_of_byte_level_tokenizers_are_exact(
    each_parts: TokenizerParts, bits: list[str], words: int
) -> None:
    """Between ordinary words and whatever else."""
    reference = Reference(each_parts)
    text = " plain words\n".join(bits) + " and 12 more words." * words
    assert _pieces(reference, text) == reference.ids(text)


@pytest.mark.parametrize("strip", [True, False])
def test_pieces_of_tokenizers_that_mark_the_start_are_exact(strip: bool) -> None:
    """The mark in front of a piece stands for the space that is left out."""
    reference = Reference(parts(_fallback(strip=strip)))
    text = "the other  end is there,\nwell said. " * 200
    assert _pieces(reference, text) == reference.ids(text)
    assert len(list(in_pieces(text, reference._encode_short, limit=_LIMIT))) > 10


def test_a_text_without_a_place_to_cut_stays_whole_up_to_a_limit(embedded_parts: TokenizerParts) -> None:
    """Then it is refused by name instead of filling the memory."""
    reference = Reference(embedded_parts)
    text = "a" * (_LIMIT * 8)
    assert _pieces(reference, text) == reference.ids(text)
    with pytest.raises(InputError, match=r"a text of 8,000 characters, .* no place to cut"):
        _pieces(reference, "a" * (_LIMIT * 20))


def test_the_reference_cuts_long_texts(
    embedded_parts: TokenizerParts, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Documents of any length; the others in a batch are not touched."""
    whole = Reference(embedded_parts)
    texts = ["short", "a long text. " * 60_000 + "x", "", "also short"]
    expected = [whole.ids(text) for text in texts]
    monkeypatch.setattr("asynckit.tokenization.encoding.reference.PIECE_CHARACTERS", 1 << 16)
    monkeypatch.setattr("asynckit.tokenization.encoding.pieces.PIECE_CHARACTERS", 1 << 16)
    rows = whole.encode(texts)
    assert [rows.row(index).tolist() for index in range(4)] == expected
    assert np.all(rows.lengths() == [len(ids) for ids in expected])
