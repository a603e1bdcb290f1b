"""Where the tokens of a shard come from: one row per unbroken stretch of a document.

========== ======================= ==========================================================
doc_id     int64                   number of the document in the whole output
source     dictionary of strings   name of the input
start, end int64                   bytes of the decompressed input; rows of Parquet and Arrow
first_token int64                  position in the shard, padding included
tokens     int64                   how many there are
========== ======================= ==========================================================

Rows are in the order of ``first_token``, in one row group per part; the pieces of a document are in order,
and all in one row group. Tokens that no row has are padding.
"""

from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from asynckit.errors import InputError
from asynckit.tokenization.outputs.hashed_files import hashed_file
from asynckit.tokenization.outputs.parts import Part

if TYPE_CHECKING:
    from asynckit.tokenization.outputs.shards import Assembly

ENDING = ".provenance.parquet"
# What pyarrow raises for files whose bytes are damaged where no checksum is: names that are no text, columns
# and statistics that are not there.
FAULTS = (pa.ArrowException, OSError, AttributeError, LookupError, TypeError, ValueError)
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


@dataclass(frozen=True, slots=True)
class Stretches:
    """Rows of the provenance, as columns ``[rows]``; see the module."""

    documents: NDArray[np.int64]
    sources: list[str]
    source_indices: NDArray[np.int32]
    starts: NDArray[np.int64]
    ends: NDArray[np.int64]
    firsts: NDArray[np.int64]
    tokens: NDArray[np.int64]

    def source(self, row: int) -> str:
        """Name of a row's input; ``source_indices`` point into ``sources``, the names of these rows."""
        return self.sources[int(self.source_indices[row])]


class Provenance:
    """The provenance of a shard; row groups are read when they are asked for, and the last one is kept."""

    def __init__(self, path: Path) -> None:
        """Read the footer.

        Raises:
            InputError: the file is missing or damaged.
        """
        self._path = path
        try:
            self._file = pq.ParquetFile(path, page_checksum_verification=True)
            groups = [self._file.metadata.row_group(each) for each in range(self._file.num_row_groups)]
            self._first_documents = [int(group.column(0).statistics.min) for group in groups]
            self._first_tokens = [int(group.column(4).statistics.min) for group in groups]
        except FAULTS as error:
            raise self._damaged(error) from error
        self._last: tuple[int, Stretches] | None = None

    def __len__(self) -> int:
        return int(self._file.metadata.num_rows)

    def groups(self) -> Iterator[Stretches]:
        """Yield all rows, a row group at a time.

        Raises:
            InputError: the file is damaged.
        """
        for number in range(self._file.num_row_groups):
            yield self._group(number)

    def at_token(self, token: int) -> tuple[Stretches, int] | None:
        """The row of a token of the shard, and the rows around it; None where it is padding.

        Raises:
            InputError: the file is damaged.
        """
        number = bisect_right(self._first_tokens, token) - 1
        if number < 0:
            return None
        stretches = self._group(number)
        filled = np.flatnonzero(stretches.tokens)
        place = int(np.searchsorted(stretches.firsts[filled], token, side="right")) - 1
        if place < 0:
            return None
        row = int(filled[place])
        return (stretches, row) if token < stretches.firsts[row] + stretches.tokens[row] else None

    def of_document(self, document: int) -> tuple[Stretches, NDArray[np.int64]] | None:
        """The rows of a document in order, and the rows around them; None where it has none here.

        Raises:
            InputError: the file is damaged.
        """
        number = bisect_right(self._first_documents, document) - 1
        if number < 0:
            return None
        stretches = self._group(number)
        return stretches, np.flatnonzero(stretches.documents == document)

    def _group(self, number: int) -> Stretches:
        if self._last is None or self._last[0] != number:
            self._last = (number, self._read(number))
        return self._last[1]

    def _read(self, number: int) -> Stretches:
        try:
            batch = self._file.read_row_group(number).combine_chunks()
            if batch.schema == SCHEMA:
                return _stretches(batch)
        except FAULTS as error:
            raise self._damaged(error) from error
        raise self._damaged("its columns are not those of provenance")

    def _damaged(self, problem: object) -> InputError:
        mend = "asynckit tokens verify lists what is damaged; restore these files, or tokenize again"
        return InputError(f"the file is damaged: {problem}", where=str(self._path), mend=mend)


def _stretches(batch: Any) -> Stretches:
    names = batch.column("source").chunk(0)
    column = {name: batch.column(name).to_numpy() for name in SCHEMA.names if name != "source"}
    return Stretches(
        documents=column["doc_id"],
        sources=names.dictionary.to_pylist(),
        source_indices=names.indices.to_numpy(),
        starts=column["start"],
        ends=column["end"],
        firsts=column["first_token"],
        tokens=column["tokens"],
    )
