"""An Arrow file as ranges of rows: the format for files, and the one for streams that ``datasets`` writes."""

import bisect
import os
from collections.abc import Iterator, Sequence
from functools import lru_cache
from typing import Any

from asynckit.errors import InputError
from asynckit.tokenization.arrays import offsets_of
from asynckit.tokenization.inputs.access import named_faults
from asynckit.tokenization.inputs.access import opened as opened_bytes
from asynckit.tokenization.inputs.faults import is_damage
from asynckit.tokenization.inputs.names import is_url
from asynckit.tokenization.inputs.places import shown_name
from asynckit.tokenization.records import Source

_MAGIC = b"ARROW1"


def opened(source: Source) -> "ArrowFile":
    """The file of a source; the last one stays open.

    Raises:
        pyarrow.ArrowException, OSError: it is damaged.
        InputError: it cannot be read, or is a stream that would have to be held in memory.
    """
    # A process that was forked opens it anew: places in files, and connections, cannot be shared.
    return _opened_by(source, os.getpid())


@lru_cache(maxsize=1)
def _opened_by(source: Source, process: int) -> "ArrowFile":  # noqa: ARG001
    import pyarrow as pa

    if is_url(source.name):
        return ArrowFile(source, pa.PythonFile(opened_bytes(source), mode="r"), mapped=None)
    with named_faults(source.name):
        whole = pa.memory_map(source.name).read_buffer()
    return ArrowFile(source, pa.BufferReader(whole), mapped=whole)


class ArrowFile:
    """Record batches by their rows.

    Attributes:
        columns: names of the top columns.
        rows: how many rows there are.
        damage: what keeps the rows after these from being read, if anything.
    """

    def __init__(self, source: Source, file: Any, mapped: Any) -> None:
        import pyarrow as pa

        self._mapped = mapped
        self.damage: Exception | None = None
        if file.read_at(len(_MAGIC), 0) == _MAGIC:
            reader = pa.ipc.open_file(file)
            self._batch = reader.get_batch
            counts = [reader.get_batch(index).num_rows for index in range(reader.num_record_batches)]
        else:
            file.seek(0)
            reader = pa.ipc.open_stream(file)
            held: list[Any] = []
            try:
                held.extend(self._checked(source, batch) for batch in reader)
            except (pa.ArrowException, OSError) as error:
                if not is_damage(error):
                    raise
                self.damage = error
            self._batch = held.__getitem__
            counts = [batch.num_rows for batch in held]
        self.columns: list[str] = list(map(str, reader.schema.names))
        self._firsts: list[int] = offsets_of(counts).tolist()
        self.rows = self._firsts[-1]

    def batches(self, start: int, end: int, columns: Sequence[str]) -> Iterator[Any]:
        """Record batches of the rows ``[start, end)``, in order."""
        index = bisect.bisect_right(self._firsts, start) - 1
        while start < end:
            first, stop = self._firsts[index], min(end, self._firsts[index + 1])
            if start < stop:
                yield self._batch(index).select(list(columns)).slice(start - first, stop - start)
                start = stop
            index += 1

    def _checked(self, source: Source, batch: Any) -> Any:
        """A batch of a stream, all of which are kept: that costs nothing only where they are mapped."""
        if self._mapped is None or not self._is_mapped(batch):
            raise InputError(
                "a compressed or remote Arrow stream would be held in memory whole",
                where=shown_name(source),
                mend="copy it here, and write it without compression, or as Parquet",
            )
        return batch

    def _is_mapped(self, batch: Any) -> bool:
        first, size = self._mapped.address, self._mapped.size
        held = [buffer for column in batch.columns for buffer in column.buffers() if buffer and buffer.size]
        return all(first <= buffer.address < first + size for buffer in held)
