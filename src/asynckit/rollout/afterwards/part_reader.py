"""Trajectory files as batches of columns, with what cannot be read noted instead of raised."""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from asynckit.errors import InputError
from asynckit.rollout.afterwards.audit_report import Check
from asynckit.rollout.afterwards.columns import as_batch
from asynckit.rollout.record import SCHEMA, Trajectory, arrow_schema, from_json

_ROWS = 1024


@dataclass(frozen=True)
class Batch:
    """Some records as columns.

    Attributes:
        columns: an Arrow batch with the schema of :func:`asynckit.rollout.record.arrow_schema`.
        places: where each row is, for a person.
    """

    columns: Any
    places: list[str]


def read_batches(path: Path, name: str, files: Check) -> Iterator[Batch]:
    """Yield what can be read of a part, a batch at a time.

    Args:
        path: the part.
        name: how places in it are named.
        files: takes note of what cannot be read.
    """
    read = _parquet if path.suffix == ".parquet" else _json_lines
    try:
        yield from read(path, name, files)
    except (pa.ArrowException, OSError) as error:
        files.finds(name, "", f"cannot be read: {str(error).splitlines()[0]}")


def _parquet(path: Path, name: str, files: Check) -> Iterator[Batch]:
    with pq.ParquetFile(path, page_checksum_verification=True) as file:
        found = file.schema_arrow
        schema = (found.metadata or {}).get(b"asynckit.schema", b"").decode(errors="replace")
        if schema != SCHEMA:
            files.finds(name, "", f"the schema is {schema or 'missing'}, not {SCHEMA}")
            return
        if not found.equals(arrow_schema()):
            files.finds(name, "", f"the columns are not those of {SCHEMA}: {_odd_columns(found)}")
            return
        begin = 1
        for columns in file.iter_batches(batch_size=_ROWS):
            columns.validate(full=True)
            rows = range(begin, begin + len(columns))
            begin += len(columns)
            yield Batch(columns, [f"{name}:row {row}" for row in rows])


def _odd_columns(found: Any) -> str:
    expected = {field.name: field.type for field in arrow_schema()}
    given = {field.name: field.type for field in found}
    odd = [each for each in {**expected, **given} if expected.get(each) != given.get(each)]
    return ", ".join(odd) or "their order differs"


def _json_lines(path: Path, name: str, files: Check) -> Iterator[Batch]:
    with path.open("rb") as file:
        numbered = enumerate(file, start=1)
        while lines := list(islice(numbered, _ROWS)):
            good: list[tuple[str, Trajectory]] = []
            for number, line in lines:
                where = f"{name}:{number}"
                if not line.endswith(b"\n"):
                    files.finds(where, "", "the last line is cut off")
                    continue
                try:
                    good.append((where, from_json(line.decode(), where=where)))
                except UnicodeDecodeError as error:
                    files.finds(where, "", f"not UTF-8: {error}")
                except InputError as error:
                    files.finds(where, "", error.message)
            yield from in_columns(good, files)


def in_columns(found: list[tuple[str, Trajectory]], files: Check) -> Iterator[Batch]:
    """Trajectories and their places as one batch; those with a value of a wrong type are noted."""
    try:
        if found:
            yield Batch(as_batch([each for _, each in found]), [where for where, _ in found])
    except (pa.ArrowException, TypeError, ValueError, OverflowError, AttributeError) as error:
        if len(found) == 1:
            where, trajectory = found[0]
            files.finds(where, str(trajectory.uid), f"a value is of another type than its field: {error}")
            return
        half = len(found) // 2
        yield from in_columns(found[:half], files)
        yield from in_columns(found[half:], files)
