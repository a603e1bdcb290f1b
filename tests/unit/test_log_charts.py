"""Logarithmic plots are well-formed and stay inside their frame, whatever the numbers."""

import re
from xml.etree import ElementTree as ET

import pytest
from hypothesis import given
from hypothesis import strategies as st

from asynckit.charts import HEIGHT, WIDTH
from asynckit.log_charts import LogAxis, log_log

positive = st.floats(1e-30, 1e30)
any_number = positive | st.sampled_from([0.0, -1.0, float("inf"), float("nan"), 1e308, 5e-324])
hostile = "</svg><script>alert(1)</script>\"'&"


def checked(plot: str) -> ET.Element:
    root = ET.fromstring(plot)  # noqa: S314 - our own output
    assert not re.search(r"\b(nan|inf)\b", plot)
    for mark in root.iter("circle"):
        assert -0.1 <= float(mark.attrib["cx"]) <= WIDTH + 0.1
        assert -0.1 <= float(mark.attrib["cy"]) <= HEIGHT + 0.1
    return root


@given(points=st.lists(st.tuples(any_number, any_number), max_size=20), joined=st.booleans())
def test_any_dots_can_be_drawn(points: list[tuple[float, float]], joined: bool) -> None:
    """What a logarithm does not have is left out."""
    root = checked(log_log("t", "x", [(hostile, [(x, y, hostile) for x, y in points])], joined=joined))
    drawn = [point for point in points if all(1e-100 < value < 1e100 for value in point)]
    assert len(list(root.iter("circle"))) == len(drawn)
    assert "script" not in {node.tag for node in root.iter()}


@given(line=st.lists(st.tuples(any_number, any_number), max_size=4))
def test_any_roof_can_be_drawn(line: list[tuple[float, float]]) -> None:
    """Also above all dots."""
    root = checked(log_log("t", "x", [("a", [(1.0, 1.0, "one")])], roofs=[(hostile, line)]))
    assert len(list(root.iter("circle"))) == 1


@given(low=positive, factor=st.floats(1.2, 1e30))
def test_ticks_are_few_and_inside(low: float, factor: float) -> None:
    """Numbers that can be read."""
    axis = LogAxis(low, low * factor, 0.0, 100.0)
    assert len(axis.ticks) <= 10
    assert all(-0.1 <= axis.place(tick) <= 100.1 for tick in axis.ticks)


@pytest.mark.parametrize("decades", [1, 3, 6])
def test_there_are_ticks_for_any_reach(decades: int) -> None:
    """Within a decade, their halves and doubles."""
    assert len(LogAxis(1.0, 10.0**decades, 0.0, 1.0).ticks) >= 2


def test_equal_factors_are_equal_distances() -> None:
    """What makes a rate over size a straight line."""
    axis = LogAxis(1.0, 1000.0, 0.0, 300.0)
    assert [round(axis.place(value)) for value in (1, 10, 100, 1000)] == [0, 100, 200, 300]


def test_no_dots_are_said() -> None:
    """Instead of an empty frame."""
    assert "nothing to draw" in log_log("t", "x", [("a", [(0.0, 1.0, "zero")])])
