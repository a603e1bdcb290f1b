"""Shards as Parquet files and Arrow streams, one row group or batch per part.

Without packing a row is a document: ``input_ids``, ``loss_mask`` where there is one, ``doc_id``. Packed, a
row is a sequence: ``doc_id`` and ``seq_lengths`` are lists of the documents in it and of how many tokens each
has there; what they leave of ``input_ids`` is padding.
"""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from asynckit.errors import WorkFailed
from asynckit.tokenization.arrays import offsets_of
from asynckit.tokenization.outputs.hashed_files import HashedFile, hashed_file
from asynckit.tokenization.outputs.numpy_files import mask_of
from asynckit.tokenization.outputs.parts import Part

if TYPE_CHECKING:
    from asynckit.tokenization.outputs.shards import Assembly


ROW_GROUP_TOKENS = b"asynckit.row_group_tokens"
"""Metadata of a Parquet file: how many tokens each row group has, with commas between."""


def write_table(assembly: "Assembly") -> None:
    """Write ``.parquet`` or ``.arrow``.

    Raises:
        DamagedPart: a part is missing or torn.
        WorkFailed: the disk refuses, or a unit has 2^31 tokens or more.
    """
    name = assembly.settings.format
    with hashed_file(assembly.file(f".{name}"), assembly.files) as file:
        (_write_parquet if name == "parquet" else _write_arrow)(assembly, file)


def schema(*, packed: bool, loss_mask: bool) -> Any:
    """The columns."""
    mask = [("loss_mask", pa.list_(pa.uint8()))] if loss_mask else []
    documents = (
        [("doc_id", pa.list_(pa.int64())), ("seq_lengths", pa.list_(pa.int32()))]
        if packed
        else [("doc_id", pa.int64())]
    )
    return pa.schema([("input_ids", pa.list_(pa.int32())), *mask, *documents])


def _write_arrow(assembly: "Assembly", file: HashedFile) -> None:
    """Write the stream format, not compressed: what ``datasets`` maps into memory."""
    with pa.ipc.new_stream(pa.PythonFile(file, mode="w"), _schema(assembly)) as writer:
        for batch in _batches(assembly):
            writer.write_batch(batch)


def _write_parquet(assembly: "Assembly", file: HashedFile) -> None:
    columns = _schema(assembly)
    # The bytes of ids are split by place, which halves the time and takes a quarter off the size. Statistics
    # of ids say nothing.
    options = {
        "compression": "zstd",
        "compression_level": 1,
        "use_dictionary": False,
        "column_encoding": {"input_ids.list.element": "BYTE_STREAM_SPLIT"},
        "write_statistics": ["doc_id"],
        "write_page_checksum": True,
    }
    with pq.ParquetWriter(pa.PythonFile(file, mode="w"), columns, **options) as writer:
        tokens = []
        for batch in _batches(assembly):
            writer.write_table(pa.Table.from_batches([batch]), row_group_size=max(1, len(batch)))
            tokens.append(len(batch.column(0).values))
        writer.add_key_value_metadata({ROW_GROUP_TOKENS: ",".join(map(str, tokens))})


def _schema(assembly: "Assembly") -> Any:
    settings = assembly.settings
    return schema(packed=settings.pack_length is not None, loss_mask=settings.loss_mask)


def _batches(assembly: "Assembly") -> Iterator[Any]:
    """One Arrow batch per part that has sequences."""
    columns = _schema(assembly)
    for part, first_document, _ in assembly.each(check=True):
        if len(part.lengths):
            yield pa.record_batch(_columns(part, first_document, assembly), schema=columns)


def _columns(part: Part, first_document: int, assembly: "Assembly") -> list[Any]:
    offsets = _offsets(part.lengths)
    columns = [_lists(offsets, part.tokens)]
    if assembly.settings.loss_mask:
        columns.append(_lists(offsets, mask_of(part)))
    if assembly.settings.pack_length is None:
        assert len(part.lengths) == len(part.starts), "without packing, a sequence is a document"
        return [*columns, pa.array(first_document + np.arange(len(part.starts)))]
    filled = part.span_tokens > 0
    segments = np.searchsorted(part.span_firsts[filled], offsets).astype(np.int32)
    documents = first_document + part.span_documents[filled]
    return [
        *columns,
        _lists(segments, documents),
        _lists(segments, part.span_tokens[filled].astype(np.int32)),
    ]


def _offsets(lengths: NDArray[np.int64]) -> NDArray[np.int32]:
    total = int(lengths.sum())
    if total > np.iinfo(np.int32).max:
        mend = "set tokenization.max_length, or write --format npy"
        raise WorkFailed(f"a unit has {total} tokens, more than a list of Arrow can hold", mend=mend)
    return offsets_of(lengths).astype(np.int32)


def _lists(offsets: NDArray[np.int32], values: NDArray[Any]) -> Any:
    return pa.ListArray.from_arrays(pa.array(offsets), pa.array(values))
