"""Numbers as people write them, read exactly."""

import re
from decimal import Decimal
from typing import Any

_NUMBER = re.compile(
    r"""
    (?<![A-Za-z0-9_]) (?<![0-9]\.)                          # not inside a word or the tail of 1.2.3
    (?P<sign> (?<![)\]}]) [-+\u2212] )? [$\u20ac\u00a3]?    # 5-3 and (5)-3 subtract; -3 and -$3 are negative
    (?P<digits> (?: [0-9]{1,3} (?:,[0-9]{3})+ (?![0-9]) | [0-9]+ ) (?:\.[0-9]+)? | (?<!\.) \.[0-9]+ )
    (?P<exponent> [eE][-+]?[0-9]{1,3} (?![0-9]) )?
    """,
    re.VERBOSE,
)


def last_number(text: str) -> Decimal | None:
    """The last number in a text, exactly; None when it has none.

    ``1,234.50``, ``-3``, ``$5``, ``.5`` and ``1e-3`` are numbers. A minus after a digit or bracket subtracts.
    """
    found = None
    for found in _NUMBER.finditer(text):  # noqa: B007  # the last one is wanted
        pass
    return None if found is None else _decimal(found)


def _decimal(found: re.Match[str]) -> Decimal:
    sign = "-" if found["sign"] in ("-", "\u2212") else ""
    return Decimal(sign + found["digits"].replace(",", "") + (found["exponent"] or ""))


def true_number(ground_truth: Any) -> Decimal | None:
    """The number that a ground truth is, or ends with after ``####`` (GSM8K); None when it is no number."""
    if isinstance(ground_truth, bool) or not isinstance(ground_truth, int | float | str):
        return None
    found = _NUMBER.fullmatch(str(ground_truth).rpartition("####")[2].strip())
    return _decimal(found) if found else None
