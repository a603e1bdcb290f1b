"""Where the tokens of a shard come from: one row per unbroken stretch of a document.

========== ======================= ==========================================================
doc_id     int64                   number of the document in the whole output
source     dictionary of strings   name of the input
start, end int64                   bytes of the decompressed input; rows of Parquet and Arrow
first_token int64                  position in the shard, padding included
tokens     int64                   how many there are
========== ======================= ==========================================================

Rows are in the order of ``first_token``, in one row group per part. Tokens that no row has are padding.
"""

from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from asynckit.tokenization.outputs.hashed_files import hashed_file
from asynckit.tokenization.outputs.parts import Part

if TYPE_CHECKING:
    from asynckit.tokenization.outputs.shards import Assembly

ENDING = ".provenance.parquet"
SCHEMA = pa.schema(
    [
        ("doc_id", pa.int64()),
        ("source", pa.dictionary(pa.int32(), pa.string())),
        ("start", pa.int64()),
        ("end", pa.int64()),
        ("first_token", pa.int64()),
        ("tokens", pa.int64()),
    ]
)


def write_provenance(assembly: "Assembly") -> None:
    """Write ``.provenance.parquet``.

    Raises:
        DamagedPart: a part is missing.
        WorkFailed: the disk refuses.
    """
    numbers = ["doc_id", "start", "end", "first_token", "tokens"]
    options = {
        "compression": "zstd",
        "compression_level": 1,
        "use_dictionary": ["source"],
        "column_encoding": dict.fromkeys(numbers, "DELTA_BINARY_PACKED"),
        "write_page_checksum": True,
    }
    with (
        hashed_file(assembly.file(ENDING), assembly.files) as file,
        pq.ParquetWriter(pa.PythonFile(file, mode="w"), SCHEMA, **options) as writer,
    ):
        for part, first_document, first_token in assembly.each():
            if len(part.span_documents):
                source = assembly.settings.sources[part.header.source]
                table = _table(part, first_document, first_token, source)
                writer.write_table(table, row_group_size=len(table))


def _table(part: Part, first_document: int, first_token: int, source: str) -> Any:
    documents = part.span_documents
    sources = pa.DictionaryArray.from_arrays(np.zeros(len(documents), np.int32), pa.array([source]))
    columns = [
        first_document + documents,
        sources,
        part.starts[documents],
        part.ends[documents],
        first_token + part.span_firsts,
        part.span_tokens,
    ]
    return pa.table(columns, schema=SCHEMA)
