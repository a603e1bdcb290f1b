"""Plots as SVG text: no library, no script, and colours from the page, so that they follow light and dark.

Every plot has a title and a description for those who listen, and each mark a tooltip with its numbers.
Nothing that comes from a model gets in here but through ``html.escape``.
"""

import math
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from html import escape
from itertools import groupby
from typing import Protocol

WIDTH, HEIGHT = 640, 220
LEFT, RIGHT, TOP, BOTTOM = 56, 12, 12, 34  # pixels around what is plotted
_BARS, _FEWEST_BARS = 40, 3
_LABELS = 12  # of bins that are written out
_SHADES = 5  # steps of busy that are told apart
ROWS = 32  # replicas or inputs that are drawn

Values = Sequence[float | None]


class Scale(Protocol):
    """An axis, whatever its steps."""

    @property
    def start(self) -> float:
        """The pixel of its lower end."""

    @property
    def end(self) -> float:
        """The pixel of its upper end."""

    @property
    def ticks(self) -> list[float]:
        """Round numbers to mark."""

    def place(self, value: float) -> float:
        """The pixel of a value."""


@dataclass(frozen=True)
class Axis:
    """Maps values from ``low`` to ``high`` onto pixels; ``ticks`` are round numbers between them."""

    low: float
    high: float
    start: float
    end: float

    def place(self, value: float) -> float:
        """The pixel of a value."""
        return self.start + (value - self.low) / (self.high - self.low) * (self.end - self.start)

    @property
    def ticks(self) -> list[float]:
        """About five round numbers."""
        rough = (self.high - self.low) / 5
        power = 10.0 ** math.floor(math.log10(rough))
        step = next(factor * power for factor in (1, 2, 5, 10) if factor * power >= rough * 0.999)
        first, last = math.ceil(self.low / step - 1e-9), math.floor(self.high / step + 1e-9)
        return [number * step for number in range(first, last + 1)]


def lines(
    title: str, x_name: str, x: Values, series: Sequence[tuple[str, Values]], *, dots: bool = False
) -> str:
    """Lines over ``x``; where a value is missing the line has a gap.

    Args:
        title: what is plotted.
        x_name: what the horizontal axis is.
        x: places, rising.
        series: names and values, as many as ``x``.
        dots: draw the first series as dots instead.
    """
    known = [value for _, values in series for value in values if value is not None]
    places = [place for place in x if place is not None]
    if not known or not places:
        return nothing(title)
    across = Axis(*_span(min(0.0, *places), max(places)), LEFT, WIDTH - RIGHT)
    up = Axis(*_span(min(0.0, *known), max(known)), HEIGHT - BOTTOM, TOP)
    body = [_axes(across, up, x_name, whole=False, whole_across=x_name != "seconds")]
    for number, (name, values) in enumerate(series, start=1):
        pairs = [(place, value) for place, value in zip(x, values, strict=True) if place is not None]
        as_dots = len(pairs) == 1 or (dots and number == 1)
        if not as_dots:
            body.append(f'<path class="line c{number}" d="{_path(pairs, across, up)}"/>')
        body += [_dot(place, value, name, number, across, up, visible=as_dots) for place, value in pairs]
    described = "; ".join(
        f"{name} from {short_number(low)} to {short_number(high)}" for name, low, high in _ranges(series)
    )
    legend = [name for name, _ in series] if len(series) > 1 else []
    return figure(title, described, "".join(body), legend)


def histogram(
    title: str, x_name: str, stacks: Sequence[tuple[str, Counter[int]]], start: int | None = None
) -> str:
    """Bars of counted whole numbers, one stack above the other, at most forty side by side.

    Args:
        title: what is counted.
        x_name: what the numbers are.
        stacks: names and counts.
        start: where the axis begins at the latest; by default at the lowest number.
    """
    values = [value for _, counts in stacks for value in counts]
    if not values:
        return nothing(title)
    low = min(values) if start is None else min(start, *values)
    width = max(1, -(-(max(values) - low + 1) // _BARS))
    bars = max(_FEWEST_BARS, (max(values) - low) // width + 1)
    heights = [[0] * bars for _ in stacks]
    for number, (_, counts) in enumerate(stacks):
        for value, count in counts.items():
            heights[number][(value - low) // width] += count
    across = Axis(low - 0.5, low + bars * width - 0.5, LEFT, WIDTH - RIGHT)
    up = Axis(*_span(0.0, max(map(sum, zip(*heights, strict=True)))), HEIGHT - BOTTOM, TOP)
    body = [_axes(across, up, x_name, whole=True, whole_across=True)]
    for bar in range(bars):
        begin, below = low + bar * width, 0
        label = str(begin) if width == 1 else f"{begin} to {begin + width - 1}"
        for number, (name, _) in enumerate(stacks, start=1):
            count = heights[number - 1][bar]
            if count:
                tip = f"{label} {x_name}, {name}: {count:,}"
                body.append(_bar(begin, width, below, below + count, number, tip, across, up))
            below += count
    described = ", ".join(f"{sum(counts.values()):,} {name}" for name, counts in stacks)
    legend = [name for name, _ in stacks] if len(stacks) > 1 else []
    return figure(title, f"{described}; from {min(values)} to {max(values)} {x_name}", "".join(body), legend)


def bins(title: str, x_name: str, counted: Sequence[tuple[str, str, int]]) -> str:
    """Bars of equal width, each with labels of its own: for bins that grow, such as powers of two.

    Args:
        title: what is counted.
        x_name: what the labels are.
        counted: for each bar from left to right, a short label for the axis, a whole one, and the count.
    """
    if not any(count for *_, count in counted):
        return nothing(title)
    across = Axis(-0.5, len(counted) - 0.5, LEFT, WIDTH - RIGHT)
    up = Axis(*_span(0.0, max(count for *_, count in counted)), HEIGHT - BOTTOM, TOP)
    body = [up_axis(up, whole=True), across_axis(across, HEIGHT - BOTTOM, x_name, [])]
    every = -(-len(counted) // _LABELS)
    for at, (short, label, count) in enumerate(counted):
        if count:
            body.append(_bar(at, 1, 0, count, 1, f"{label} {x_name}: {count:,}", across, up))
        if at % every == 0:
            body.append(tick_label(across.place(at), HEIGHT - BOTTOM, short))
    described = f"{sum(count for *_, count in counted):,} in {len(counted)} bars"
    return figure(title, described, "".join(body), [])


def levels(title: str, x_name: str, rows: Sequence[tuple[str, float]]) -> str:
    """A bar per name from left to right; ``rows`` are names and values of 0 or more, at most 32 are drawn."""
    if not rows or max(value for _, value in rows) <= 0:
        return nothing(title)
    drawn = rows[:ROWS]
    height = TOP + 20 * len(drawn) + BOTTOM
    across = Axis(0.0, max(value for _, value in rows), LEFT + 44, WIDTH - RIGHT)
    body = [across_axis(across, height - BOTTOM, x_name, across.ticks)]
    for number, (name, value) in enumerate(drawn):
        top = TOP + 20 * number
        place = f'x="{LEFT + 44}" y="{top}" width="{across.place(value) - LEFT - 44:.1f}" height="16"'
        tip = tooltip(f"{name}: {short_number(value)} {x_name}")
        body.append(_row_name(name, top) + f'<rect class="bar c1" {place}>{tip}</rect>')
    described = ", ".join(f"{name} {short_number(value)}" for name, value in drawn)
    return figure(title, described, "".join(body), [], height)


def strips(title: str, x: Values, rows: Sequence[tuple[str, Values]]) -> str:
    """A row per name over time, the darker the nearer its value is to 1."""
    places = [place for place in x if place is not None]
    if not rows or not places or max(places) <= 0:
        return nothing(title)
    drawn = rows[:ROWS]
    height = TOP + 20 * len(drawn) + BOTTOM
    across = Axis(0.0, max(places), LEFT + 44, WIDTH - RIGHT)
    body = [across_axis(across, height - BOTTOM, "seconds", across.ticks)]
    for number, (name, values) in enumerate(drawn):
        top = TOP + 20 * number
        body.append(_row_name(name, top))
        body += _strip(name, top, [0.0, *(place or 0.0 for place in x)], values, across)
    means = [f"{name} {_mean(values):.0%} busy" for name, values in drawn]
    more = f"; {len(rows) - len(drawn)} more are not drawn" if len(rows) > len(drawn) else ""
    return figure(title, ", ".join(means) + more, "".join(body), [], height)


def nothing(title: str) -> str:
    """What stands for a plot that has no data."""
    return f'<p class="empty">{escape(title)}: nothing to draw.</p>'


def moving_mean(values: Values, window: int) -> list[float | None]:
    """The mean of each value and its neighbours, ``window`` in all; fewer at the ends."""
    before = window // 2
    found: list[float | None] = []
    for at in range(len(values)):
        near = [each for each in values[max(0, at - before) : at + window - before] if each is not None]
        found.append(sum(near) / len(near) if near else None)
    return found


def _span(low: float, high: float) -> tuple[float, float]:
    """The two with some room between them."""
    return (low, high) if high > low else (low, low + max(1.0, abs(low)))


def _ranges(series: Sequence[tuple[str, Values]]) -> list[tuple[str, float, float]]:
    found = []
    for name, values in series:
        known = [value for value in values if value is not None]
        if known:
            found.append((name, min(known), max(known)))
    return found


def _mean(values: Values) -> float:
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known else 0.0


def _path(pairs: Sequence[tuple[float, float | None]], across: Axis, up: Axis) -> str:
    pieces, pen = [], "M"
    for place, value in pairs:
        if value is None:
            pen = "M"
        else:
            pieces.append(f"{pen}{across.place(place):.1f} {up.place(value):.1f}")
            pen = "L"
    return "".join(pieces)


def _dot(
    place: float, value: float | None, name: str, number: int, across: Axis, up: Axis, *, visible: bool
) -> str:
    if value is None:
        return ""
    kind = f"dot c{number}" if visible else "dot hidden"
    where = f'cx="{across.place(place):.1f}" cy="{up.place(value):.1f}"'
    tip = tooltip(f"{name}: {short_number(value)} at {short_number(place)}")
    return f'<circle class="{kind}" {where} r="3">{tip}</circle>'


def _bar(begin: int, width: int, low: int, high: int, number: int, tip: str, across: Axis, up: Axis) -> str:
    left, right = across.place(begin - 0.5), across.place(begin + width - 0.5)
    top, bottom = up.place(high), up.place(low)
    size = f'width="{max(1.0, right - left - 1):.1f}" height="{bottom - top:.1f}"'
    return f'<rect class="bar c{number}" x="{left:.1f}" y="{top:.1f}" {size}>{tooltip(tip)}</rect>'


def _strip(name: str, top: int, edges: Sequence[float], values: Values, across: Axis) -> list[str]:
    """The pieces of one row; neighbours of one shade are one piece."""
    pieces, at = [], 0
    for shade, same in groupby(values, key=_shade):
        stretch = list(same)
        left, right = across.place(edges[at]), across.place(edges[at + len(stretch)])
        at += len(stretch)
        if shade is None:
            continue
        tip = f"{name}: {_mean(stretch):.0%} busy until {short_number(edges[at])} s"
        place = f'x="{left:.1f}" y="{top}" width="{right - left:.1f}" height="16"'
        pieces.append(f'<rect class="shade s{shade}" {place}>{tooltip(tip)}</rect>')
    return pieces


def _row_name(name: str, top: int) -> str:
    return f'<text class="tick end" x="{LEFT + 38}" y="{top + 13}">{escape(_short(name))}</text>'


def _shade(value: float | None) -> int | None:
    return None if value is None else round(value * _SHADES)


def _axes(across: Axis, up: Axis, x_name: str, *, whole: bool, whole_across: bool) -> str:
    ticks = [tick for tick in across.ticks if tick == int(tick) or not whole_across]
    return up_axis(up, whole=whole) + across_axis(across, HEIGHT - BOTTOM, x_name, ticks)


def up_axis(up: Scale, *, whole: bool) -> str:
    """The vertical axis: a line across for each tick, with its number."""
    marks = []
    for tick in up.ticks:
        if whole and tick != int(tick):
            continue
        y = up.place(tick)
        marks.append(
            f'<path class="grid" d="M{LEFT} {y:.1f}H{WIDTH - RIGHT}"/>'
            f'<text class="tick end" x="{LEFT - 6}" y="{y + 4:.1f}">{short_number(tick)}</text>'
        )
    return "".join(marks)


def across_axis(
    across: Scale, y: float, name: str, ticks: Sequence[float], text: Callable[[float], str] | None = None
) -> str:
    """The horizontal axis at ``y`` with its name; ``text`` writes its numbers."""
    text = text or short_number
    marks = [f'<path class="axis" d="M{across.start} {y}H{across.end}"/>']
    marks += [tick_label(across.place(tick), y, text(tick)) for tick in ticks]
    middle = (across.start + across.end) / 2
    marks.append(f'<text class="tick middle" x="{middle:.0f}" y="{y + 30}">{escape(name)}</text>')
    return "".join(marks)


def tick_label(x: float, y: float, text: str) -> str:
    """Text below a place of a horizontal axis."""
    return f'<text class="tick middle" x="{x:.1f}" y="{y + 15}">{escape(text)}</text>'


def figure(title: str, described: str, body: str, legend: Sequence[str], height: int = HEIGHT) -> str:
    """A plot with its title and legend; ``described`` is read to those who don't see, ``body`` is SVG."""
    keys = "".join(
        f'<span><i class="key c{number}"></i>{escape(name)}</span>' for number, name in enumerate(legend, 1)
    )
    return (
        f"<figure><figcaption>{escape(title)} {keys}</figcaption>"
        f'<svg viewBox="0 0 {WIDTH} {height}" role="img" aria-label="{escape(title)}: {escape(described)}">'
        f"<desc>{escape(described)}</desc>{body}</svg></figure>"
    )


def tooltip(text: str) -> str:
    """What a mark says when it is pointed at."""
    return f"<title>{escape(text)}</title>"


def _short(name: str) -> str:
    return name if len(name) <= 14 else name[:13] + "…"


def short_number(value: float) -> str:
    """A number as an axis shows it."""
    if value == int(value) and abs(value) < 1e15:
        return f"{int(value):,}"
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"
