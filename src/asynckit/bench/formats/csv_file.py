"""The rows as CSV for spreadsheets and data frames: one line each, numbers in seconds, bytes and shares."""

import csv
import io
import json

from asynckit.bench.rates import bytes_per_second, flops_per_second, share_of_peak, tokens_per_second
from asynckit.bench.results import Report, Row
from asynckit.readable import readable

_ROW = ("case", "variant", "group", "device")
_TIMING = (
    *("median", "low", "high", "p5", "p95", "minimum", "relative_error", "repetitions", "calls", "warmup"),
    *("outliers", "drift", "converged", "clock", "cache"),
)
_COUNTS = ("flops", "bytes", "tokens", "peak_memory_bytes")
_RATES = ("flops_per_second", "bytes_per_second", "tokens_per_second", "share_of_peak")
HEADER = (*_ROW, *_TIMING, *_COUNTS, *_RATES, "trusted", "doubts", "reason", "parameters")


def to_csv(report: Report) -> str:
    """A header and a line per row; what is unknown is empty, parameters are JSON. Samples are left out."""
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(HEADER)
    writer.writerows(_line(row, report) for row in report.rows)
    return file.getvalue()


def _line(row: Row, report: Report) -> list[object]:
    timing = [None if row.timing is None else getattr(row.timing, name) for name in _TIMING]
    rates = (flops_per_second(row), bytes_per_second(row), tokens_per_second(row))
    return [
        *(readable(getattr(row, name)) for name in _ROW),
        *timing,
        *(getattr(row, name) for name in _COUNTS),
        *rates,
        share_of_peak(row, report.ceilings),
        row.trusted,
        readable("; ".join(row.doubts)),
        readable(row.reason),
        json.dumps(row.parameters, sort_keys=True),
    ]
