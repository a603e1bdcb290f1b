"""Plots are well-formed, finite and stay inside their frame, whatever the numbers."""

import re
from collections import Counter
from xml.etree import ElementTree as ET

import pytest
from hypothesis import given
from hypothesis import strategies as st

from asynckit.charts import HEIGHT, ROWS, WIDTH, Axis, bins, histogram, levels, lines, moving_mean, strips

numbers = st.floats(-1e9, 1e9) | st.integers(-3, 3).map(float)
values = st.lists(st.none() | numbers, max_size=30)
hostile = "</svg><script>alert(1)</script>\"'&"


def checked(plot: str) -> ET.Element:
    root = ET.fromstring(plot)  # noqa: S314 - our own output
    assert not re.search(r"\b(nan|inf)\b", plot)
    assert {node.tag for node in root.iter()} <= {
        *("figure", "figcaption", "span", "i", "p"),
        *("svg", "desc", "path", "circle", "rect", "text", "title"),
    }
    for mark in root.iter("circle"):
        assert -0.1 <= float(mark.attrib["cx"]) <= WIDTH + 0.1
        assert -0.1 <= float(mark.attrib["cy"]) <= HEIGHT + 0.1
    for mark in root.iter("rect"):
        assert float(mark.attrib["width"]) >= 0
        assert float(mark.attrib["height"]) >= 0
    return root


@given(first=values, second=values, dots=st.booleans())
def test_any_lines_can_be_drawn(first: list[float | None], second: list[float | None], dots: bool) -> None:
    """Gaps, single points, constants and huge numbers included."""
    length = min(len(first), len(second))
    x = [float(at) for at in range(length)]
    checked(lines("t", "x", x, [("a", first[:length]), (hostile, second[:length])], dots=dots))


@given(
    counts=st.lists(st.dictionaries(st.integers(0, 100_000), st.integers(1, 1000)), min_size=1, max_size=2)
)
def test_any_histogram_counts_everything(counts: list[dict[int, int]]) -> None:
    """The bars' tooltips add up to what was counted, in few bars."""
    stacks = [(hostile, Counter(each)) for each in counts]
    root = checked(histogram("t", "tokens", stacks))
    tips = [tip.text or "" for tip in root.iter("title")]
    assert sum(int(tip.rpartition(": ")[2].replace(",", "")) for tip in tips) == sum(
        sum(each.values()) for each in counts
    )
    assert len(tips) <= 40 * len(counts)


@given(counts=st.lists(st.integers(0, 10**9), max_size=60))
def test_any_bins_can_be_drawn(counts: list[int]) -> None:
    """Every bar that counts something says what, and labels stay few enough to be read."""
    root = checked(bins("t", hostile, [(f"{hostile}{at}", count) for at, count in enumerate(counts)]))
    tips = [tip.text or "" for tip in root.iter("title")]
    assert len(tips) == sum(count > 0 for count in counts)
    assert sum(int(tip.rpartition(": ")[2].replace(",", "")) for tip in tips) == sum(counts)
    assert len([text for text in root.iter("text") if hostile in (text.text or "")]) <= 13


@given(values=st.lists(st.just(0.0) | st.floats(1e-6, 1e6), max_size=40))
def test_any_levels_can_be_drawn(values: list[float]) -> None:
    """A thousand inputs don't make a page of a thousand rows."""
    root = checked(levels("t", hostile, [(f"{hostile}{at}", value) for at, value in enumerate(values)]))
    assert len(list(root.iter("rect"))) == (min(len(values), ROWS) if any(values) else 0)
    for mark in root.iter("rect"):
        assert float(mark.attrib["x"]) + float(mark.attrib["width"]) <= WIDTH + 0.1


def test_the_axis_ends_with_what_was_counted() -> None:
    """Versions that no token was old would look as if the run allowed for them."""
    root = checked(histogram("t", "versions", [("tokens", Counter({0: 9, 2: 1}))], start=0))
    ticks = [text.text for text in root.iter("text") if text.attrib["class"] == "tick middle"]
    assert "2" in ticks
    assert not {"3", "4", "7"} & set(ticks)


@given(rows=st.lists(st.lists(st.none() | st.floats(0, 1), min_size=5, max_size=5), max_size=40))
def test_any_strips_can_be_drawn(rows: list[list[float | None]]) -> None:
    """A thousand replicas don't make a page of a thousand rows."""
    root = checked(
        strips("t", [1.0, 2.0, 2.0, 3.0, 4.0], [(f"{hostile}{n}", row) for n, row in enumerate(rows)])
    )
    names = [text for text in root.iter("text") if text.attrib["class"] == "tick end"]
    assert len(names) == min(len(rows), ROWS)


@pytest.mark.parametrize(
    "plot", [lines("t", "x", [], []), histogram("t", "x", []), strips("t", [0.0], [("a", [1.0])])]
)
def test_no_data_is_said(plot: str) -> None:
    """Instead of an empty frame."""
    assert checked(plot).text == "t: nothing to draw."


@given(low=numbers, width=st.floats(1e-3, 1e9))
def test_ticks_are_few_and_inside(low: float, width: float) -> None:
    """Numbers that can be read."""
    axis = Axis(low, low + width, 0.0, 100.0)
    assert len(axis.ticks) <= 12
    assert all(-1 <= axis.place(tick) <= 101 for tick in axis.ticks)


def test_a_moving_mean_skips_what_is_not_there() -> None:
    """And is shorter at the ends."""
    assert moving_mean([1.0, None, 4.0, 7.0], 3) == [1.0, 2.5, 5.5, 5.5]
    assert moving_mean([None, None, 1.0], 2) == [None, None, 1.0]
