"""gigatoken: byte-pair encoding with a cache of words, 40 times as fast as the reference on one core."""

from importlib import import_module
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

import numpy as np

from asynckit.models.tokenizer_parts import TokenizerParts
from asynckit.tokenization.arrays import Ragged
from asynckit.tokenization.encoding.encoder import Ids, NotApplicable, utf8
from asynckit.tokenization.encoding.memory import resident_bytes
from asynckit.tokenization.encoding.reference import Reference
from asynckit.tokenization.encoding.rewriting import rewrite
from asynckit.tokenization.encoding.splicing import Expansions, replace_rows

if TYPE_CHECKING:
    from gigatoken import Tokenizer

_LOOK_AT_MEMORY_EVERY = 16 << 20  # bytes of text
_MOST_GROWTH = 160 << 20  # bytes of memory


class Gigatoken:
    """Encodes with gigatoken where the tokenizer can be brought to a form that it takes.

    Its cache of words never shrinks, so the engine is opened anew when this process has grown by 160 MiB.

    Raises:
        NotApplicable: the tokenizer is beyond what it encodes exactly.
    """

    name = "gigatoken"

    def __init__(self, parts: TokenizerParts, reference: Reference) -> None:
        self._rewritten = rewrite(parts.backend.to_str(), reference.ids)
        self._expansions = Expansions(self._rewritten.vocabulary, self._rewritten.expansions)
        self._reference = reference
        self.version = version("gigatoken")
        self._engine = self._open()

    def encode(self, texts: list[str]) -> Ragged:
        """Ids of each text; raises as :class:`~asynckit.tokenization.encoding.encoder.Encoder` says."""
        encoded = utf8(texts)
        self._keep_small(sum(map(len, encoded)))
        layout: Any = self._engine.encode_batch(encoded, parallel=False).layout
        ids: Ids = np.asarray(layout.content.data)
        rows, unknown = self._expansions.expand(Ragged(ids, np.asarray(layout.offsets)))
        if unknown.size:
            rows = replace_rows(rows, unknown, self._reference.encode([texts[row] for row in unknown]))
        return rows

    def _open(self) -> "Tokenizer":
        from gigatoken import Tokenizer

        import_module("awkward")  # gigatoken returns its arrays; better now than in each forked process
        try:
            engine = Tokenizer.from_json(self._rewritten.json)
        except (RuntimeError, ValueError) as error:  # RuntimeError is its way to refuse a tokenizer
            raise NotApplicable(str(error).splitlines()[0]) from error
        self._unwatched, self._base = 0, resident_bytes()
        return engine

    def _keep_small(self, coming: int) -> None:
        self._unwatched += coming
        if self._unwatched < _LOOK_AT_MEMORY_EVERY:
            return
        self._unwatched = 0
        if resident_bytes() > self._base + _MOST_GROWTH:
            del self._engine
            self._engine = self._open()
