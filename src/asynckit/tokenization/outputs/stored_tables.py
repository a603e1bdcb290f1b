"""Columns of lists in Parquet and Arrow files, as flat arrays."""

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from asynckit.tokenization.outputs.provenance import FAULTS
from asynckit.tokenization.outputs.stored_arrays import StoredArray
from asynckit.tokenization.outputs.stored_shards import damaged
from asynckit.tokenization.outputs.tables import ROW_GROUP_TOKENS


def open_column(path: Path, name: str) -> StoredArray:
    """A column of lists, flat: of Arrow it is mapped, of Parquet a row group is read at a time.

    Raises:
        InputError: the file is missing or damaged, now or when a row group is read.
    """
    return _parquet_column(path, name) if path.suffix == ".parquet" else _arrow_column(path, name)


def row_lengths(path: Path) -> NDArray[np.int64]:
    """How long the lists of ``input_ids`` are ``[rows]``.

    Raises:
        InputError: the file is missing or damaged.
    """
    if path.suffix == ".arrow":
        columns = _arrow_lists(path, "input_ids")
    else:
        file = _opened(path)
        groups = range(file.num_row_groups)
        columns = [each for group in groups for each in _row_group(file, group, "input_ids", path).chunks]
    lengths = [np.diff(column.offsets.to_numpy()) for column in columns]
    return np.concatenate([np.empty(0, np.int64), *lengths]).astype(np.int64)


def _arrow_column(path: Path, name: str) -> StoredArray:
    values = [_flat(column, path) for column in _arrow_lists(path, name)]
    dtype = np.dtype(np.int32 if name == "input_ids" else np.uint8)
    return StoredArray([len(each) for each in values], dtype, values.__getitem__)


def _arrow_lists(path: Path, name: str) -> list[Any]:
    try:
        with pa.memory_map(str(path)) as file, pa.ipc.open_stream(file) as reader:
            columns = [batch.column(name) for batch in reader]  # which keep the mapping
            for column in columns:
                column.validate(full=True)  # Arrow would end the process over offsets that lead outside
            return columns
    except FAULTS as error:
        raise damaged(path, error) from error


def _parquet_column(path: Path, name: str) -> StoredArray:
    file = _opened(path)
    try:
        lengths = [int(each) for each in file.metadata.metadata[ROW_GROUP_TOKENS].split(b",") if each]
    except (KeyError, TypeError, ValueError) as error:
        raise damaged(path, "it does not say how many tokens its row groups have") from error
    if len(lengths) != file.num_row_groups:
        raise damaged(path, "it has row groups that it does not count")

    def read(group: int) -> NDArray[Any]:
        chunks = [_flat(chunk, path) for chunk in _row_group(file, group, name, path).chunks]
        values = chunks[0] if len(chunks) == 1 else np.concatenate(chunks)
        if len(values) != lengths[group]:
            raise damaged(path, f"row group {group} has {len(values)} tokens instead of {lengths[group]}")
        return values

    return StoredArray(lengths, np.dtype(np.int32 if name == "input_ids" else np.uint8), read)


def _opened(path: Path) -> Any:
    try:
        return pq.ParquetFile(path, page_checksum_verification=True, memory_map=True)
    except FAULTS as error:
        raise damaged(path, error) from error


def _row_group(file: Any, group: int, name: str, path: Path) -> Any:
    try:
        return file.read_row_group(group, columns=[name]).column(0)
    except FAULTS as error:
        raise damaged(path, f"row group {group}: {error}") from error


def _flat(lists: Any, path: Path) -> NDArray[Any]:
    if lists.null_count or lists.values.null_count:
        raise damaged(path, "it has values that are missing")
    return lists.flatten().to_numpy()  # type: ignore[no-any-return]
