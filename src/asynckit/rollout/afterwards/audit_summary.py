"""Whether a summary tells what the records do."""

import math
from collections.abc import Iterator, Mapping
from typing import Any

from asynckit.rollout.summary import Tally, percentile


def differences(summary: Mapping[str, Any], tally: Tally, submitted: int, files: list[str]) -> Iterator[str]:
    """Every number of ``summary.json`` that the records contradict.

    Args:
        summary: the file's content.
        tally: of all records.
        submitted: groups in the ledger.
        files: the trajectory files, relative to the run.
    """
    ended = dict(tally.groups)
    ended["cancelled"] = submitted - sum(n for name, n in ended.items() if name != "cancelled")
    expected = {
        "submitted": submitted,
        "groups": ended,
        "samples": dict(tally.samples),
        "response_tokens": tally.tokens,
        "response_length_p50": percentile(tally.lengths, 0.5),
        "response_length_p95": percentile(tally.lengths, 0.95),
        "mean_reward": tally.mean_reward,
        "files": files,
    }
    for name, value in expected.items():
        told = summary.get(name)
        if not _same(told, value):
            yield f"{name} is {told}, the records say {value}"
    for error, count in (summary.get("errors") or {}).items():
        if tally.errors[error] != count:
            yield f"{count} samples failed with {error!r}, the records say {tally.errors[error]}"


def _same(told: Any, value: Any) -> bool:
    if isinstance(value, dict):
        given = told if isinstance(told, dict) else {}
        return all((given.get(name) or 0) == (value.get(name) or 0) for name in {**given, **value})
    if isinstance(value, float) and isinstance(told, int | float):
        return math.isclose(told, value, rel_tol=1e-9, abs_tol=1e-12)
    return bool(told == value)
