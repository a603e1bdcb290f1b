"""The reference: the tokenizer as transformers has it, in one thread."""

import os
from collections.abc import Iterator
from importlib.metadata import version
from itertools import chain
from typing import TYPE_CHECKING, Any

import numpy as np

from asynckit.models.python_tokenizer import PythonTokenizer
from asynckit.models.tokenizer_parts import TokenizerParts, parts_of
from asynckit.tokenization.arrays import Ragged
from asynckit.tokenization.encoding.encoder import Ids, ragged, utf8
from asynckit.tokenization.encoding.pieces import PIECE_CHARACTERS, in_pieces

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

_BATCH_CHARACTERS = 1 << 18  # the library's Encoding objects take more than 100 bytes per token


class Reference:
    """Encodes with the tokenizers library, or with the tokenizer's own Python code.

    Long documents are cut where that changes nothing, because the library needs more than a hundred times
    the memory of what it returns. It is told to use one thread: processes are forked around it.
    """

    name = "tokenizers"
    checked_documents = 0
    checked_excerpts = 0

    def __init__(self, tokenizer: "TokenizerParts | PreTrainedTokenizerBase") -> None:
        os.environ["TOKENIZERS_PARALLELISM"] = "false"
        parts = tokenizer if isinstance(tokenizer, TokenizerParts) else parts_of(tokenizer)
        self._backend: Any = parts.backend if parts else None
        self._python = None if parts else PythonTokenizer(tokenizer)
        self.version = version("tokenizers" if parts else "transformers")

    def encode(self, texts: list[str]) -> Ragged:
        """Ids of each text; raises as :class:`~asynckit.tokenization.encoding.encoder.Encoder` says."""
        utf8(texts)
        return ragged(list(chain.from_iterable(self._encode(batch) for batch in _batches(texts))))

    def unchecked(self, texts: list[str]) -> Ragged:
        """The same: nobody checks the reference."""
        return self.encode(texts)

    def ids(self, text: str) -> list[int]:
        """Ids of one short text."""
        encoder = self._python or self._backend
        ids: list[int] = encoder.encode(text, add_special_tokens=False).ids
        return ids

    def _encode(self, texts: list[str]) -> list[Ids]:
        if len(texts) == 1 and len(texts[0]) > PIECE_CHARACTERS:
            pieces = list(in_pieces(texts[0], self._encode_short))
            return [np.concatenate(pieces)]
        return self._encode_short(texts)

    def _encode_short(self, texts: list[str]) -> list[Ids]:
        if self._python:
            return [np.array(self.ids(text), np.uint32) for text in texts]
        encodings = self._backend.encode_batch_fast(texts, add_special_tokens=False)
        return [np.array(encoding.ids, np.uint32) for encoding in encodings]


def _batches(texts: list[str]) -> Iterator[list[str]]:
    """Texts in order, a few at a time; one that is long goes alone."""
    start, size = 0, 0
    for index, text in enumerate(texts):
        if index > start and size + len(text) > _BATCH_CHARACTERS:
            yield texts[start:index]
            start, size = index, 0
        size += len(text)
    if start < len(texts):
        yield texts[start:]
