"""A fast encoder under the eyes of the reference.

In every call a random sample of whole documents is encoded by the reference too, and whatever is unusual in
any document, as an excerpt. Documents are drawn by a hash of their length and some of their ids: the same
ones however the work is divided. So with a sample of ``n`` documents and no mismatch, :func:`bound` says how
large the share of documents can be that differ.
"""

from collections.abc import Sequence
from typing import NoReturn

import numpy as np
from numpy.typing import NDArray

from asynckit.errors import EncoderMismatch
from asynckit.tokenization.arrays import Ragged
from asynckit.tokenization.encoding.encoder import Engine, Ids, utf8
from asynckit.tokenization.encoding.reference import Reference
from asynckit.tokenization.encoding.shrink import shrink
from asynckit.tokenization.encoding.unusual import Unusual

_WHOLE = 1 << 18  # characters; of a longer document windows are drawn instead
_WINDOW = 2048
_SHORT = 1 << 14  # characters of the document that a call checks where the sample has none
_CONFIDENCE = 0.95
_SHOWN = 24  # ids in a message

Hashes = NDArray[np.uint64]


class CheckedEncoder:
    """Encodes with a fast engine and checks it on the way.

    Args:
        engine: the fast one.
        reference: the one that is right.
        share: of the documents that the sample has, 0 to 1; with 0 only what is unusual is checked.
        special: texts of the tokenizer's added tokens.
    """

    def __init__(self, engine: Engine, reference: Reference, share: float, special: Sequence[str]) -> None:
        self.name, self.version = engine.name, engine.version
        self.checked_documents = self.checked_excerpts = 0
        self._engine, self._reference = engine, reference
        self._share = share
        self._unusual = Unusual(special)
        self._of_nothing = reference.encode([""])

    def encode(self, texts: list[str]) -> Ragged:
        """Ids of each text; raises as :class:`~asynckit.tokenization.encoding.encoder.Encoder` says."""
        rows = self._engine.encode(texts)
        hashes = _hashes(rows)
        sample, more = self._draw(texts, rows, hashes)
        self._compare([texts[index] for index in sample], [rows.row(index) for index in sample])
        self.checked_documents += len(sample)
        excerpts = [excerpt for _, excerpt in self._unusual.excerpts(utf8(texts))]
        excerpts += [texts[index] for index in more]
        excerpts += _windows(texts, hashes, self._share)
        self._check(excerpts)
        self._check_empty(texts, rows)
        return rows

    def unchecked(self, texts: list[str]) -> Ragged:
        """Ids that are only used where they equal what :meth:`encode` gave for the whole."""
        return self._engine.encode(texts)

    def _draw(self, texts: list[str], rows: Ragged, hashes: Hashes) -> tuple[list[int], list[int]]:
        """The sample; and a short document if it is empty, so that no call goes unchecked."""
        if not self._share or not texts:
            return [], []
        threshold = min(int(self._share * 2.0**64), 2**64 - 1)
        drawn = np.flatnonzero(hashes <= np.uint64(threshold)).tolist()
        sample = [index for index in drawn if len(texts[index]) <= _WHOLE]
        if sample:
            return sample, []
        short = np.flatnonzero(rows.lengths() <= _SHORT // 4)
        more = short[np.argmin(hashes[short])] if short.size else -1
        return [], [int(more)] if more >= 0 and len(texts[more]) <= _SHORT else []

    def _check(self, excerpts: list[str]) -> None:
        if excerpts:
            rows = self._engine.encode(excerpts)
            self._compare(excerpts, [rows.row(index) for index in range(len(excerpts))])
            self.checked_excerpts += len(excerpts)

    def _check_empty(self, texts: list[str], rows: Ragged) -> None:
        """Every document without text has the tokens that the reference gives for none."""
        wrong = rows.lengths() != self._of_nothing.values.size
        for index in np.flatnonzero(wrong).tolist() if "" in texts else []:
            if not texts[index]:
                self._stop("", self._of_nothing.values, rows.row(index))

    def _compare(self, texts: list[str], found: list[Ids]) -> None:
        expected = self._reference.encode(texts)
        for index, ids in enumerate(found):
            if not np.array_equal(expected.row(index), ids):
                self._stop_at(texts[index], expected.row(index), ids)

    def _stop_at(self, text: str, expected: Ids, found: Ids) -> NoReturn:
        if not self._differ(text):
            self._stop(text, expected, found)  # only beside other texts: a fault that does not repeat
        short = shrink(text, self._differ)
        self._stop(short, self._reference.encode([short]).values, self._engine.encode([short]).values)

    def _differ(self, text: str) -> bool:
        expected, found = self._reference.encode([text]), self._engine.encode([text])
        return not np.array_equal(expected.values, found.values)

    def _stop(self, text: str, expected: Ids, found: Ids) -> NoReturn:
        raise EncoderMismatch(
            f"{self.name} {self.version} makes {_shown(found)} of {text[:400]!r}, the tokenizer itself "
            f"{_shown(expected)}",
            mend="--encoder tokenizers",
        )


def bound(checked_documents: int) -> float:
    """Largest share of documents that can differ, with 95 % confidence, when none of a sample did.

    Of documents up to 262,144 characters; longer ones are checked by excerpts.
    """
    if not checked_documents:
        return 1.0
    return float(1 - (1 - _CONFIDENCE) ** (1 / checked_documents))


def _shown(ids: Ids) -> str:
    more = f" and {ids.size - _SHOWN:,} more" if ids.size > _SHOWN else ""
    return f"{ids[:_SHOWN].tolist()}{more}"


def _hashes(rows: Ragged) -> Hashes:
    """A hash of each row's length, sum, first, middle and last id (a finalizer of MurmurHash3).

    Without the sum, documents of one pattern would be drawn all or not at all.
    """
    lengths = rows.lengths()
    mixed = lengths.astype(np.uint64)
    full = np.flatnonzero(lengths)
    if full.size:
        mixed[full] = _mix(mixed[full] ^ np.add.reduceat(rows.values, rows.offsets[full], dtype=np.uint64))
    for part in (0, 1, 2):
        at = rows.offsets[full] + (lengths[full] - 1) * part // 2
        mixed[full] = _mix(mixed[full] ^ (rows.values[at].astype(np.uint64) << np.uint64(20)))
    return _mix(mixed)


def _mix(value: Hashes) -> Hashes:
    value = (value ^ (value >> np.uint64(33))) * np.uint64(0xFF51AFD7ED558CCD)
    value = (value ^ (value >> np.uint64(33))) * np.uint64(0xC4CEB9FE1A85EC53)
    return value ^ (value >> np.uint64(33))


def _windows(texts: list[str], hashes: Hashes, share: float) -> list[str]:
    """Parts of the documents that are too long to be encoded twice, in the sample's proportion."""
    if not share or max(map(len, texts), default=0) <= _WHOLE:
        return []
    windows = []
    for index, text in enumerate(texts):
        if len(text) > _WHOLE:
            random = np.random.default_rng(int(hashes[index]))
            count = 1 + int(share * len(text) / _WINDOW)
            starts = random.integers(0, len(text) - _WINDOW, count).tolist()
            windows += [text[start : start + _WINDOW] for start in starts]
    return windows
