"""Records of a JSON file: the elements of a list, or objects one after another."""

import numpy as np

from asynckit.tokenization.inputs.faults import Fault
from asynckit.tokenization.inputs.json_lists import Elements, elements_of
from asynckit.tokenization.inputs.json_records import JsonDecoder
from asynckit.tokenization.inputs.pieces import Parsed, Piece, Spans, lines_at

_MEND = "mend the file; JSON Lines, one object per line, can be read around a broken record"


def parse_list(decoder: JsonDecoder, piece: Piece) -> Parsed:
    """The elements that lie whole in a piece, and what lies between them and is no comma."""
    found = elements_of(piece.data)
    starts, ends = found.starts[: len(found.ends)], found.ends
    spans = Spans(starts, ends, lines_at(piece.data, starts))
    texts = [piece.data[start:end] for start, end in zip(starts.tolist(), ends.tolist(), strict=True)]
    parsed = decoder.records(piece, spans, texts)
    faults = sorted(parsed.faults + _between(piece, found))
    return Parsed(parsed.columns, parsed.spans, faults)


def _between(piece: Piece, found: Elements) -> list[Fault]:
    """What is wrong before, between and after the elements."""
    count = len(found.ends)
    begins = [0, *found.ends.tolist()]
    stops = [*found.starts[:count].tolist(), len(piece.data)]
    faults = []
    for number, (begin, stop) in enumerate(zip(begins, stops, strict=True)):
        gap = b"".join(piece.data[begin:stop].split(maxsplit=2))
        if gap in _allowed(found.inside, first=number == 0, last=number == count):
            continue
        line = piece.line + int(lines_at(piece.data, np.array([begin]))[0])
        faults.append(Fault(piece.start + begin, line, _wrong(gap), _MEND))
    return faults


def _allowed(inside: bool, *, first: bool, last: bool) -> tuple[bytes, ...]:
    if first and last:
        return (b"", b"[]", b"]")
    if not inside:
        return (b"",)
    if first:
        return (b"[", b",")
    return (b"", b"]") if last else (b",",)


def _wrong(gap: bytes) -> str:
    rest = gap.lstrip(b"[,")
    if rest.startswith(b"{"):
        return "not valid JSON: an object that is never closed"
    if rest:
        return "not valid JSON, or something else than an object"
    return "not valid JSON: a comma too many or too few"
