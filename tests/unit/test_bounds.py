"""Declared bounds: the one check that the loader and the engine share."""

import math
from collections.abc import Mapping
from typing import Any

import pytest

from asynckit.bounds import violation, violations
from asynckit.engine.config import SamplingParams


@pytest.mark.parametrize(
    ("value", "bounds", "problem"),
    [
        (1, {"min": 1, "max": 1}, ""),
        (0, {"min": 1}, "must be at least 1, not 0"),
        (3, {"max": 2}, "must be at most 2, not 3"),
        (0.0, {"above": 0.0}, "must be greater than 0.0, not 0.0"),
        ("x", {"choices": ("a", "b")}, "must be one of a, b, not 'x'"),
        (math.inf, {}, "must be a finite number, not inf"),
        (math.nan, {"min": 0}, "must be a finite number, not nan"),
        (None, {"min": 1}, ""),
        ({"a": 1.0, "b": -1.0}, {"min": 0.0}, "must be at least 0.0, not -1.0"),
        ({}, {"min": 0.0}, ""),
    ],
)
def test_a_violation_says_what_is_wrong(value: Any, bounds: Mapping[str, Any], problem: str) -> None:
    """Each kind of bound has its words; None means unset and is always allowed; a mapping's entries count."""
    assert violation(value, bounds) == problem


def test_all_violations_of_an_instance_are_found() -> None:
    """Every field outside its bounds is named."""
    assert {name for name, _ in violations(SamplingParams(top_p=2.0, max_tokens=0))} == {
        "top_p",
        "max_tokens",
    }
