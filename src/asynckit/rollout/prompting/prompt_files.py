"""Rows of JSON Lines, JSON, Parquet and CSV files, each with the place it came from.

Every reader yields ``(row, where)``; ``where`` is ``file:line`` in text files, and ``file:row 3`` or
``file:item 3`` where a file has no lines.
"""

import csv
import io
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Never

from asynckit.errors import InputError
from asynckit.near_miss import did_you_mean

EXAMPLE = '{"prompt": "What is 2 + 3?", "answer": "5"}'
Rows = Iterator[tuple[Any, str]]


def read_rows(path: Path) -> Rows:
    """Yield every row of a file, by the reader that its extension names.

    Raises:
        InputError: there is no such file, no reader for it, or a row that the reader cannot decode.
    """
    reader = READERS.get(path.suffix.lower())
    try:
        if reader is None or not path.is_file():
            _refuse(path, known_extension=reader is not None)
        yield from reader(path)
    except OSError as error:
        raise InputError(f"cannot be read: {error.strerror or error}", where=str(path)) from error


def kind(value: Any) -> str:
    """What a JSON value is, in words."""
    if isinstance(value, float) and value - value != 0:
        return str(value)  # nan, inf, -inf
    names = {
        bool: "a boolean",
        str: "text",
        int: "a number",
        float: "a number",
        list: "a list",
        dict: "an object",
    }
    return "null" if value is None else names.get(type(value), type(value).__name__)


def _refuse(path: Path, *, known_extension: bool) -> Never:
    where = str(path)
    if path.is_dir():
        raise InputError("is a folder, not a file of prompts", where=where, mend="name one file in it")
    if path.exists() and not known_extension:
        mend = f"use one of {', '.join(READERS)}, or reasoning_gym:TASK"
        raise InputError(f"no reader for files that end in {path.suffix!r}", where=where, mend=mend)
    if path.exists():
        raise InputError("is not a regular file", where=where, mend="copy it into a file first")
    if not path.parent.is_dir():
        raise InputError(
            f"no such folder: {path.parent}", where=where, mend="check prompts.source (--prompts)"
        )
    near = did_you_mean(path.name, (entry.name for entry in path.parent.iterdir()))
    mend = near or f"name a file ({', '.join(READERS)}) or a task such as reasoning_gym:chain_sum"
    raise InputError("no such file", where=where, mend=mend)


def _text_of(path: Path) -> str:
    data = path.read_bytes().removeprefix(b"\xef\xbb\xbf")  # the byte-order mark of Windows editors
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        column = error.start - data.rfind(b"\n", 0, error.start)
        where = f"{path}:{line}:{column}"
        message = f"byte 0x{data[error.start]:02x} is not valid UTF-8"
        raise InputError(message, where=where, mend="save the file as UTF-8") from None


def _json_lines(path: Path) -> Rows:
    # Only \n ends a line: JSON strings may hold the other characters that str.splitlines would cut at.
    for number, line in enumerate(_text_of(path).split("\n"), start=1):
        if line.strip():
            yield (
                _parse_json(line, path, number, f"write one object per line, such as {EXAMPLE}"),
                f"{path}:{number}",
            )


def _json_list(path: Path) -> Rows:
    mend = f"write [{EXAMPLE}, ...], or rename the file to .jsonl if every line is an object"
    text = _text_of(path)
    if not text.strip():
        return
    rows = _parse_json(text, path, 1, mend)
    if not isinstance(rows, list):
        raise InputError(f"expected a list of objects, found {kind(rows)}", where=f"{path}:1", mend=mend)
    yield from ((row, f"{path}:item {number}") for number, row in enumerate(rows, start=1))


def _parse_json(text: str, path: Path, first_line: int, mend: str) -> Any:
    try:
        return _DECODER.decode(text)
    except json.JSONDecodeError as error:
        where = f"{path}:{first_line + error.lineno - 1}:{error.colno}"
        raise InputError(f"not valid JSON: {error.msg}", where=where, mend=mend) from None
    except (ValueError, RecursionError) as error:
        raise InputError(f"not valid JSON: {error}", where=f"{path}:{first_line}", mend=mend) from None


def _refuse_constant(word: str) -> Never:
    raise ValueError(f"{word} is no JSON value")


_DECODER = json.JSONDecoder(parse_constant=_refuse_constant)  # made once: json.loads would make one per line


def _parquet(path: Path) -> Rows:
    import pyarrow as pa
    import pyarrow.parquet as pq

    number = 0
    try:
        with pq.ParquetFile(path) as file:
            for batch in file.iter_batches():
                for row in batch.to_pylist():
                    number += 1
                    yield row, f"{path}:row {number}"
    except pa.ArrowException as error:
        where = f"{path}:row {number + 1}" if number else str(path)
        raise InputError(
            f"not a readable Parquet file: {error}", where=where, mend="write it again"
        ) from None


def _csv(path: Path) -> Rows:
    reader = csv.DictReader(io.StringIO(_text_of(path), newline=""), strict=True)
    start = 1
    try:
        width = len(reader.fieldnames or [])
        start = reader.line_num + 1
        for row in reader:
            where = f"{path}:{start}"
            start = (
                reader.line_num + 1
            )  # quoted fields may span lines, so the next row starts after this one's last
            if None in row or None in row.values():  # how DictReader marks surplus and missing fields
                message = f"this row has another number of fields than the header, which has {width}"
                raise InputError(
                    message, where=where, mend="put fields with commas or line breaks in double quotes"
                )
            # CSV has no null: an empty field is a missing value, but an empty prompt is an empty prompt.
            yield {name: value if name == "prompt" else value or None for name, value in row.items()}, where
    except csv.Error as error:
        where = f"{path}:{start}"
        raise InputError(
            f"not valid CSV: {error}", where=where, mend="quote the field, or use JSON Lines"
        ) from None


READERS: dict[str, Callable[[Path], Rows]] = {
    ".jsonl": _json_lines,
    ".ndjson": _json_lines,
    ".json": _json_list,
    ".parquet": _parquet,
    ".csv": _csv,
}
