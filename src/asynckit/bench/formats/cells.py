"""Numbers as people read them, and the rows of a report as columns of text. Pure."""

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from asynckit.bench.rates import bytes_per_second, flops_per_second, share_of_peak, tokens_per_second
from asynckit.bench.results import Ceilings, Prediction, Report, Row, Timing

_TIMES = (("s", 1.0), ("ms", 1e-3), ("µs", 1e-6), ("ns", 1e-9))
_SIZES = (("TB", 1e12), ("GB", 1e9), ("MB", 1e6), ("kB", 1e3))
YES = "yes"
PREDICTED = ("tokens per second", "predicted", "measured", "of predicted", "bound by")


@dataclass(frozen=True)
class Cells:
    """The report's rows as text.

    Attributes:
        header: names of the columns.
        rows: as many cells each as the header has.
        sections: for each row, its group.
    """

    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    sections: tuple[str, ...]


def cells(report: Report) -> Cells:
    """Case, median with its interval, p5 and p95, rates, share of the measured peak, memory, and trust.

    A column of rates that no row has is left out.
    """
    ceilings = report.ceilings
    rates: list[tuple[str, Callable[[Row], str]]] = [
        ("TFLOP/s", lambda row: _scaled(flops_per_second(row), 1e12)),
        ("GB/s", lambda row: _scaled(bytes_per_second(row), 1e9)),
        ("tokens/s", lambda row: _scaled(tokens_per_second(row), 1)),
        ("of peak", lambda row: _percent(row, ceilings)),
        ("peak memory", lambda row: size(row.peak_memory_bytes)),
    ]
    shown = [(name, column) for name, column in rates if any(map(column, report.rows))]
    interval = _interval_name(_confidence(report.settings))
    header = ("case", "median", interval, "p5", "p95", *(name for name, _ in shown), "trust")
    rows = tuple(
        (row.key, *_times(row.timing), *(column(row) for _, column in shown), trust(row))
        for row in report.rows
    )
    return Cells(header, rows, tuple(row.group for row in report.rows))


def facts(report: Report) -> list[tuple[str, str]]:
    """The environment and the settings, one line for each, sections such as ``cpu`` before a dot."""
    lines = [("asynckit", report.asynckit), ("begun", report.begun), ("device", report.device)]
    lines += _flat("", report.environment)
    return lines + _flat("settings", report.settings)


def ceiling_facts(ceilings: Ceilings) -> list[tuple[str, str]]:
    """The measured peaks."""
    lines = [
        (f"peak {dtype}", f"{_scaled(rate, 1e12)} TFLOP/s")
        for dtype, rate in ceilings.flops_per_second.items()
    ]
    if ceilings.bytes_per_second is not None:
        lines.append(("bandwidth", f"{_scaled(ceilings.bytes_per_second, 1e9)} GB/s"))
    return lines


def predicted(prediction: Prediction) -> tuple[str, ...]:
    """The cells under :data:`PREDICTED`."""
    known = prediction.measured is not None and prediction.predicted > 0
    share = f"{prediction.measured / prediction.predicted:.0%}" if known and prediction.measured else ""
    return (
        prediction.what,
        _scaled(prediction.predicted, 1),
        _scaled(prediction.measured, 1),
        share,
        prediction.bound_by,
    )


def notes(report: Report) -> list[tuple[str, str]]:
    """The keys of rows that are doubted or were not measured, and why."""
    return [(row.key, trust(row)) for row in report.rows if trust(row) != YES]


def trust(row: Row) -> str:
    """Whether to believe a row, and why not."""
    if row.timing is None:
        return f"not measured: {row.reason}"
    if row.trusted and not row.doubts:
        return YES
    return "no: " + ("; ".join(row.doubts) or "a check failed")


def seconds(value: float, unit: str = "") -> str:
    """A time with its unit, three digits or more: ``12.3 µs``."""
    name, scale = _unit(value, unit)
    return f"{_digits(value / scale)} {name}"


def size(count: float | None) -> str:
    """Bytes with a unit of thousands: ``1.5 GB``; empty for None."""
    if count is None:
        return ""
    name, scale = next(((name, scale) for name, scale in _SIZES if count >= scale), ("bytes", 1))
    return f"{_digits(count / scale) if scale > 1 else f'{count:.0f}'} {name}"


def _memory(count: float) -> str:
    """Bytes of what is built in powers of two: ``48 KiB``."""
    for unit in ("bytes", "KiB", "MiB"):
        if count < 1024:
            return f"{count:.4g} {unit}"
        count /= 1024
    return f"{count:,.1f} GiB"


def unit_of(value: float) -> str:
    """The unit in which :func:`seconds` shows a time."""
    return _unit(value, "")[0]


def _times(timing: Timing | None) -> tuple[str, str, str, str]:
    """In the unit of the median, so that they can be compared."""
    if timing is None:
        return "", "", "", ""
    unit, scale = _unit(timing.median, "")
    low, high = _digits(timing.low / scale), _digits(timing.high / scale)
    p5, p95 = seconds(timing.p5, unit), seconds(timing.p95, unit)
    return seconds(timing.median, unit), f"{low} to {high} {unit}", p5, p95


def _unit(value: float, unit: str) -> tuple[str, float]:
    if unit:
        return unit, dict(_TIMES)[unit]
    return next(((name, scale) for name, scale in _TIMES if value >= scale), _TIMES[-1])


def _digits(value: float) -> str:
    """Four digits that count, six behind the point at most, never an exponent."""
    if value == 0 or not math.isfinite(value):
        return f"{value:.0f}"
    before = math.floor(math.log10(abs(float(f"{value:.3e}"))))  # rounded first: 999.99 has four before
    return f"{value:,.{min(6, max(0, 3 - before))}f}"


def _scaled(rate: float | None, scale: float) -> str:
    return "" if rate is None else _digits(rate / scale)


def _percent(row: Row, ceilings: Ceilings) -> str:
    share = share_of_peak(row, ceilings)
    return "" if share is None else f"{share:.0%}" if share >= 0.1 else f"{share:.1%}"


def _confidence(settings: dict[str, Any]) -> Any:
    bench = settings.get("bench")
    return bench.get("confidence") if isinstance(bench, dict) else None


def _interval_name(confidence: Any) -> str:
    return (
        f"{confidence:.2%}".replace(".00", "") + " interval" if isinstance(confidence, float) else "interval"
    )


def _flat(name: str, value: Any) -> list[tuple[str, str]]:
    if isinstance(value, dict):
        prefix = f"{name}." if name else ""
        return [line for key, each in value.items() for line in _flat(f"{prefix}{key}", each)]
    return [] if value is None or value == "" else [(name, _text(name, value))]


def _text(name: str, value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, (int, float)) and "bytes" in name:
        return _memory(value)
    if isinstance(value, Iterable) and not isinstance(value, str):
        return ", ".join(map(str, value)) or "none"
    return str(value)
