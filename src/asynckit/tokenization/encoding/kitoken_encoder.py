"""kitoken: every kind of tokenizer, about nine times as fast as the reference on one core."""

import json
from importlib.metadata import version
from typing import Any

import numpy as np

from asynckit.models.tokenizer_parts import TokenizerParts
from asynckit.tokenization.arrays import Ragged
from asynckit.tokenization.encoding.characters import characters_with_doubtful_nfc
from asynckit.tokenization.encoding.encoder import Ids, NotApplicable, ragged, utf8
from asynckit.tokenization.encoding.pieces import PIECE_CHARACTERS, in_pieces
from asynckit.tokenization.encoding.reference import Reference


class Kitoken:
    """Encodes with kitoken.

    It returns a Python list per text, which is an array before the next text is encoded.

    Raises:
        NotApplicable: it cannot read the tokenizer.
    """

    name = "kitoken"

    def __init__(self, parts: TokenizerParts, reference: Reference) -> None:
        from kitoken import Kitoken as Engine

        try:
            self._engine = Engine.from_tokenizers(parts.backend.to_str().encode())
        except ValueError as error:
            raise NotApplicable(str(error)) from error
        self._reference = reference
        self._doubtful = _doubtful(parts)
        self.version = version("kitoken")

    def encode(self, texts: list[str]) -> Ragged:
        """Ids of each text; raises as :class:`~asynckit.tokenization.encoding.encoder.Encoder` says."""
        utf8(texts)
        return ragged([self._encode(text) for text in texts])

    def _encode(self, text: str) -> Ids:
        if self._doubtful and not text.isascii() and not self._doubtful.isdisjoint(text):
            return self._reference.encode([text]).values
        if len(text) > PIECE_CHARACTERS:
            return np.concatenate(list(in_pieces(text, self._encode_short)))
        return self._encode_short([text])[0]

    def _encode_short(self, texts: list[str]) -> list[Ids]:
        return [np.array(self._engine.encode(text, True), np.uint32) for text in texts]


def _doubtful(parts: TokenizerParts) -> frozenset[str]:
    """Characters that only the reference normalizes as the reference does."""
    if {kind["type"] for kind in _normalizers(parts)} <= {"Prepend", "Replace", "Strip"}:
        return frozenset()
    return frozenset(characters_with_doubtful_nfc())


def _normalizers(parts: TokenizerParts) -> list[dict[str, Any]]:
    if parts.backend.normalizer is None:
        return []
    state = json.loads(parts.backend.normalizer.__getstate__())
    several: list[dict[str, Any]] = state.get("normalizers", [state])
    return several
