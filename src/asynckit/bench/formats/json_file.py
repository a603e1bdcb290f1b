"""The report as JSON: what ``--json`` prints, what is kept, and what later runs are compared with."""

import math
from collections import Counter
from pathlib import Path
from typing import Any

import msgspec

from asynckit.bench.results import SCHEMA, Ceilings, Report, Row, Timing
from asynckit.errors import InputError, WorkFailed
from asynckit.readable import quiet_json

_LARGEST = 256 * 2**20  # bytes; 2,000 samples for each of some thousand rows
_DEEPEST, _HUGE = 20, 10**100  # nothing measured comes near
_UNLIKELY = "nesting or a number beyond all bounds"
_MEND = "name a file that asynckit bench-cuda wrote with --out"


class _Head(msgspec.Struct):
    schema: Any = None


def to_json(report: Report) -> str:
    """The document, indented; :func:`from_json` gives the same report again.

    Raises:
        WorkFailed: a number in it is not finite, which JSON cannot say.
    """
    text = msgspec.json.encode(report)
    try:
        _decoded(text)
    except msgspec.ValidationError as error:
        raise WorkFailed(f"a number that is not finite cannot be written as JSON: {error}") from error
    return quiet_json(msgspec.json.format(text, indent=2).decode()) + "\n"


def load_report(path: Path) -> Report:
    """A report that was written before, here or on another machine.

    Raises:
        InputError: it cannot be read, is no report, has another schema, or is damaged; says where.
    """
    try:
        with path.open("rb") as file:
            text = file.read(_LARGEST + 1)
    except OSError as error:
        raise InputError(f"cannot be read: {error.strerror}", where=str(path), mend=_MEND) from error
    if len(text) > _LARGEST:
        raise InputError(f"is larger than {_LARGEST >> 20} MiB: no report", where=str(path), mend=_MEND)
    return from_json(text, where=str(path))


def from_json(text: bytes, where: str = "") -> Report:
    """A report from its JSON; ``where`` is what errors name.

    Raises:
        InputError: as :func:`load_report`.
    """
    try:
        head = msgspec.json.decode(text, type=_Head)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise InputError(f"is no report: {error}", where=where, mend=_MEND) from error
    if head.schema != SCHEMA:
        raise InputError(
            f"has the schema {head.schema!r} where {SCHEMA!r} is read", where=where, mend=_mend_schema(head)
        )
    try:
        report = _decoded(text)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise InputError(f"is damaged: {error}", where=where, mend=_MEND) from error
    wrong = next(iter(_wrong(report)), None)
    if wrong:
        raise InputError(f"is damaged: {wrong}", where=where, mend=_MEND)
    return report


def _decoded(text: bytes) -> Report:
    return msgspec.json.decode(text, type=Report)


def _mend_schema(head: _Head) -> str:
    ours = isinstance(head.schema, str) and head.schema.startswith("asynckit.bench/")
    return "measure again, or read it with the version that wrote it" if ours else _MEND


def _wrong(report: Report) -> list[str]:
    """What no run writes, although its types are right."""
    found = [
        f"{words} - at `$.rows[{at}]`"
        for at, row in enumerate(report.rows)
        for words in (_wrong_row(row), *([] if row.timing is None else _wrong_timing(row.timing)))
        if words
    ]
    for name, value in (("environment", report.environment), ("settings", report.settings)):
        if not _is_plain(value):
            found.append(f"{_UNLIKELY} - at `$.{name}`")
    keys = Counter(row.key for row in report.rows)
    found += [f"the row {key!r} is there {count} times" for key, count in keys.items() if count > 1]
    return found + _wrong_ceilings(report.ceilings)


def _wrong_row(row: Row) -> str:
    if row.timing is None and not row.reason:
        return "neither a timing nor a reason"
    counted = (row.flops, row.bytes, row.tokens, row.peak_memory_bytes)
    if any(each is not None and not 0 <= each < _HUGE for each in counted):
        return "a count below 0 or beyond all bounds"
    return "" if _is_plain(row.parameters) else _UNLIKELY


def _wrong_timing(timing: Timing) -> list[str]:
    found = []
    if not timing.minimum <= timing.p5 <= timing.median <= timing.p95:
        found.append("minimum, p5, median and p95 do not rise")
    if not 0 <= timing.low <= timing.median <= timing.high:
        found.append("the median is outside of its interval")
    if not (1 <= timing.repetitions < _HUGE and 1 <= timing.calls < _HUGE and 0 <= timing.warmup < _HUGE):
        found.append("no repetitions, or too many")
    if any(each < 0 for each in (timing.minimum, timing.relative_error, timing.outliers, *timing.samples)):
        found.append("a time below 0")
    return found


def _is_plain(value: Any, depth: int = 0) -> bool:
    """Whether a free field can be shown: not nested without end, no numbers of hundreds of digits."""
    if isinstance(value, (dict, list)):
        inner = value.values() if isinstance(value, dict) else value
        return depth < _DEEPEST and all(_is_plain(each, depth + 1) for each in inner)
    return not isinstance(value, (int, float)) or abs(value) < _HUGE


def _wrong_ceilings(ceilings: Ceilings) -> list[str]:
    rates = [*ceilings.flops_per_second.values(), ceilings.bytes_per_second]
    bad = any(rate is not None and not 0 < rate < math.inf for rate in rates)
    return ["a rate of 0 or less - at `$.ceilings`"] if bad else []
