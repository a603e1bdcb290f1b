"""Records of JSON: a typed msgspec decoder that skips what nobody asked for, and words for what it refuses.

The fast way takes a whole batch or nothing. A batch with anything odd in it is read again record by record,
and what msgspec refuses there is given to ``json``, which accepts what Python's ``json.dumps`` writes, such
as ``NaN`` in a field that is not asked for, and says better what is wrong.
"""

import json
from collections.abc import Callable, Sequence
from operator import attrgetter
from typing import Any

import msgspec
import numpy as np

from asynckit.tokenization.inputs.faults import Fault, Unusable, kind_of
from asynckit.tokenization.inputs.fields import Wanted, missing
from asynckit.tokenization.inputs.pieces import Parsed, Piece, Spans, spans_of_lines
from asynckit.tokenization.inputs.utf8 import is_utf8, text_of

_REFUSALS = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError, Unusable)
_MEND = "mend the record, or leave such records out with --on-error skip"


class JsonDecoder:
    """Takes the wanted fields out of JSON objects."""

    def __init__(self, wanted: Sequence[Wanted]) -> None:
        self._wanted = wanted
        roots = list(dict.fromkeys(field.path.root for field in wanted))
        attributes = {root: f"root{number}" for number, root in enumerate(roots)}
        shape = msgspec.defstruct(
            "Wanted",
            [_struct_field(attributes[root], root, wanted) for root in roots],
            gc=False,
        )
        self._decode = msgspec.json.Decoder(shape).decode
        self._columns = [_column_maker(field, attributes[field.path.root]) for field in wanted]

    def lines(self, piece: Piece) -> Parsed:
        """The records of JSON Lines; lines of white space are none."""
        spans = spans_of_lines(piece.data)
        texts = piece.data.split(b"\n")
        if len(texts) > len(spans.starts):
            texts.pop()
        return self.records(piece, spans, texts)

    def records(self, piece: Piece, spans: Spans, texts: list[bytes]) -> Parsed:
        """The records whose bytes are ``texts``, and lie at ``spans``."""
        if is_utf8(piece.data):
            try:
                return Parsed(self._all(texts), spans, [])
            except _REFUSALS:
                pass  # something is odd: look at each
        return self._each(piece, spans, texts)

    def _all(self, texts: list[bytes]) -> tuple[list[Any], ...]:
        rows = list(map(self._decode, texts))
        return tuple(column(rows) for column in self._columns)

    def _each(self, piece: Piece, spans: Spans, texts: list[bytes]) -> Parsed:
        columns: tuple[list[Any], ...] = tuple([] for _ in self._wanted)
        kept: list[int] = []
        faults: list[Fault] = []
        for index, text in enumerate(texts):
            if not text or text.isspace():
                continue
            try:
                values = self._one(text)
            except Unusable as fault:
                start, line = piece.start + int(spans.starts[index]), piece.line + int(spans.lines[index])
                faults.append(Fault(start, line, fault.reason, fault.mend))
                continue
            kept.append(index)
            for column, value in zip(columns, values, strict=True):
                column.append(value)
        return Parsed(columns, spans.kept(np.array(kept, np.int64)), faults)

    def _one(self, text: bytes) -> list[Any]:
        whole = text_of(text)
        try:
            return [column[0] for column in self._all([text])]
        except _REFUSALS:
            return self._slowly(whole)

    def _slowly(self, text: str) -> list[Any]:
        record = _parsed(text)
        if not isinstance(record, dict):
            raise Unusable(f"the record is {kind_of(record)}, not an object", 'write it as {"text": "…"}')
        return [_encodable(field.path.text, _found(field, record)) for field in self._wanted]


def _struct_field(attribute: str, root: str, wanted: Sequence[Wanted]) -> tuple[str, Any, Any]:
    asked = [field for field in wanted if field.path.root == root]
    if all(field.optional for field in asked):
        return attribute, Any, msgspec.field(name=root, default=None)
    plain = len(asked) == 1 and not asked[0].path.steps
    kind = str if plain and asked[0].kind == "text" else Any
    return attribute, kind, msgspec.field(name=root)


def _column_maker(field: Wanted, attribute: str) -> Callable[[list[Any]], list[Any]]:
    root_of = attrgetter(attribute)
    if not field.path.steps and field.kind != "any":
        # The decoder has checked the type, unless two fields share the root.
        return lambda rows: list(map(field.checked, map(root_of, rows)))
    return lambda rows: [field.value(root_of(row)) for row in rows]


def _parsed(text: str) -> Any:
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        line = f" of its line {error.lineno}" if error.lineno > 1 else ""
        raise Unusable(f"not valid JSON: {error.msg} in column {error.colno}{line}", _MEND) from error
    except (ValueError, RecursionError) as error:
        raise Unusable(f"not readable JSON: {error}", _MEND) from error


def _found(field: Wanted, record: dict[str, Any]) -> Any:
    if field.path.root in record:
        return field.value(record[field.path.root])
    if field.optional:
        return None
    raise missing(field.path.root, record)


def _encodable(name: str, value: Any) -> Any:
    try:
        json.dumps(value, ensure_ascii=False).encode()
    except UnicodeEncodeError as error:
        half = f"\\u{ord(error.object[error.start]):04x}"
        raise Unusable(
            f"{name} holds {half}, half of a surrogate pair, which no UTF-8 text has", _MEND
        ) from error
    return value
