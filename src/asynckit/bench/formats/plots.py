"""The plots of a report: rooflines, bandwidth over size, and how much repetitions differ. Pure."""

import re
from collections.abc import Sequence
from html import escape
from itertools import groupby

from asynckit.bench.formats.cells import seconds, size, unit_of
from asynckit.bench.rates import bytes_per_second, flops_per_second, intensity, roof_at
from asynckit.bench.results import Ceilings, Report, Row, Timing
from asynckit.charts import BOTTOM, RIGHT, ROWS, TOP, WIDTH, Axis, across_axis, bins, figure, nothing, tooltip
from asynckit.log_charts import SERIES, Point, log_log
from asynckit.readable import readable

_NAMES = 230  # pixels for the names of rows
_LONGEST_NAME = 34
_WIDEST = 0.5  # of the median, that spreads are drawn to
_BARS = 30
_SIZES = 3  # of a case, at least, to make a curve


def roofline(report: Report) -> str:
    """Every row that counts operations and bytes, below what the measured ceilings allow."""
    drawn = [row for row in report.rows if flops_per_second(row) and intensity(row)]
    trusted = [_at_roof(row) for row in drawn if not row.doubts]
    doubted = [_at_roof(row) for row in drawn if row.doubts]
    reach = [x for x, _, _ in [*trusted, *doubted]]
    series = [("trusted", trusted), ("doubted", doubted)] if doubted else [("trusted", trusted)]
    title = "Roofline: TFLOP/s over operations per byte"
    roofs = _roofs(report.ceilings, min(reach), max(reach)) if reach else []
    return log_log(title, "operations per byte", series, roofs=roofs)


def bandwidth(report: Report) -> list[str]:
    """GB/s over the bytes that a call moves, for all cases that were measured at three sizes or more."""
    moving = [row for row in report.rows if bytes_per_second(row) and _only_moves(row)]
    curves = []
    for group in dict.fromkeys(row.group for row in moving):
        for name in dict.fromkeys(row.case for row in moving if row.group == group):
            same_case = [row for row in moving if (row.group, row.case) == (group, name)]
            points = sorted(map(_at_size, same_case))
            if len({x for x, _, _ in points}) >= _SIZES:
                curves.append((group, readable(name), points))
    return [
        _curves([(name, points) for _, name, points in several[at : at + SERIES]])
        for _, same in groupby(curves, key=lambda curve: curve[0])
        for several in [list(same)]
        for at in range(0, len(several), SERIES)
    ]


def spreads(title: str, rows: Sequence[Row]) -> str:
    """For each row the middle nine tenths of its repetitions (light) and the interval of its median (dark).

    All are shares of the row's own median, so that rows of any length can be drawn together; at most 32.
    """
    timed = [
        (readable(row.key), row.timing) for row in rows if row.timing is not None and row.timing.median > 0
    ]
    if not timed:
        return nothing(title)
    timed = timed[:ROWS]
    widest = max(max(abs(share) for share in _shares(timing)) for _, timing in timed)
    reach = 100 * min(_WIDEST, max(widest, 0.01))
    across = Axis(-reach, reach, _NAMES, WIDTH - RIGHT)
    height = TOP + 20 * len(timed) + BOTTOM
    body = [across_axis(across, height - BOTTOM, "% from the median", across.ticks)]
    body += [_spread(name, timing, TOP + 20 * at, across) for at, (name, timing) in enumerate(timed)]
    described = "; ".join(_spread_words(name, timing) for name, timing in timed)
    return figure(title, described, "".join(body), [], height)


def distribution(row: Row) -> str:
    """The repetitions of one row, counted in bars; those far above the most of them are in the last one."""
    title = f"Repetitions of {readable(row.key)}"
    if row.timing is None or not row.timing.samples:
        return nothing(title)
    samples, timing = row.timing.samples, row.timing
    low = min(samples)
    high = min(max(samples), timing.p95 + 2 * (timing.p95 - timing.p5))
    width = (high - low) / _BARS
    counts = [0] * (_BARS + 1)
    for sample in samples:
        counts[int(min(_BARS, (sample - low) / width)) if width > 0 else 0] += 1
    unit = unit_of(timing.median)
    labels = [seconds(low + at * width, unit).removesuffix(f" {unit}") for at in range(_BARS + 1)]
    labels[-1] += "+"
    return bins(title, f"{unit} per call", list(zip(labels, labels, counts, strict=True)))


def _at_roof(row: Row) -> Point:
    rate = flops_per_second(row) or 0.0
    return intensity(row) or 0.0, rate / 1e12, f"{readable(row.key)}: {rate / 1e12:.4g} TFLOP/s"


def _at_size(row: Row) -> Point:
    rate = (bytes_per_second(row) or 0.0) / 1e9
    return row.bytes or 0.0, rate, f"{readable(row.key)}: {rate:.4g} GB/s"


def _curves(series: list[tuple[str, list[Point]]]) -> str:
    title = f"GB/s over bytes moved: {', '.join(name for name, _ in series)}"
    return log_log(title, "bytes that a call moves", series, joined=True, x_text=_round_size)


def _only_moves(row: Row) -> bool:
    return row.flops is None or row.group == "bandwidth"  # a triad's two operations per number are incidental


def _roofs(ceilings: Ceilings, low: float, high: float) -> list[tuple[str, list[tuple[float, float]]]]:
    """A roof for each dtype from the lowest intensity to the highest, by way of its ridge."""
    found = []
    for dtype, peak in ceilings.flops_per_second.items():
        ridge = peak / ceilings.bytes_per_second if ceilings.bytes_per_second else low
        right = max(high, 2 * ridge)
        places = sorted({min(low, ridge), ridge, right})
        line = [(x, (roof_at(x, dtype, ceilings) or peak) / 1e12) for x in places]
        found.append((readable(dtype), line))
    return found


def _shares(timing: Timing) -> list[float]:
    ends = (timing.p5, timing.low, timing.high, timing.p95)
    return [each / timing.median - 1 for each in ends]


def _spread(name: str, timing: Timing, top: int, across: Axis) -> str:
    p5, low, high, p95 = (
        across.place(max(across.low, min(across.high, 100 * share))) for share in _shares(timing)
    )
    shown = name if len(name) <= _LONGEST_NAME else name[: _LONGEST_NAME - 1] + "…"
    tip = tooltip(_spread_words(name, timing))
    wide, narrow = max(1.0, p95 - p5), max(1.0, high - low)
    return (
        f'<text class="tick end" x="{_NAMES - 8}" y="{top + 13}">{escape(shown)}</text>'
        f'<rect class="band" x="{p5:.1f}" y="{top + 3}" width="{wide:.1f}" height="10">{tip}</rect>'
        f'<rect class="bar c1" x="{low:.1f}" y="{top}" width="{narrow:.1f}" height="16">{tip}</rect>'
    )


def _spread_words(name: str, timing: Timing) -> str:
    p5, low, high, p95 = _shares(timing)
    middle = f"{name}: median {seconds(timing.median)}, its interval {low:+.1%} to {high:+.1%}"
    return f"{middle}, p5 {p5:+.1%}, p95 {p95:+.1%}"


def _round_size(count: float) -> str:
    return re.sub(r"\.0+ ", " ", size(count))
