"""Columns of Parquet and Arrow as values."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from asynckit.tokenization.inputs.faults import Fault, Unusable
from asynckit.tokenization.inputs.fields import FieldPath, Wanted
from asynckit.tokenization.inputs.pieces import PIECE_BYTES, Parsed, Spans
from asynckit.tokenization.inputs.utf8 import text_of

_NO_LINES = np.zeros(0, np.int64)


def parse_rows(batch: Any, first_row: int, wanted: Sequence[Wanted]) -> Parsed:
    """The records of a batch, whose first row is row ``first_row`` of the source."""
    columns = []
    broken: dict[int, Unusable] = {}
    for field in wanted:
        values, faults = _values(batch, field)
        columns.append(values)
        broken = faults | broken
    rows = np.delete(np.arange(batch.num_rows, dtype=np.int64), list(broken))
    if broken:
        columns = [[column[row] for row in rows] for column in columns]
    spans = Spans(first_row + rows, first_row + rows + 1, _NO_LINES)
    refused = [Fault(first_row + row, -1, why.reason, why.mend) for row, why in sorted(broken.items())]
    return Parsed(tuple(columns), spans, refused)


def small_batches(batch: Any, wanted: Sequence[Wanted]) -> Iterator[Any]:
    """A batch in parts of at most about 4 MiB of text, or of one row."""
    ends = np.cumsum(_sizes(batch, wanted))
    start = done = 0
    while start < batch.num_rows:
        stop = max(start + 1, int(np.searchsorted(ends, done + PIECE_BYTES, side="right")))
        yield batch.slice(start, stop - start)
        start, done = stop, int(ends[stop - 1])


def _sizes(batch: Any, wanted: Sequence[Wanted]) -> NDArray[np.int64]:
    """About how many bytes each row has."""
    import pyarrow as pa
    import pyarrow.compute as pc

    sizes = np.zeros(batch.num_rows, np.int64)
    for name in dict.fromkeys(field.path.root for field in wanted):
        column = batch.column(name) if name in batch.schema.names else None
        if column is None:
            continue
        if pa.types.is_string(column.type) or pa.types.is_large_string(column.type):
            sizes += pc.fill_null(pc.binary_length(column), 0).to_numpy(zero_copy_only=False).astype(np.int64)
        else:
            sizes += column.nbytes // max(1, batch.num_rows)
    return sizes


def _values(batch: Any, field: Wanted) -> tuple[list[Any], dict[int, Unusable]]:
    """A field's values, and what is wrong with those that cannot be used."""
    if field.optional and field.path.root not in batch.schema.names:
        return [None] * batch.num_rows, {}
    column, field = _inside(batch.column(field.path.root), field)
    if field.kind == "text" and not field.path.steps:
        texts = _texts(column)
        if texts is not None:
            return texts, {}
    return _each(column, field)


def _inside(column: Any, field: Wanted) -> tuple[Any, Wanted]:
    """Goes down into structs column by column, as far as the path names members of them."""
    import pyarrow as pa
    import pyarrow.compute as pc

    root, steps = field.path.root, list(field.path.steps)
    while steps and pa.types.is_struct(column.type) and column.type.get_field_index(str(steps[0])) >= 0:
        column = pc.struct_field(column, [str(steps[0])])
        root = f"{root}.{steps.pop(0)}"
    return column, replace(field, path=FieldPath(field.path.text, root, tuple(steps)))


def _texts(column: Any) -> list[str] | None:
    """All values, if all are texts."""
    import pyarrow as pa

    if pa.types.is_dictionary(column.type):
        column = column.dictionary_decode()
    if pa.types.is_string_view(column.type):
        column = column.cast(pa.large_string())
    if not (pa.types.is_string(column.type) or pa.types.is_large_string(column.type)) or column.null_count:
        return None
    try:
        column.validate(full=True)
    except pa.ArrowInvalid:
        return None
    texts: list[str] = column.to_numpy(zero_copy_only=False).tolist()
    return texts


def _each(column: Any, field: Wanted) -> tuple[list[Any], dict[int, Unusable]]:
    import pyarrow as pa

    plain = pa.types.is_string(column.type) or pa.types.is_large_string(column.type)
    values: list[Any] = []
    broken: dict[int, Unusable] = {}
    for row, cell in enumerate(column.cast(pa.large_binary()) if plain else column):
        try:
            values.append(field.value(_python_value(cell, plain=plain)))
        except Unusable as why:
            values.append(None)
            broken[row] = why
    return values, broken


def _python_value(cell: Any, *, plain: bool) -> Any:
    """A cell's value. Members that are null are left out: Arrow has no others for what is absent."""
    try:
        value = cell.as_py()
    except UnicodeDecodeError as error:
        mend = "mend the file, or leave such records out with --on-error skip"
        raise Unusable("holds bytes that are not valid UTF-8", mend) from error
    return text_of(value) if plain and value is not None else _without_nulls(value)


def _without_nulls(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_nulls(inner) for key, inner in value.items() if inner is not None}
    if isinstance(value, list):
        return [_without_nulls(inner) for inner in value]
    return value
