"""Bounds that dataclass fields declare in their metadata, and the one function that checks them.

A field says ``field(default=1, metadata={"help": "samples per prompt", "min": 1})``. The config loader and
the engine check the same declarations, so a value that one refuses the other refuses too.

Metadata keys: ``help`` (one line), ``min`` and ``max`` (inclusive), ``above`` (exclusive minimum),
    ``choices`` (of each item, where the value is a list), ``separator`` (of a list's items in one string),
    ``secret``.
"""

import math
import operator
from collections.abc import Iterator, Mapping
from dataclasses import fields
from typing import Any


def violations(instance: object) -> Iterator[tuple[str, str]]:
    """Yield ``(field name, what is wrong)`` for every field of a dataclass outside its declared bounds."""
    for field in fields(instance):  # type: ignore[arg-type]  # any dataclass instance
        problem = violation(getattr(instance, field.name), field.metadata)
        if problem:
            yield field.name, problem


def violation(value: Any, bounds: Mapping[str, Any]) -> str:
    """What is wrong with ``value`` under the declared ``bounds``; empty when nothing is, as for None.

    The bounds of a mapping are those of its values.
    """
    if value is None:
        return ""
    if isinstance(value, Mapping):
        return next(filter(None, (violation(each, bounds) for each in value.values())), "")
    if isinstance(value, float) and not math.isfinite(value):
        return f"must be a finite number, not {value}"
    for each in value if isinstance(value, tuple) else (value,):
        if "choices" in bounds and each not in bounds["choices"]:
            return f"must be one of {', '.join(map(str, bounds['choices']))}, not {each!r}"
    limits = (
        ("min", operator.ge, "at least"),
        ("max", operator.le, "at most"),
        ("above", operator.gt, "greater than"),
    )
    for name, holds, words in limits:
        if name in bounds and not holds(value, bounds[name]):
            return f"must be {words} {bounds[name]}, not {value}"
    return ""
