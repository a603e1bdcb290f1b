"""Plain text: a document is a file, a line, or a paragraph."""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from asynckit.tokenization.inputs.faults import Fault, Unusable
from asynckit.tokenization.inputs.pieces import Parsed, Piece, Spans, spans_of_lines
from asynckit.tokenization.inputs.utf8 import is_utf8, text_of


def text_parser(text_unit: str) -> Callable[[Piece], Parsed]:
    """Reads documents of that unit."""
    spans_of = {"file": _whole, "line": _lines, "paragraph": _paragraphs}[text_unit]
    return lambda piece: _documents(piece, spans_of(piece.data))


def _whole(data: bytes) -> Spans:
    here = np.zeros(1 if data else 0, np.int64)
    return Spans(here, here + len(data), here)


def _lines(data: bytes) -> Spans:
    spans = spans_of_lines(data)
    return spans.kept(~_blank(data, spans))


def _paragraphs(data: bytes) -> Spans:
    """Lines with no blank one between them belong together."""
    spans = spans_of_lines(data)
    blank = np.concatenate([[True], _blank(data, spans), [True]])
    first = ~blank[1:-1] & blank[:-2]
    last = ~blank[1:-1] & blank[2:]
    return Spans(spans.starts[first], spans.ends[last], spans.lines[first])


def _blank(data: bytes, spans: Spans) -> NDArray[np.bool_]:
    """Which lines hold nothing but white space."""
    blank = spans.starts >= spans.ends
    codes = np.frombuffer(data, np.uint8)
    # Only a line that begins with white space needs a look.
    begins = np.append(codes, 0)[spans.starts]
    for index in np.flatnonzero(~blank & ((begins == 32) | ((begins >= 9) & (begins <= 13)))):
        blank[index] = data[spans.starts[index] : spans.ends[index]].isspace()
    return blank


def _documents(piece: Piece, spans: Spans) -> Parsed:
    pairs = zip(spans.starts.tolist(), spans.ends.tolist(), strict=True)
    parts = [piece.data[start:end] for start, end in pairs]
    if is_utf8(piece.data):
        return Parsed(([part.decode() for part in parts],), spans, [])
    texts: list[str] = []
    kept: list[int] = []
    faults: list[Fault] = []
    for index, part in enumerate(parts):
        try:
            texts.append(text_of(part))
            kept.append(index)
        except Unusable as fault:
            start, line = piece.start + int(spans.starts[index]), piece.line + int(spans.lines[index])
            faults.append(Fault(start, line, fault.reason, fault.mend))
    return Parsed((texts,), spans.kept(np.array(kept, np.int64)), faults)
