"""Recorded lengths of prompts and responses, to draw from.

A trace is a JSONL file with one ``{"prompt_tokens": 120, "response_tokens": 48}`` a line, or a run directory
whose trajectories say the same. Response lengths are drawn for a prompt length from the records nearest to
it, so that what hangs together in the recording still does: long prompts keep their long answers, and the
samples of one prompt still differ.
"""

import json
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from asynckit.errors import InputError

_NEIGHBOURS = 32  # records that a draw chooses from at least, where the trace has as many
_GENERATED = ("completed", "truncated")  # statuses of trajectories whose length the policy chose
_MEND = 'write {"prompt_tokens": 120, "response_tokens": 48}, both at least 1'


class Trace:
    """Pairs ``(prompt tokens, response tokens)``, at least one."""

    def __init__(self, pairs: Iterable[tuple[int, int]]) -> None:
        ordered = sorted(pairs)
        self._prompts = [prompt for prompt, _ in ordered]
        self._responses = [response for _, response in ordered]

    def response_tokens(self, prompt_tokens: int, u: float) -> int:
        """A recorded response length for a prompt of that length; ``u`` in [0, 1) chooses which."""
        low, high = self._nearest(prompt_tokens)
        return self._responses[low + int(u * (high - low))]

    def _nearest(self, prompt_tokens: int) -> tuple[int, int]:
        """The range of records within the distance of the 32nd nearest one."""
        prompts = self._prompts
        low = high = bisect_left(prompts, prompt_tokens)
        distance = 0
        while high - low < min(_NEIGHBOURS, len(prompts)):
            below = prompt_tokens - prompts[low - 1] if low else None
            above = prompts[high] - prompt_tokens if high < len(prompts) else None
            if above is None or (below is not None and below < above):
                low, distance = low - 1, max(distance, below or 0)
            else:
                high, distance = high + 1, max(distance, above)
        return bisect_left(prompts, prompt_tokens - distance), bisect_right(prompts, prompt_tokens + distance)


def read_trace(path: Path) -> Trace:
    """Read a JSONL file or the trajectories of a run directory.

    Raises:
        InputError: there is nothing to read, or a record is broken.
    """
    try:
        pairs = list(_run_pairs(path) if path.is_dir() else _jsonl_pairs(path))
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"the trace can't be read: {error}", where=str(path)) from error
    if not pairs:
        raise InputError("the trace has no finished responses", where=str(path))
    return Trace(pairs)


def _run_pairs(folder: Path) -> Iterator[tuple[int, int]]:
    parts = sorted((folder / "trajectories").glob("part-*"))
    if not parts:
        mend = "name a run directory or a JSONL file"
        raise InputError("the folder has no trajectories/part-* files", where=str(folder), mend=mend)
    for part in parts:
        yield from _parquet_pairs(part) if part.suffix == ".parquet" else _jsonl_pairs(part)


def _parquet_pairs(path: Path) -> Iterator[tuple[int, int]]:
    import pyarrow as pa
    import pyarrow.compute as pc
    import pyarrow.parquet as pq

    try:
        table = pq.read_table(path, columns=["status", "prompt_ids", "response_ids"])
        columns = [table["status"], *(pc.list_value_length(table[c]) for c in ("prompt_ids", "response_ids"))]
    except (pa.ArrowException, KeyError) as error:
        raise InputError(f"not a file of trajectories: {error}", where=str(path)) from error
    for row, (status, prompt, response) in enumerate(zip(*(c.to_pylist() for c in columns), strict=True), 1):
        yield from _pair(status, prompt, response, f"{path}:row {row}")


def _jsonl_pairs(path: Path) -> Iterator[tuple[int, int]]:
    with path.open(encoding="utf-8") as lines:
        for number, line in enumerate(lines, 1):
            if line.strip():
                yield from _line_pair(line, f"{path}:{number}")


def _line_pair(line: str, where: str) -> Iterator[tuple[int, int]]:
    """The pair of a line, which is a trace's or a trajectory's; nothing for a sample that did not finish."""
    try:
        record = json.loads(line)
        if "prompt_ids" in record:
            counts = len(record["prompt_ids"]), len(record["response_ids"])
            return _pair(record["status"], *counts, where)
        return _pair("", record["prompt_tokens"], record["response_tokens"], where)
    except (KeyError, TypeError, ValueError) as error:
        reason = f"there is no {error}" if isinstance(error, KeyError) else str(error)
        raise InputError(f"not a record of lengths: {reason}", where=where, mend=_MEND) from error


def _pair(status: str, prompt: Any, response: Any, where: str) -> Iterator[tuple[int, int]]:
    if status and status not in _GENERATED:
        return iter(())
    if not all(type(count) is int and count >= 1 for count in (prompt, response)):
        raise InputError(f"{prompt!r} and {response!r} are no token counts", where=where, mend=_MEND)
    # A truncated response would have gone on: one token more makes the same limit truncate it again.
    return iter([(prompt, response + (status == "truncated"))])
