"""What deserves a check is found, and little else."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from asynckit.tokenization.encoding.unusual import RUN, Unusual

UNUSUAL = Unusual(["<|im_end|>", "<s>", "[INST]", "x"])
ORDINARY = [
    "The quick brown fox, 12 of them.\n",
    "def f(x):\n\treturn x\r\n",
    "Grüße, 世界, привет, שלום, नमस्ते",
    "",
]


def _found(*texts: str) -> list[tuple[int, str]]:
    return UNUSUAL.excerpts([text.encode() for text in texts])


def test_ordinary_texts_have_nothing_unusual() -> None:
    """In scripts that many people write; checking all of them would make the fast encoder slow."""
    assert _found(*ORDINARY) == []
    assert _found() == []


@pytest.mark.parametrize(
    "odd",
    [
        *("\x00", "\x1b[0m", "\x7f", "\u0085", "\u200b", "\u202e", "\u2060", "\ufeff", "\ufffd", "\ue000"),
        *("<|im_START|>", "<s>", "[INSTRUCTIONS]", "<|im_end|>", "\U000f0000", "\U0001d400", "\U00020000"),
        *("ᚠᛇᚻ ᬅᬆ", "𐌰𐌱", "𒀀", "ꀀꀁ", "ⰀⰁ", "ߊߋ", "a\ufe0f", "👩\u200d👧"),
        *(" " * RUN, "=-" * (RUN // 2), "a1" * RUN, "\r\n" * RUN),
    ],
)
def test_what_is_odd_is_found_in_its_text(odd: str) -> None:
    """Whatever is before and after it, also at the end of everything."""
    for texts in ([*ORDINARY, f"fine {odd} fine"], [odd + "..", "fine"], ["fine", odd]):
        index = next(index for index, text in enumerate(texts) if odd in text)
        found = _found(*texts)
        assert {text for text, _ in found} == {index}, texts
        assert any(odd[:RUN] in excerpt for _, excerpt in found)


@given(texts=st.lists(st.text(alphabet="aé世\n 0-", max_size=9), max_size=5), length=st.integers(RUN, 700))
def test_runs_are_found_wherever_they_begin(texts: list[str], length: int) -> None:
    """At any offset in the bytes; a run does not go on in the next text."""
    found = _found(*texts, "é" + "-" * length)
    assert {index for index, _ in found} == {len(texts)}
    assert _found(*["-" * (RUN - 1)] * 3) == []


def test_excerpts_of_long_texts_are_short() -> None:
    """The reference takes a third of a second per megabyte."""
    ((index, excerpt),) = _found("word " * 100_000 + "\x00" + " word" * 100_000)
    assert (index, "\x00" in excerpt) == (0, True)
    assert len(excerpt) < 400
    ((_, excerpt),) = _found("a" * 5_000_000)
    assert RUN < len(excerpt) < 2000


def test_every_kind_is_taken_once_per_text() -> None:
    """A text full of them costs no more than one that has one of each."""
    assert len(_found("\x00 word " * 1000)) == 1
    assert len(_found(*["\x00 <s> \u200b" for _ in range(3)])) == 9
