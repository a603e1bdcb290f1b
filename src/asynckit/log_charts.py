"""Plots over magnitudes: both axes are logarithmic. Colours and escaping are as in :mod:`asynckit.charts`."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from html import escape

from asynckit.charts import (
    BOTTOM,
    HEIGHT,
    LEFT,
    RIGHT,
    TOP,
    WIDTH,
    across_axis,
    figure,
    nothing,
    short_number,
    tooltip,
    up_axis,
)

SERIES = 4  # colours there are
_MOST_TICKS = 8
_FEW_DECADES = 1.5
_TINY, _HUGE = 1e-100, 1e100  # beyond, room around them would overflow

Point = tuple[float, float, str]
Line = Sequence[tuple[float, float]]


@dataclass(frozen=True)
class LogAxis:
    """Maps positive values from ``low`` to ``high`` onto pixels, equal factors onto equal distances."""

    low: float
    high: float
    start: float
    end: float

    def place(self, value: float) -> float:
        """The pixel of a value."""
        share = math.log(value / self.low) / math.log(self.high / self.low)
        return self.start + share * (self.end - self.start)

    @property
    def ticks(self) -> list[float]:
        """Powers of ten, not more than eight; within few of them their doubles and halves too."""
        low, high = math.log10(self.low), math.log10(self.high)
        every = max(1, math.ceil((high - low) / _MOST_TICKS))
        factors = (1, 2, 5) if high - low <= _FEW_DECADES else (1,)
        powers = range(math.floor(low), math.ceil(high) + 1)
        found = [factor * 10.0**power for power in powers if power % every == 0 for factor in factors]
        return [tick for tick in found if self.low <= tick * 1.000001 and tick <= self.high * 1.000001]


def log_log(
    title: str,
    x_name: str,
    series: Sequence[tuple[str, Sequence[Point]]],
    *,
    roofs: Sequence[tuple[str, Line]] = (),
    joined: bool = False,
    x_text: Callable[[float], str] = short_number,
) -> str:
    """Dots, each with a text of its own, below named roofs.

    Args:
        title: what is plotted upwards, over what.
        x_name: what the horizontal axis is.
        series: up to four names, each with its dots: x, y and what a dot says. Those that
            are not positive are left out.
        roofs: lines from left to right, named at their right end.
        joined: draw lines from dot to dot.
        x_text: writes the numbers of the horizontal axis.
    """
    shown = [(name, [point for point in points if _can_be_drawn(point)]) for name, points in series[:SERIES]]
    dots = [(x, y) for _, points in shown for x, y, _ in points]
    if not dots:
        return nothing(title)
    roofs = [(name, line) for name, line in roofs if line and all(map(_can_be_drawn, line))]
    places = [*dots, *(point for _, line in roofs for point in line)]
    across = LogAxis(*_span([x for x, _ in places]), LEFT, WIDTH - RIGHT)
    up = LogAxis(*_span([y for _, y in places]), HEIGHT - BOTTOM, TOP)
    body = [up_axis(up, whole=False), across_axis(across, HEIGHT - BOTTOM, x_name, across.ticks, x_text)]
    body += [_roof(name, line, across, up) for name, line in roofs]
    for number, (_, points) in enumerate(shown, start=1):
        if joined and len(points) > 1:
            body.append(f'<path class="line c{number}" d="{_path(points, across, up)}"/>')
        body += [_dot(point, number, across, up) for point in points]
    described = "; ".join(text for _, points in shown for _, _, text in points)
    legend = [name for name, _ in shown] if len(shown) > 1 else []
    return figure(title, described, "".join(body), legend)


def _can_be_drawn(point: Point | tuple[float, float]) -> bool:
    return all(_TINY < value < _HUGE for value in point[:2])


def _span(values: Sequence[float]) -> tuple[float, float]:
    """The least and the most with a little room."""
    low, high = min(values), max(values)
    room = max(1.1, (high / low) ** 0.03)
    return low / room, high * room


def _path(points: Sequence[Point] | Line, across: LogAxis, up: LogAxis) -> str:
    return "M" + "L".join(f"{across.place(point[0]):.1f} {up.place(point[1]):.1f}" for point in points)


def _dot(point: Point, number: int, across: LogAxis, up: LogAxis) -> str:
    x, y, text = point
    where = f'cx="{across.place(x):.1f}" cy="{up.place(y):.1f}"'
    return f'<circle class="dot mark c{number}" {where} r="3.5">{tooltip(text)}</circle>'


def _roof(name: str, line: Line, across: LogAxis, up: LogAxis) -> str:
    """A line whose name stands above its right end."""
    x, y = line[-1]
    at = f'x="{across.place(x) - 4:.1f}" y="{up.place(y) - 4:.1f}"'
    return (
        f'<path class="roof" d="{_path(line, across, up)}"/><text class="tick end" {at}>{escape(name)}</text>'
    )
