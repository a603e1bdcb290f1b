"""Rates from counted work and measured time, and how near they come to the ceilings. Pure."""

from asynckit.bench.results import Ceilings, Row

LINKS = "transfer"


def flops_per_second(row: Row) -> float | None:
    """Floating-point operations per second; None where none are counted or nothing was measured."""
    return _rate(row, row.flops)


def bytes_per_second(row: Row) -> float | None:
    """Bytes per second, likewise."""
    return _rate(row, row.bytes)


def tokens_per_second(row: Row) -> float | None:
    """Tokens per second, likewise."""
    return _rate(row, row.tokens)


def intensity(row: Row) -> float | None:
    """Floating-point operations per byte that has to be moved; None where either is not counted."""
    return row.flops / row.bytes if row.flops and row.bytes else None


def share_of_peak(row: Row, ceilings: Ceilings) -> float | None:
    """The measured rate over what the roofline allows a case of this intensity.

    The roof is the lower of the measured peak of its dtype (``parameters["dtype"]``) and its intensity times
    the measured bandwidth of memory. A case that only moves bytes is held against the bandwidth alone.
    Above 1 where a cache served what memory would have.

    Returns:
        None where a ceiling is missing, or the case has none: the bytes of the group ``transfer`` go over a
        link between devices.
    """
    if row.group == LINKS:
        return None
    reached = flops_per_second(row)
    if reached is not None:
        roof = roof_at(intensity(row), row.parameters.get("dtype"), ceilings)
        return reached / roof if roof else None
    moved, bandwidth = bytes_per_second(row), ceilings.bytes_per_second
    return moved / bandwidth if moved is not None and bandwidth else None


def roof_at(intensity: float | None, dtype: object, ceilings: Ceilings) -> float | None:
    """The most floating-point operations per second at an intensity; None where the dtype has no peak."""
    peak = ceilings.flops_per_second.get(str(dtype))
    if peak is None:
        return None
    if intensity is None or ceilings.bytes_per_second is None:
        return peak
    return min(peak, intensity * ceilings.bytes_per_second)


def _rate(row: Row, work: float | None) -> float | None:
    if work is None or row.timing is None or row.timing.median <= 0:
        return None
    return work / row.timing.median
