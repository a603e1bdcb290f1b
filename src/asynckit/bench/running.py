"""One case, prepared, measured, and written down as a row; a case that fails costs its row and no other."""

import logging
from typing import TYPE_CHECKING

from asynckit.bench.cases.case import Case, count_gpus, reason_against
from asynckit.bench.config import BenchConfig
from asynckit.bench.results import Row
from asynckit.errors import AsynckitError, UsageError, WorkFailed
from asynckit.user_code import describe, stdout_to_stderr

if TYPE_CHECKING:
    from asynckit.bench.timing import Measurement

FAILED = "failed: "
STOPPED = "the run was stopped before"

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

    Raises:
        UsageError: the device doesn't have the configured clock.
    """
    if reason := reason_against(case, device, count_gpus(device)):
        return _row(case, device, reason=reason)
    try:
        with stdout_to_stderr():  # stdout is for the command's own data
            measured = _measure(case, device, config)
    except UsageError:
        raise
    # Whatever else a case raises (no memory, a person's function), the others are measured; the command
    # counts failures.
    except (Exception, SystemExit) as error:
        log.debug("%s failed", case.key, exc_info=True)
        return _row(case, device, reason=FAILED + _told(error))
    return _row(case, device, measured)


def profile_case(case: Case, device: str) -> str:
    """Run a case once in an NVTX range of its name, for nsys and ncu; returns why not, or nothing.

    Raises:
        WorkFailed: the case raised something.
    """
    if reason := reason_against(case, device, count_gpus(device)):
        return reason
    try:
        with stdout_to_stderr():
            _profile(case, device)
    except (Exception, SystemExit) as error:  # a case may raise anything at all
        raise WorkFailed(FAILED + _told(error), where=case.key, mend="leave this case out") from error
    return ""


def _profile(case: Case, device: str) -> None:
    from asynckit.bench.timing import run_once

    prepared = case.make(device)
    try:
        run_once(prepared.function, setup=prepared.setup, device=device, name=case.key)
    finally:
        prepared.close()


def without_times(case: Case, device: str, reason: str) -> Row:
    """The row of a case that was not measured."""
    return _row(case, device, reason=reason)


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


def _told(error: BaseException) -> str:
    return str(error) if isinstance(error, AsynckitError) else describe(error)
