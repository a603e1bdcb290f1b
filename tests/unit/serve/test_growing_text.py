"""Streamed text: whatever the tokenizer and the tokens, the pieces are the decoded whole."""

from collections.abc import Sequence

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from made_tokenizers import Pair

from asynckit.models.light_tokenizer import LightTokenizer
from asynckit.serve.growing_text import GrowingText

_slow_fixture = settings(
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
    deadline=None,
    max_examples=150,
)
TEXTS = st.text(max_size=60) | st.lists(
    st.sampled_from(
        [
            "🦊",
            "👩‍👩‍👧‍👦",
            "e\u0301",
            "世界",
            "<|im_end|>",
            "</s>",
            "<s>",
            " ",
            "  ",
            "\n",
            " .",
            " n't",
            " ' ",
            "the",
            "\ufffd",
            "नमस्ते",
        ]
    ),
    max_size=20,
).map("".join)


def grow(tokenizer: LightTokenizer, ids: Sequence[int], *, skip: bool) -> list[str]:
    """The pieces of text that tokens bring one by one, and what the end brings."""
    text = GrowingText(tokenizer, skip_special_tokens=skip)
    pieces = []
    for id_ in ids:
        if text.add(id_):
            text.read(tokenizer.decode_windows([text.window.tokens])[0])
            context = text.window.context()
            if context:
                text.window.shorten(context, tokenizer.decode_windows([context])[0])
        pieces.append(text.take())
    if text.end():
        text.read(tokenizer.decode_windows([text.window.tokens])[0], last=True)
    return [*pieces, text.take(last=True)]


@_slow_fixture
@given(data=st.data(), skip=st.booleans())
def test_pieces_of_any_tokens_are_the_decoded_whole(pair: Pair, data: st.DataObject, skip: bool) -> None:
    """Also where tokens make no sense: half characters, byte runs, special and unknown tokens anywhere."""
    ids = data.draw(st.lists(st.integers(0, pair.light.vocabulary + 2), max_size=80))
    known = [id_ for id_ in ids if id_ < pair.light.vocabulary]
    assert "".join(grow(pair.light, ids, skip=skip)) == pair.whole.decode(known, skip_special_tokens=skip)


@pytest.mark.filterwarnings("ignore:This sequence already has")  # ByT5, of an end token typed as text
@_slow_fixture
@given(text=TEXTS, skip=st.booleans())
def test_pieces_of_a_text_are_the_decoded_whole(pair: Pair, text: str, skip: bool) -> None:
    """Emoji, joined emoji, combining characters, other scripts, and what looks like special tokens."""
    ids = pair.whole(text)["input_ids"]
    assert "".join(grow(pair.light, ids, skip=skip)) == pair.whole.decode(ids, skip_special_tokens=skip)


@_slow_fixture
@given(data=st.data())
def test_runs_of_bytes_are_the_decoded_whole(fallback: LightTokenizer, data: st.DataObject) -> None:
    """Good, bad and unfinished runs of byte tokens, at the beginning and after other text."""
    by_byte = {byte: id_ for id_, byte in fallback.fallback.items()}
    good = st.text(min_size=1, max_size=3).map(lambda text: [by_byte[b] for b in text.encode()])
    bad = st.lists(
        st.sampled_from([by_byte[b] for b in (0x20, 0x41, 0x80, 0xC3, 0xE2, 0xF0, 0xFF)]), max_size=3
    )
    other = st.lists(st.integers(0, fallback.vocabulary - 1), max_size=2)
    ids = [id_ for part in data.draw(st.lists(good | bad | other, max_size=12)) for id_ in part]
    for skip in (False, True):
        assert "".join(grow(fallback, ids, skip=skip)) == fallback.decode(ids, skip)
