"""Whether a shard's own account of its sequences and documents is that of its provenance."""

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from asynckit.tokenization.afterwards.shard_checks import length_problems
from asynckit.tokenization.outputs.stored_shards import StoredShard, damaged

_Numbers = NDArray[np.int64]


def index_problems(shard: StoredShard) -> Iterator[str]:
    """Go through a shard's index.

    Raises:
        InputError: a file can't be read.
    """
    manifest, record = shard.manifest, shard.record
    lengths = shard.lengths()
    yield from length_problems(lengths, record.tokens, record.sequences, manifest.pack_length)
    documents, firsts, tokens = _spans(shard)
    if manifest.pack_length is None and not np.array_equal(lengths, tokens):
        yield "its sequences are not the documents of the provenance"
    if manifest.format in {"parquet", "arrow"}:
        if manifest.pack_length is None:
            if not np.array_equal(_column(shard, "doc_id"), documents):
                yield "its column doc_id is not that of the provenance"
        else:
            filled = tokens > 0
            yield from _row_problems(
                shard, documents[filled], firsts[filled] // manifest.pack_length, tokens[filled]
            )
    elif manifest.format == "npy" and manifest.pack_length is not None:
        segments = np.stack([firsts, tokens], axis=1)[tokens > 0]
        if not np.array_equal(np.load(shard.path(".segments.npy")), segments):
            yield "its segments are not those of the provenance"


def _spans(shard: StoredShard) -> tuple[_Numbers, _Numbers, _Numbers]:
    """Documents, first tokens and numbers of tokens of all rows of the provenance."""
    groups = list(shard.provenance.groups())
    nothing = [np.empty(0, np.int64)]
    return (
        np.concatenate(nothing + [group.documents for group in groups]),
        np.concatenate(nothing + [group.firsts for group in groups]),
        np.concatenate(nothing + [group.tokens for group in groups]),
    )


def _row_problems(shard: StoredShard, documents: _Numbers, rows: _Numbers, tokens: _Numbers) -> Iterator[str]:
    """Compare the documents of packed rows: which, in which row, and how many tokens of each."""
    for name, expected in (("doc_id", documents), ("seq_lengths", tokens)):
        column = _column(shard, name)
        counts = column.value_lengths().to_numpy()
        if not np.array_equal(column.flatten().to_numpy(), expected):
            yield f"its column {name} is not that of the provenance"
        elif not np.array_equal(np.repeat(np.arange(len(counts)), counts), rows):
            yield f"its column {name} has documents in other rows than the provenance"


def _column(shard: StoredShard, name: str) -> Any:
    """A column of a table, all of it."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    from asynckit.tokenization.outputs.provenance import FAULTS

    path = shard.path(f".{shard.manifest.format}")
    try:
        if shard.manifest.format == "parquet":
            chunks = pq.ParquetFile(path).read(columns=[name]).column(0)
        else:
            with pa.memory_map(str(path)) as file, pa.ipc.open_stream(file) as reader:
                chunks = reader.read_all().column(name)
        return chunks.combine_chunks()
    except FAULTS as error:
        raise damaged(path, error) from error
