"""Distributions: the right quantiles, and a clear no to everything else."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from asynckit.engine.distributions import parse_distribution
from asynckit.errors import ConfigError

shares = st.floats(0, 1, exclude_max=True)


@given(shares)
def test_a_constant_is_constant(u: float) -> None:
    """Every draw is the same."""
    assert parse_distribution(" constant(2.5) ", where="x")(u) == 2.5


@given(shares)
def test_uniform_draws_are_spread_evenly(u: float) -> None:
    """The quantile is on the line between the ends."""
    assert parse_distribution("uniform(10, 30)", where="x")(u) == pytest.approx(10 + 20 * u)


def test_a_lognormal_has_its_median_and_99th_percentile() -> None:
    """The two numbers that one knows of a workload are the parameters."""
    quantile = parse_distribution("lognormal(64,512)", where="x")
    assert quantile(0.5) == pytest.approx(64)
    assert quantile(0.99) == pytest.approx(512)


@given(st.floats(1e-9, 1e9), st.floats(1e-9, 1e9), shares)
def test_every_draw_of_a_lognormal_is_a_number(one: float, other: float, u: float) -> None:
    """No parameters that are accepted overflow, even at the ends of the range."""
    low, high = sorted((one, other))
    assert 0 <= parse_distribution(f"lognormal({low},{high})", where="x")(u) < float("inf")


@pytest.mark.parametrize(
    "spec",
    [
        "",
        "5",
        "normal(1,2)",
        "constant()",
        "constant(a)",
        "constant(1,2)",
        "uniform(1)",
        "uniform(1,2",
        "u(1)2",
    ],
)
def test_what_is_no_distribution_is_refused_with_the_mend(spec: str) -> None:
    """The error says what can be written, and where."""
    with pytest.raises(ConfigError, match=r"simulated\.x: .*is no distribution.*lognormal\(P50,P99\)"):
        parse_distribution(spec, where="simulated.x")


@pytest.mark.parametrize(
    "spec",
    ["constant(-1)", "constant(nan)", "constant(inf)", "uniform(2,1)", "lognormal(0,5)", "lognormal(5,nan)"],
)
def test_impossible_parameters_are_refused(spec: str) -> None:
    """Negative, infinite and reversed ones would break later."""
    with pytest.raises(ConfigError, match="impossible parameters"):
        parse_distribution(spec, where="x")
