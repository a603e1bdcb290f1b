"""Finds what deserves a check in a batch of texts, in a few passes over its bytes.

Fast encoders go wrong where their authors did not look: in long runs of one kind of character, in text that
looks like a special token, in control characters and invisible ones, in rare scripts, in emoji sequences. The
passes compare whole arrays of bytes (a tenth of a millisecond per megabyte each); what they find is looked
at by itself, and of each kind only the first in a text becomes an excerpt.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial

import numpy as np
from numpy.typing import NDArray

from asynckit.tokenization.arrays import offsets_of

RUN = 200  # bytes of one kind that make a long run
_AROUND = 96  # bytes of an excerpt on both sides of what was found
_MOST_OF_RUN = 1500
_STRIDE = 4
_CHUNK = 1 << 17
_BETWEEN = b"\xff"  # between texts: never in UTF-8
_KINDS = {
    b"W": b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz",
    b"S": b" \t\r\n",
    b"P": b"!\"#$%&'()*+,-./:;<=>?@[\\]^_`{|}~",
}
_MARK = 4  # bytes of a special token that make a text look like one

Positions = NDArray[np.int64]


def _kind_table() -> bytes:
    table = bytearray(b"U" * 256)  # other scripts: words without spaces between them are no runs there
    for kind, members in _KINDS.items():
        for byte in members:
            table[byte] = kind[0]
    table[0xFF] = 0
    return bytes(table)


def _rare_pairs() -> NDArray[np.bool_]:
    """First two bytes of characters of rare scripts, invisible characters and private ones."""
    rare = np.zeros(1 << 16, bool)
    spans = [
        (0xC280, 0xC29F),  # control characters of Latin-1
        (0xDC80, 0xDFBF),  # Syriac, Thaana, N'Ko
        *((0xE1A0, 0xE1AF), (0xE18E, 0xE19F), (0xE1B0, 0xE1B7)),  # Cherokee to Tai Tham, Balinese to Vedic
        (0xE2B0, 0xE2B7),  # Glagolitic to Ethiopic Extended
        (0xEA80, 0xEAAF),  # Yi to Meetei Mayek
        *((0xEE80, 0xEFA3), (0xEFBF, 0xEFBF), (0xEFBB, 0xEFBB)),  # private use, U+FFFD, U+FEFF
        *(
            (0xF090, 0xF09C),
            (0xF09D, 0xF09E),
            (0xF0A0, 0xF4BF),
        ),  # ancient scripts, mathematics, planes 2+
    ]
    for first, last in spans:
        rare[first : last + 1] = True
    return rare


def _rare_triples() -> NDArray[np.uint32]:
    """First three bytes of zero-width characters and of marks of direction."""
    codes = [*range(0x200B, 0x2010), *range(0x202A, 0x202F), *range(0x2060, 0x2070), 0xFE0F, 0x20E3]
    return np.array([int.from_bytes(chr(code).encode(), "big") for code in codes], np.uint32)


_TABLE = _kind_table()
_PAIRS = _rare_pairs()
_TRIPLES = _rare_triples()
_LEADS = (0xC2, 0xE1, 0xE2, 0xEA)  # and 0xDC to 0xDF, 0xEE to 0xF4


class Unusual:
    """Excerpts of texts that deserve a check.

    Args:
        special: texts of the tokenizer's added tokens.
    """

    def __init__(self, special: Iterable[str]) -> None:
        marks = {token.encode()[:_MARK] for token in special if len(token) > 1}
        self._marks = tuple(sorted(marks))
        self._openings = [np.uint8(opening) for opening in sorted({mark[0] for mark in marks})]
        self._seconds = np.zeros(256, bool)
        self._seconds[[mark[1] for mark in marks]] = True

    def excerpts(self, texts: Sequence[bytes]) -> list[tuple[int, str]]:
        """What is unusual: index of the text and an excerpt around it, one of each kind per text."""
        if not texts:
            return []
        joined = _BETWEEN.join([*texts, b"", b""])  # two bytes to look at after every first byte
        starts = offsets_of([len(text) + 1 for text in texts[:-1]])
        data = np.frombuffer(joined, np.uint8)
        found: list[tuple[int, str]] = []
        for places, length_at in self._searches(joined, data):
            for text, place in _first_in_each(places, starts):
                end = int(starts[text]) + len(texts[text])
                found.append((text, _excerpt(joined, int(starts[text]), end, place, length_at(place))))
        return found

    def _searches(
        self, joined: bytes, data: NDArray[np.uint8]
    ) -> Iterator[tuple[Positions, Callable[[int], int]]]:
        """Where each kind is, and how long it is at a place."""
        runs = dict(_runs(joined))
        yield np.array(sorted(runs), np.int64), lambda place: min(runs[place], _MOST_OF_RUN)
        yield _where(data, _is_control), lambda _: 1
        yield self._look_alikes(joined, data), lambda _: 2 * _AROUND
        if not joined.isascii():
            yield _rare_characters(data), lambda _: _AROUND

    def _look_alikes(self, joined: bytes, data: NDArray[np.uint8]) -> Positions:
        found = []
        for opening in self._openings:
            places = _where(data[:-1], partial(np.equal, opening))
            places = places[self._seconds[data[places + 1]]]
            found += [place for place in places.tolist() if joined.startswith(self._marks, place)]
        return np.array(sorted(found), np.int64)


def _runs(joined: bytes) -> Iterator[tuple[int, int]]:
    """Start and length of long runs; a byte in four is enough to find them."""
    sparse = joined[::_STRIDE].translate(_TABLE)
    for kind in _KINDS:
        needle = kind * (RUN // _STRIDE - 1)
        at = sparse.find(needle)
        while at >= 0:
            start, end = _extent(joined, at * _STRIDE, kind)
            if end - start >= RUN:
                yield start, end - start
            at = sparse.find(needle, max(end // _STRIDE, at + 1))


def _extent(joined: bytes, at: int, kind: bytes) -> tuple[int, int]:
    """The run around a byte of a kind, from up to three bytes before it, as far as a megabyte."""
    members = _KINDS[kind]
    start = at
    while start > max(at - _STRIDE, 0) and joined[start - 1] in members:
        start -= 1
    step = RUN
    while True:
        stretch = joined[at : at + step]
        length = len(stretch) - len(stretch.lstrip(members))
        if length < len(stretch) or at + step >= len(joined) or step > 1 << 20:
            return start, at + length
        step *= 4


def _where(data: NDArray[np.uint8], test: Callable[[NDArray[np.uint8]], NDArray[np.bool_]]) -> Positions:
    """Where bytes pass a test, chunk by chunk: what the test allocates stays in the processor's cache."""
    found = []
    for first in range(0, data.size, _CHUNK):
        hits = test(data[first : first + _CHUNK])
        if hits.any():
            found.append(np.flatnonzero(hits) + first)
    return np.concatenate(found) if found else np.zeros(0, np.int64)


def _is_control(data: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """Bytes below space but tabs and line ends, and 0x7F."""
    hits: NDArray[np.bool_] = (data < 9) | ((data - np.uint8(14)) < 18) | (data == 127)
    return hits


def _may_be_rare(data: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """First bytes of the characters that are looked at by themselves."""
    hits = (data >= 0xEE) & (data < 0xF5)
    hits |= (data - np.uint8(0xDC)) < 4
    for lead in _LEADS:
        hits |= data == lead
    return hits


def _rare_characters(data: NDArray[np.uint8]) -> Positions:
    leads = _where(data, _may_be_rare)
    first, second, third = (data[leads + offset].astype(np.uint32) for offset in range(3))
    rare = _PAIRS[(first << 8) | second] | np.isin((first << 16) | (second << 8) | third, _TRIPLES)
    places: Positions = leads[rare]
    return places


def _first_in_each(places: Positions, starts: Positions) -> Iterator[tuple[int, int]]:
    """The first place in each text."""
    if not places.size:
        return
    texts = np.searchsorted(starts, places, side="right") - 1
    which, first = np.unique(texts, return_index=True)
    yield from zip(which.tolist(), places[first].tolist(), strict=True)


def _excerpt(joined: bytes, start: int, end: int, place: int, length: int) -> str:
    """A bit of a text around a place; characters that the ends cut are left out."""
    around = joined[max(place - _AROUND, start) : min(place + length + _AROUND, end)]
    return around.decode("utf-8", "ignore")
