"""What the first bytes of a source tell: how it is compressed, and the columns of CSV."""

import csv
from dataclasses import replace

from asynckit.errors import InputError
from asynckit.tokenization.inputs.access import beginning_of, faults_named
from asynckit.tokenization.inputs.csv_lines import ends_of_csv_records, rows_of_csv
from asynckit.tokenization.inputs.decompression import chunks_of, compression_by_signature
from asynckit.tokenization.inputs.faults import BrokenSource, Unusable
from asynckit.tokenization.inputs.names import STANDARD_INPUT, delimiter_of, is_url
from asynckit.tokenization.inputs.pieces import BYTE_ORDER_MARK
from asynckit.tokenization.inputs.places import shown_name
from asynckit.tokenization.inputs.utf8 import text_of
from asynckit.tokenization.records import Source

_LONGEST_HEADER = 1 << 20
_MEND = "the first row has to name the columns"


def with_beginning(source: Source) -> Source:
    """The source with the compression of standard input, and the columns of CSV, filled in.

    Raises:
        InputError: it is compressed though its name does not say so, or its first row names no columns.
    """
    if not source.compression and not is_url(source.name):
        source = _with_signature(source)
    return replace(source, columns=_columns_of(source)) if source.format == "csv" else source


def _with_signature(source: Source) -> Source:
    with beginning_of(source) as file, faults_named(source.name):
        compression = compression_by_signature(file.read(6))
    if compression and source.name != STANDARD_INPUT:
        mend = f"give it a name that says so, such as {source.name}{_ENDINGS[compression]}"
        raise InputError(f"holds {compression} data", where=source.name, mend=mend)
    return replace(source, compression=compression)


_ENDINGS = {"gzip": ".gz", "zstd": ".zst", "bz2": ".bz2", "xz": ".xz"}


def _columns_of(source: Source) -> tuple[str, ...]:
    delimiter = delimiter_of(source.name)
    try:
        with faults_named(source.name):
            return _names(_first_row(source, delimiter), delimiter)
    except Unusable as fault:
        where = shown_name(source)
        raise BrokenSource.at(0, fault.reason, where=where, mend=fault.mend) from fault


def _first_row(source: Source, delimiter: str) -> bytes:
    """Bytes from the source's beginning on that hold its first row."""
    data = b""
    with beginning_of(source) as file:
        for chunk in chunks_of(file, source.compression):
            data += chunk
            if len(ends_of_csv_records(data, delimiter)):
                break
            if len(data) > _LONGEST_HEADER:
                raise Unusable("the first row is longer than 1 MiB", _MEND)
    return data.removeprefix(BYTE_ORDER_MARK)


def _names(data: bytes, delimiter: str) -> tuple[str, ...]:
    if not data:
        return ()
    ends = ends_of_csv_records(data, delimiter)
    header = data[: ends[0]] if len(ends) else data
    text_of(header)
    row, _ = next(rows_of_csv(header, delimiter))
    if isinstance(row, csv.Error):
        raise Unusable(f"the first row is not valid CSV: {row}", _MEND)
    if not row:
        raise Unusable("the first row is empty", _MEND)
    return tuple(row)
