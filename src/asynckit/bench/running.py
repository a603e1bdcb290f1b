"""One case, prepared, measured, and written down as a row; a case that fails costs its row and no other."""

import logging
from typing import TYPE_CHECKING

from asynckit.bench.cases.case import Case, count_gpus, reason_against
from asynckit.bench.config import BenchConfig
from asynckit.bench.results import Row
from asynckit.user_code import describe

if TYPE_CHECKING:
    from asynckit.bench.timing import Measurement

FAILED = "failed: "

log = logging.getLogger(__name__)


def run_case(case: Case, device: str, config: BenchConfig) -> Row:
    """Measure a case.

    Args:
        case: what to measure.
        device: ``cuda`` or ``cpu``.
        config: how.

    Returns:
        Its row. Without a timing, the reason says why; one that begins with :data:`FAILED` is an error of the
        case (see :func:`failed`), any other says what the machine or the model lacks.
    """
    if reason := reason_against(case, device, count_gpus(device)):
        return _row(case, device, reason=reason)
    try:
        return _row(case, device, _measure(case, device, config))
    # Whatever a case raises (no memory, a person's function), the others are measured; the command counts
    # failures.
    except Exception as error:
        log.debug("%s failed", case.key, exc_info=True)
        return _row(case, device, reason=FAILED + _told(error))


def profile_case(case: Case, device: str) -> str:
    """Run a case once in an NVTX range of its name, for nsys and ncu; returns why not, or nothing.

    Raises:
        Exception: whatever the case raises.
    """
    from asynckit.bench.timing import run_once

    if reason := reason_against(case, device, count_gpus(device)):
        return reason
    prepared = case.make(device)
    try:
        run_once(prepared.function, setup=prepared.setup, device=device, name=case.key)
    finally:
        prepared.close()
    return ""


def failed(row: Row) -> bool:
    """Whether measuring it ended with an error."""
    return row.timing is None and row.reason.startswith(FAILED)


def _measure(case: Case, device: str, config: BenchConfig) -> "Measurement":
    from asynckit.bench.timing import measure

    prepared = case.make(device)
    try:
        return measure(
            prepared.function,
            setup=prepared.setup,
            device=device,
            clock=case.clock or None,
            cache=case.cache or None,
            config=config,
            name=case.key,
        )
    finally:
        prepared.close()


def _row(case: Case, device: str, measured: "Measurement | None" = None, reason: str = "") -> Row:
    return Row(
        case=case.name,
        variant=case.variant,
        group=case.group,
        device=device,
        timing=measured.timing if measured else None,
        reason=reason,
        flops=case.counts.flops,
        bytes=case.counts.bytes,
        tokens=case.counts.tokens,
        peak_memory_bytes=measured.peak_memory_bytes if measured else None,
        trusted=measured.trusted if measured else not reason.startswith(FAILED),
        doubts=measured.doubts if measured else (),
        parameters=case.parameters,
    )


def _told(error: Exception) -> str:
    from asynckit.errors import AsynckitError

    return str(error) if isinstance(error, AsynckitError) else describe(error)
