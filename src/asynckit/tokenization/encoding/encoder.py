"""What encodes texts, and what all encoders have in common."""

from collections.abc import Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from asynckit.errors import InputError
from asynckit.tokenization.arrays import Ragged, offsets_of

Ids = NDArray[np.uint32]


class Engine(Protocol):
    """Texts to token ids, as the reference gives them with ``add_special_tokens=False``.

    Special tokens that are typed in a text become those tokens, as with transformers' ``AutoTokenizer``.
    """

    @property
    def name(self) -> str:
        """One of ``asynckit.tokenization.config.ENCODERS`` without ``auto``."""

    @property
    def version(self) -> str:
        """Of the library."""

    def encode(self, texts: list[str]) -> Ragged:
        """Ids of each text.

        Raises:
            InputError: a text holds half a surrogate pair, or is too long and cannot be cut.
            EncoderMismatch: a check found a text of which the reference makes other tokens.
        """


class Encoder(Engine, Protocol):
    """An engine whose ids are the reference's, because it is the reference or is checked by it."""

    @property
    def checked_documents(self) -> int:
        """Documents of the random sample that the reference encoded too, since this object was made."""

    @property
    def checked_excerpts(self) -> int:
        """What else it encoded too: places that deserve a check."""

    def unchecked(self, texts: list[str]) -> Ragged:
        """Ids that are only used where they equal what :meth:`encode` gave for the whole."""


class NotApplicable(Exception):
    """An engine cannot encode as this tokenizer does; the message is the reason."""


def ragged(rows: Sequence[Ids]) -> Ragged:
    """Rows in one flat array."""
    values = np.concatenate(rows) if rows else np.zeros(0, np.uint32)
    return Ragged(values, offsets_of([len(row) for row in rows]))


def utf8(texts: Sequence[str]) -> list[bytes]:
    """Texts as the engines take them.

    Raises:
        InputError: one holds half a surrogate pair, which no UTF-8 has.
    """
    try:
        return [text.encode() for text in texts]
    except UnicodeEncodeError as error:
        around = error.object[max(error.start - 20, 0) : error.end + 20]
        raise InputError(
            f"a text holds half a surrogate pair, near {around!r}",
            mend="write characters beyond U+FFFF whole, or --on-error skip",
        ) from error
