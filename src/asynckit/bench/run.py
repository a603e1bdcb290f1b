"""A run of the benchmark: cases one after another, each with the machine's state before and after it."""

import gc
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import msgspec

from asynckit import __version__
from asynckit.bench.cases.case import Case
from asynckit.bench.config import BenchConfig
from asynckit.bench.devices import choose_device
from asynckit.bench.environment import open_watch
from asynckit.bench.prediction import find_ceilings, predict
from asynckit.bench.results import Ceilings, Report, Row
from asynckit.bench.running import STOPPED, profile_case, run_case, without_times
from asynckit.bench.subject import find_subject
from asynckit.bench.suite import Suite, share_out
from asynckit.bench.timing import check_settings
from asynckit.bench.trust import doubts
from asynckit.engine.config import EngineConfig
from asynckit.models.config import ModelConfig

if TYPE_CHECKING:
    from asynckit.bench.environment import Watch

Told = Callable[[int, int, str], None]


def make_suite(
    model: ModelConfig, engine: EngineConfig, config: BenchConfig, device: str, *, lora_compute: bool
) -> Suite:
    """The cases that there are, for a device; nothing is loaded before a case needs it."""
    return Suite(
        device,
        lambda: find_subject(model, progress=True),
        config=config,
        engine=engine,
        lora_compute=lora_compute,
    )


def run_suite(
    patterns: Sequence[str],
    *,
    model: ModelConfig,
    engine: EngineConfig,
    config: BenchConfig,
    lora_compute: bool,
    settings: dict[str, Any],
    told: Told = lambda _done, _all, _key: None,
) -> Report:
    """Measure what was asked for, or the default suite.

    A case that fails is a row without times that says why, and does not end the run. Ctrl-C ends it; the
    cases that are left are rows without times, whose reason is :data:`asynckit.bench.running.STOPPED`.

    Args:
        patterns: of ``--case``.
        model: whose shapes and weights are measured.
        engine: of the cases that run it.
        config: how to measure.
        lora_compute: off leaves the arithmetic of adapters out.
        settings: that are kept in the report.
        told: hears how many cases are done, of how many, and the key of the next.

    Raises:
        DependencyError: there is no such device, or the model cannot be had.
        UsageError: a pattern selects nothing.
        ConfigError: a setting is outside its bounds.
    """
    begun = _now()
    check_settings(config)
    device = choose_device(config.device)
    suite = make_suite(model, engine, config, device.kind, lora_compute=lora_compute)
    try:
        cases = suite.cases(patterns)
        timed = config if patterns else share_out(config, sum(not case.needs_gpus for case in cases))
        with open_watch(device.kind) as watch:
            environment = watch.describe()
            rows: list[Row] = []
            try:
                for done, case in enumerate(cases):
                    told(done, len(cases), case.key)
                    rows.append(_row(case, device.kind, timed, watch))
                    gc.collect()
                told(len(cases), len(cases), "")
            except KeyboardInterrupt:  # what was measured is worth keeping
                rows += [without_times(case, device.kind, STOPPED) for case in cases[len(rows) :]]
        ceilings = find_ceilings(rows)
        return Report(
            asynckit=__version__,
            begun=begun,
            device=device.kind,
            environment=environment,
            settings=settings,
            rows=tuple(rows),
            ceilings=ceilings,
            predictions=_predictions(suite, ceilings, rows),
        )
    finally:
        suite.close()


def describe_machine(device: str) -> Report:
    """A report without rows.

    Raises:
        DependencyError: there is no such device.
    """
    kind = choose_device(device).kind
    with open_watch(kind) as watch:
        return Report(
            asynckit=__version__,
            begun=_now(),
            device=kind,
            environment=watch.describe(),
            settings={},
            rows=(),
            ceilings=Ceilings(flops_per_second={}, bytes_per_second=None),
        )


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


def profile_suite(
    patterns: Sequence[str],
    *,
    model: ModelConfig,
    engine: EngineConfig,
    config: BenchConfig,
    lora_compute: bool,
    told: Told = lambda _done, _all, _key: None,
) -> list[str]:
    """Run each case once in an NVTX range of its name, for nsys and ncu; returns the keys of those that ran.

    Raises as :func:`run_suite` does.
    """
    device = choose_device(config.device)
    suite = make_suite(model, engine, config, device.kind, lora_compute=lora_compute)
    ran = []
    try:
        cases = suite.cases(patterns)
        for done, case in enumerate(cases):
            told(done, len(cases), case.key)
            if not profile_case(case, device.kind):
                ran.append(case.key)
        told(len(cases), len(cases), "")
    finally:
        suite.close()
    return ran


def _row(case: Case, device: str, config: BenchConfig, watch: "Watch") -> Row:
    """Measure a case, and add what the machine did meanwhile to what speaks against the times."""
    before = watch.read()
    row = run_case(case, device, config)
    if row.timing is None:
        return row
    found = (*row.doubts, *doubts(row.timing, before, watch.read()))
    return msgspec.structs.replace(row, doubts=found, trusted=not found)


def _predictions(suite: Suite, ceilings: Ceilings, rows: Sequence[Row]) -> tuple[Any, ...]:
    """What the ceilings allow the model, if one was looked at."""
    if "subject" not in suite.__dict__:
        return ()
    return predict(suite.subject.shape, suite.dtype, ceilings, rows)
