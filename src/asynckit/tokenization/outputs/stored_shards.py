"""Shards of every format, opened again: their tokens, loss masks and lengths as arrays."""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from tokenize import TokenError
from typing import Any

import numpy as np
from numpy.typing import NDArray

from asynckit.errors import InputError
from asynckit.tokenization.outputs.manifest import Manifest, ShardRecord
from asynckit.tokenization.outputs.megatron import DTYPE_CODES, INDEX_HEADER, INDEX_MAGIC
from asynckit.tokenization.outputs.provenance import ENDING, Provenance
from asynckit.tokenization.outputs.stored_arrays import StoredArray

_TABLES = ("parquet", "arrow")
_NPY_FAULTS = (OSError, ValueError, EOFError, SyntaxError, TokenError)  # the header is a Python literal


@dataclass(frozen=True)
class StoredShard:
    """A shard of an output folder; its files are opened when they are asked for.

    Attributes:
        folder: of the output.
        manifest: of the output.
        record: of this shard.
    """

    folder: Path
    manifest: Manifest
    record: ShardRecord

    @cached_property
    def tokens(self) -> StoredArray:
        """All ids, padding included, in the manifest's dtype ``[tokens]``.

        Raises:
            InputError: the file is missing, damaged, or of another size.
        """
        dtype = np.dtype(self.manifest.dtype)
        if self.manifest.format in _TABLES:
            return self._expected(self._column("input_ids"), self._table_path(), dtype)
        if self.manifest.format == "npy":
            return self._expected(self._flat(".npy"), self.path(".npy"), dtype)
        mapped = StoredArray.of(_mapped(self.path(".bin"), dtype))
        return self._expected(mapped, self.path(".bin"), dtype)

    @cached_property
    def loss_mask(self) -> StoredArray | None:
        """1 where a trainer learns, uint8 ``[tokens]``; None where the output has none.

        Raises:
            InputError: the file is missing, damaged, or of another size.
        """
        if not self.manifest.loss_mask:
            return None
        dtype = np.dtype(np.uint8)
        if self.manifest.format in _TABLES:
            return self._expected(self._column("loss_mask"), self._table_path(), dtype)
        return self._expected(self._flat(".loss_mask.npy"), self.path(".loss_mask.npy"), dtype)

    @cached_property
    def provenance(self) -> Provenance:
        """Where the tokens come from.

        Raises:
            InputError: the file is missing or damaged.
        """
        return Provenance(self.path(ENDING))

    def lengths(self) -> NDArray[np.int64]:
        """How many tokens each sequence has, as the shard's own index says ``[sequences]``.

        Raises:
            InputError: a file is missing or damaged, or the index contradicts itself or the manifest.
        """
        if self.manifest.format in _TABLES:
            from asynckit.tokenization.outputs.stored_tables import row_lengths

            return row_lengths(self._table_path())
        if self.manifest.format == "megatron":
            return _megatron_lengths(self.path(".idx"), self.record, np.dtype(self.manifest.dtype))
        if self.manifest.pack_length is not None:
            rows, length = _load(self.path(".npy"), dimensions=2).shape
            return np.full(rows, length, np.int64)
        offsets = _load(self.path(".offsets.npy"), dimensions=1)
        if len(offsets) == 0 or offsets[0] != 0 or offsets[-1] != self.record.tokens:
            raise damaged(self.path(".offsets.npy"), "the offsets do not span the tokens")
        return np.diff(offsets)

    def path(self, ending: str) -> Path:
        """Where one of its files is."""
        return self.folder / f"data-{self.record.number:05}{ending}"

    def _table_path(self) -> Path:
        return self.path(f".{self.manifest.format}")

    def _column(self, name: str) -> StoredArray:
        from asynckit.tokenization.outputs.stored_tables import open_column

        return open_column(self._table_path(), name)

    def _flat(self, ending: str) -> StoredArray:
        packed = self.manifest.pack_length is not None and self.manifest.format == "npy"
        return StoredArray.of(_load(self.path(ending), dimensions=1 + packed).reshape(-1))

    def _expected(self, array: StoredArray, path: Path, dtype: np.dtype[Any]) -> StoredArray:
        if array.dtype != dtype:
            raise damaged(path, f"it has numbers of {array.dtype} where the manifest says {dtype}")
        if len(array) != self.record.tokens:
            problem = f"it has {len(array)} numbers where the manifest counts {self.record.tokens} tokens"
            raise damaged(path, problem)
        return array


DAMAGED_MEND = "asynckit tokens verify lists what is damaged; restore these files, or tokenize again"


def damaged(path: Path, problem: object) -> InputError:
    """The error for a file that is not what it was."""
    return InputError(f"the file is damaged: {problem}", where=str(path), mend=DAMAGED_MEND)


def _load(path: Path, *, dimensions: int) -> NDArray[Any]:
    try:
        array = np.lib.format.open_memmap(path, mode="r")
    except _NPY_FAULTS as error:
        raise damaged(path, error) from error
    if array.ndim != dimensions:
        raise damaged(path, f"it has {array.ndim} dimensions instead of {dimensions}")
    return array


def _mapped(path: Path, dtype: np.dtype[Any]) -> NDArray[Any]:
    try:
        if path.stat().st_size == 0:  # which cannot be mapped
            return np.empty(0, dtype)
        return np.memmap(path, dtype, mode="r")
    except (OSError, ValueError) as error:
        raise damaged(path, error) from error


def _megatron_lengths(path: Path, record: ShardRecord, dtype: np.dtype[Any]) -> NDArray[np.int64]:
    index = _mapped(path, np.dtype(np.uint8))
    count = record.sequences
    if index[: INDEX_HEADER.size].tobytes() != INDEX_HEADER.pack(
        INDEX_MAGIC, 1, DTYPE_CODES[dtype], count, count + 1
    ):
        raise damaged(path, "its header is not that of an index of this shard")
    if len(index) != INDEX_HEADER.size + 12 * count + 8 * (count + 1):
        raise damaged(path, f"it has {len(index)} bytes, which are not {count} sequences")
    lengths = np.frombuffer(index, "<i4", count, INDEX_HEADER.size).astype(np.int64)
    pointers = np.frombuffer(index, "<i8", count, INDEX_HEADER.size + 4 * count)
    borders = np.frombuffer(index, "<i8", count + 1, INDEX_HEADER.size + 12 * count)
    if not np.array_equal(pointers, (np.cumsum(lengths) - lengths) * dtype.itemsize):
        raise damaged(path, "its pointers are not the sums of its lengths")
    if not np.array_equal(borders, np.arange(count + 1)):
        raise damaged(path, "its documents are not its sequences")
    return lengths
