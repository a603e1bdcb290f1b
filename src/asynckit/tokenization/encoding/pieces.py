"""Long texts in pieces whose tokens are those of the whole.

A tokenizer splits a text at borders that depend on what is near: words, spaces, line ends. A cut is taken
where encoding a window around it gives the same ids whole and in its two halves. Where a tokenizer puts a
mark in front of every text (``▁`` for a space), the space at the cut is left out instead: the mark stands
for it.
"""

from collections.abc import Callable, Iterator, Sequence

import numpy as np

from asynckit.errors import InputError
from asynckit.tokenization.encoding.encoder import Ids

PIECE_CHARACTERS = 1 << 20
MOST_CHARACTERS = 1 << 24  # of a piece where no cut is found: 2 GB in the tokenizers library
_WINDOW = 512
_TRIES = 24  # candidates of a kind in a stretch of text

EncodeShort = Callable[[list[str]], Sequence[Ids]]


def in_pieces(text: str, encode: EncodeShort, limit: int = PIECE_CHARACTERS) -> Iterator[Ids]:
    """Ids of a long text, piece by piece.

    Args:
        text: of any length.
        encode: ids of texts of up to 16 times the limit.
        limit: characters of a piece, at most, where cuts are found.

    Raises:
        InputError: no cut is found in 16 times the limit.
    """
    start = 0
    while len(text) - start > limit:
        end, start_of_next = _cut(text, start, encode, limit)
        yield encode([text[start:end]])[0]
        start = start_of_next
    if start < len(text) or not text:
        yield encode([text[start:]])[0]


def _cut(text: str, start: int, encode: EncodeShort, limit: int) -> tuple[int, int]:
    """The end of a piece and the start of the next one; the text's end if it comes before a cut is found."""
    low, high = start + limit // 2, start + limit
    while low < len(text):
        for at in _candidates(text, low, min(high, len(text))):
            skipped = _skips(text, at, encode)
            if skipped is not None:
                return at, at + skipped
        low, high = high, start + 2 * (high - start)
        if high - start > limit * (MOST_CHARACTERS // PIECE_CHARACTERS):
            raise InputError(
                f"a text of {len(text):,} characters, beginning with {text[:40]!r}, has no place to cut it "
                f"in {low - start:,} characters",
                mend="split the document, or --on-error skip",
            )
    return len(text), len(text)


def _candidates(text: str, low: int, high: int) -> Iterator[int]:
    """Places before the last line ends, then before the last spaces, then between the last characters."""
    for mark in ("\n", " "):
        at = high
        for _ in range(_TRIES):
            at = text.rfind(mark, low, at)
            if at < 0:
                break
            if at and not text[at - 1].isspace():
                yield at
    kinds = (at for at in range(high - 1, max(low, high - 8 * _WINDOW), -1) if _changes(text, at))
    for _, at in zip(range(_TRIES), kinds, strict=False):
        yield at


def _changes(text: str, at: int) -> bool:
    """Whether a letter and something else meet here."""
    return text[at - 1].isalpha() != text[at].isalpha()


def _skips(text: str, at: int, encode: EncodeShort) -> int | None:
    """How many characters a cut leaves out: 0, or 1 for a space; None where a cut would change tokens."""
    left, right = text[max(at - _WINDOW, 0) : at], text[at : at + _WINDOW]
    whole, first, second, without = encode([left + right, left, right, right[1:]])
    if np.array_equal(whole, np.concatenate([first, second])):
        return 0
    if right[0] == " " and np.array_equal(whole, np.concatenate([first, without])):
        return 1
    return None
