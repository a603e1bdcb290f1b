"""From characters to tokens: which tokens of a chat are the assistant's."""

import numpy as np
from numpy.typing import NDArray

from asynckit.errors import InputError
from asynckit.models.light_tokenizer import LightTokenizer
from asynckit.readable import in_one_line
from asynckit.tokenization.arrays import Encode, Ragged
from asynckit.tokenization.layouts.chat_templates import RenderedChat


class Turns:
    """Finds the tokens between a chat's borders.

    Where the pieces between the borders, encoded one by one, give the tokens of the whole, the borders fall
    between tokens. Where they don't (a token stands on both sides of a border, or the tokenizer treats the
    beginning of a text unlike its middle), it depends on who drew the borders. A template that marks the
    assistant's turns says what it means: a token on a border counts, as it does in transformers' masks.
    Borders found by prefixes must be where the prefix's own tokens end: those are what a model sees that
    is asked to answer.
    """

    def __init__(self, tokenizer: LightTokenizer, encode: Encode) -> None:
        self._tokenizer = tokenizer
        self._encode = encode
        self._is_special = np.zeros(tokenizer.vocabulary, dtype=np.bool_)
        self._is_special[list(tokenizer.special_ids)] = True

    def in_tokens(self, chat: RenderedChat, row: NDArray[np.uint32], pieces: Ragged) -> list[tuple[int, int]]:
        """Where the assistant's tokens begin and end in the chat's row.

        Args:
            chat: its text and borders.
            row: its tokens.
            pieces: the tokens of the text between its borders, each encoded by itself.

        Raises:
            InputError: a border found by prefixes does not fall between tokens.
        """
        if np.array_equal(pieces.values, row):
            places = pieces.offsets.tolist()
        elif chat.is_marked:
            places = self._by_offsets(chat)
        else:
            places = self._by_prefixes(chat, row)
        turns = list(zip(places[1:-1:2], places[2:-1:2], strict=True))
        return turns if chat.is_marked else [self._learned(row, *turn) for turn in turns]

    def _by_offsets(self, chat: RenderedChat) -> list[int]:
        offsets = np.array(self._tokenizer.offsets(chat.text), dtype=np.int64).reshape(-1, 2)
        starts = np.searchsorted(offsets[:, 1], chat.borders[1:-1:2], side="right")
        ends = np.searchsorted(offsets[:, 0], chat.borders[2:-1:2], side="left")
        return [0, *np.stack([starts, ends], axis=1).ravel().tolist(), len(offsets)]

    def _by_prefixes(self, chat: RenderedChat, row: NDArray[np.uint32]) -> list[int]:
        prefixes = self._encode([chat.text[:border] for border in chat.borders])
        for index, border in enumerate(chat.borders):
            own = prefixes.row(index)
            if not np.array_equal(own, row[: len(own)]):
                around = in_one_line(chat.text[max(0, border - 10) : border + 10], 40)
                raise InputError(
                    f"a token stands on both sides of a border of an assistant's turn, in {around!r}",
                    mend="take white space off the message's ends, or take a template that marks the "
                    "assistant's turns by {% generation %}",
                )
        return [int(length) for length in prefixes.lengths()]

    def _learned(self, row: NDArray[np.uint32], start: int, end: int) -> tuple[int, int]:
        """A turn found by prefixes up to its end-of-turn token, without the white space that follows that."""
        special = np.flatnonzero(self._is_special[row[start:end]]).tolist()
        if not special:
            return start, end
        said = start + special[-1] + 1
        rest = self._tokenizer.decode(row[said:end].tolist())
        return start, end if rest.strip() else said
