"""Every engine gives the reference's ids, or is not offered."""

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from byte_level import KINDS, parts
from hypothesis import given, settings
from hypothesis import strategies as st
from made_tokenizers import SAVE, config_of
from nasty_texts import nasty_texts

from asynckit.errors import InputError
from asynckit.models.config import ModelConfig
from asynckit.models.tokenizer_parts import TokenizerParts, load_parts
from asynckit.tokenization.config import TokenizationConfig
from asynckit.tokenization.encoding import gigatoken_encoder
from asynckit.tokenization.encoding.choose import choose_encoder
from asynckit.tokenization.encoding.encoder import Encoder, Engine
from asynckit.tokenization.encoding.gigatoken_encoder import Gigatoken
from asynckit.tokenization.encoding.reference import Reference

AUTO = TokenizationConfig()


def _expected(tokenizer: TokenizerParts, text: str) -> list[int]:
    ids: list[int] = tokenizer.backend.encode(text, add_special_tokens=False).ids
    return ids


def _rows(encoder: Engine, texts: list[str]) -> list[list[int]]:
    rows = encoder.encode(texts)
    assert rows.values.dtype == np.uint32
    assert rows.offsets.dtype == np.int64
    return [rows.row(index).tolist() for index in range(len(texts))]


@pytest.fixture(scope="session")
def gigatoken(each_parts: TokenizerParts) -> Gigatoken:
    """Gigatoken for each kind of byte-level tokenizer: all of them can be rewritten."""
    return Gigatoken(each_parts, Reference(each_parts))


@settings(deadline=None, max_examples=150)
@given(texts=st.lists(nasty_texts(), max_size=4))
def test_gigatoken_gives_the_reference_s_ids(
    each_parts: TokenizerParts, gigatoken: Gigatoken, texts: list[str]
) -> None:
    """Numbers, missing bytes, marks, special tokens, runs: whatever is in a text and beside it in a batch."""
    assert _rows(gigatoken, texts) == [_expected(each_parts, text) for text in texts]


def test_gigatoken_gives_the_reference_s_ids_for_every_character(
    each_parts: TokenizerParts, gigatoken: Gigatoken
) -> None:
    """No character of any script is taken for another kind than the reference takes it for."""
    codes = [*range(0xD800), *range(0xE000, 0x20000), *range(0x2F800, 0x2FA20), *range(0xE0000, 0xE0200)]
    texts = [f"a{c}b {c}{c} \u0345{c}\u0334 '{c}\n{c}1" for c in map(chr, codes[::7])]
    reference = Reference(each_parts)
    found, expected = gigatoken.encode(texts), reference.encode(texts)
    assert np.array_equal(found.offsets, expected.offsets)
    assert np.array_equal(found.values, expected.values)


@pytest.mark.parametrize("kind", [*SAVE, "embedded"])
@settings(deadline=None, max_examples=40)
@given(data=st.data())
def test_what_is_chosen_gives_the_reference_s_ids(
    kind: str, data: st.DataObject, made: dict[str, tuple[Any, Encoder]]
) -> None:
    """For every kind of tokenizer, whichever encoder passes the trial."""
    tokenizer, encoder = made[kind]
    texts = data.draw(st.lists(nasty_texts(), max_size=3))
    if isinstance(tokenizer, TokenizerParts):
        expected = [_expected(tokenizer, text) for text in texts]
    else:
        expected = [tokenizer(text, add_special_tokens=False)["input_ids"] for text in texts]
    assert _rows(encoder, texts) == expected


@pytest.fixture(scope="session")
def made(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[Any, Encoder]]:
    """Each kind of tokenizer that models have, and the encoder it gets."""
    chosen = {}
    for kind in (*SAVE, "embedded"):
        folder = tmp_path_factory.mktemp("tokenizer")
        config = ModelConfig() if kind == "embedded" else config_of(kind, folder)
        tokenizer = load_parts(config)
        chosen[kind] = tokenizer, choose_encoder(tokenizer, AUTO)
    return chosen


def test_no_texts_and_empty_texts_are_fine(gigatoken: Gigatoken) -> None:
    """An empty batch has no rows, an empty text no tokens."""
    assert gigatoken.encode([]).offsets.tolist() == [0]
    assert gigatoken.encode(["", ""]).offsets.tolist() == [0, 0, 0]


def test_half_a_surrogate_pair_is_an_error_that_shows_where(
    gigatoken: Gigatoken, each_parts: TokenizerParts
) -> None:
    """Instead of whatever each library makes of it."""
    for encoder in (gigatoken, Reference(each_parts)):
        with pytest.raises(InputError, match="surrogate pair, near 'abc"):
            encoder.encode(["fine", "abc\ud800def"])


def test_an_engine_that_has_grown_is_opened_anew(
    embedded_parts: TokenizerParts, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its cache never shrinks; a new one gives the same ids."""
    encoder = Gigatoken(embedded_parts, Reference(embedded_parts))
    text = "the quick brown fox 123 " * 10
    before, engine = _rows(encoder, [text]), encoder._engine
    monkeypatch.setattr(gigatoken_encoder, "_LOOK_AT_MEMORY_EVERY", 1)
    monkeypatch.setattr(gigatoken_encoder, "_MOST_GROWTH", -(1 << 40))
    assert _rows(encoder, [text]) == before
    assert encoder._engine is not engine


def test_an_encoder_works_in_a_forked_process(embedded_parts: TokenizerParts, tmp_path: Path) -> None:
    """Workers are forked from the process that built it and has used it."""
    encoder = choose_encoder(embedded_parts, AUTO)
    expected = _rows(encoder, ["hello 世界 12"])
    child = os.fork()
    if not child:
        try:
            (tmp_path / "ids").write_text(repr(_rows(encoder, ["hello 世界 12"])))
        finally:
            os._exit(0)
    os.waitpid(child, 0)
    assert (tmp_path / "ids").read_text() == repr(expected)


def test_the_made_tokenizers_are_rewritten_in_every_way() -> None:
    """Otherwise the tests above would prove little."""
    pseudo = {}
    for kind, make in KINDS.items():
        tokenizer = parts(make())
        pseudo[kind] = Gigatoken(tokenizer, Reference(tokenizer))._rewritten.expansions
    assert pseudo["gpt2"] == pseudo["llama3"] == ()
    assert any(pseudo["smollm2"])
    assert None in pseudo["smollm2"]
    assert set(pseudo["qwen"]) == set(pseudo["bytes missing"]) == {None}
