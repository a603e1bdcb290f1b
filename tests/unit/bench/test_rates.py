"""Rates and shares follow from counted work by hand."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from made_reports import made_row

from asynckit.bench.rates import bytes_per_second, flops_per_second, roof_at, share_of_peak, tokens_per_second
from asynckit.bench.results import Ceilings, Row

CEILINGS = Ceilings(flops_per_second={"bfloat16": 100.0}, bytes_per_second=10.0)


def test_rates_are_work_over_the_median() -> None:
    """Of what is counted, and no other."""
    row = made_row(median=0.5, flops=10.0, bytes=4.0)
    assert (flops_per_second(row), bytes_per_second(row), tokens_per_second(row)) == (20.0, 8.0, None)


def test_a_row_that_was_not_measured_has_no_rates() -> None:
    """Nor one that took no time."""
    missing = Row(case="a", variant="", group="", device="cuda", timing=None, reason="no GPU", flops=3.0)
    assert flops_per_second(missing) is None
    assert flops_per_second(made_row(median=0.0, flops=3.0)) is None


@pytest.mark.parametrize(
    ("flops", "moved", "share"),
    [
        (50.0, 1.0, 0.5),  # 50 per byte: bound by compute, at 100
        (20.0, 4.0, 0.4),  # 5 per byte: memory allows 50
        (None, 4.0, 0.4),  # moves only
        (50.0, None, 0.5),
    ],
)
def test_the_share_is_of_the_lower_roof(flops: float | None, moved: float | None, share: float) -> None:
    """A decode step at 90 % of the bandwidth is not at 1 % of the peak."""
    row = made_row(median=1.0, flops=flops, bytes=moved, parameters={"dtype": "bfloat16"})
    assert share_of_peak(row, CEILINGS) == pytest.approx(share)


def test_no_ceiling_no_share() -> None:
    """Another dtype's peak, or memory's bandwidth for a link between devices, would be the wrong one."""
    assert share_of_peak(made_row(flops=1.0, parameters={"dtype": "float8"}), CEILINGS) is None
    assert share_of_peak(made_row(bytes=1.0, group="transfer"), CEILINGS) is None
    empty = Ceilings(flops_per_second={}, bytes_per_second=None)
    assert share_of_peak(made_row(bytes=1.0), empty) is None


@given(intensity=st.floats(1e-3, 1e3))
def test_the_roof_is_never_above_either_ceiling(intensity: float) -> None:
    """Compute, or bandwidth times intensity."""
    roof = roof_at(intensity, "bfloat16", CEILINGS)
    assert roof is not None
    assert roof <= 100.0
    assert roof <= intensity * 10.0 * (1 + 1e-12)
