"""Numbers in a text: what counts as one, and that none is rounded."""

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from asynckit.rollout.scoring.numbers_in_text import last_number


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("The answer is 5.", "5"),
        ("first 3, then 4", "4"),
        ("1,234,567.50 dollars", "1234567.50"),
        ("-$1,234", "-1234"),
        ("$-3", "-3"),
        ("x=-3", "-3"),
        ("\u22127", "-7"),
        ("5-3", "3"),
        ("(5)-3", "3"),
        ("1e-3", "0.001"),
        (".5", "0.5"),
        ("wait...42", "42"),
        ("12,34", "34"),
        (r"\boxed{42}", "42"),
        ("42 in H2O", "42"),
        ("50%", "50"),
        ("**7**", "7"),
        ("007", "7"),
        ("no digits", None),
        ("", None),
        ("\u0663", None),
    ],
)
def test_last_number_reads_numbers_as_people_write_them(text: str, number: str | None) -> None:
    """Separators, signs and decimals count; parts of words do not."""
    assert last_number(text) == (None if number is None else Decimal(number))


@given(
    st.decimals(allow_nan=False, allow_infinity=False, places=3), st.sampled_from(["{:,}", "{:f}", "${:,}"])
)
def test_any_decimal_is_read_back_exactly(number: Decimal, style: str) -> None:
    """No rounding on the way: a reward compares exactly."""
    assert last_number(f"so 1 becomes {style.format(number)}.") == number


@given(st.text())
def test_any_text_can_be_searched(text: str) -> None:
    """Models write anything; scoring never fails on it."""
    assert isinstance(last_number(text), Decimal | None)
