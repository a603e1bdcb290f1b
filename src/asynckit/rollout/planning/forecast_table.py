"""A forecast as a person reads it."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

from asynckit.rollout.planning.forecast import Forecast
from asynckit.rollout.planning.sweep import Sweep, Try

if TYPE_CHECKING:
    from rich.console import RenderableType

_TOLERATED = 0.1  # of the makespan: a fit that is further off is called bad
_SHOWN = 12


def render(forecast: Forecast) -> "Iterator[RenderableType]":
    """Tables and lines to print one after the other."""
    from rich.table import Table

    table = Table(title="forecast", show_header=False, title_justify="left")
    table.add_column(style="bold")
    table.add_column(overflow="fold")
    for row in _rows(forecast):
        table.add_row(*row)
    yield table
    if forecast.sweep:
        yield _sweep_table(forecast.sweep, forecast.present.line())
        yield f"recommended: {forecast.sweep.best.knobs.line()}"


def warnings(forecast: Forecast) -> Iterator[str]:
    """What a reader should know before believing the forecast."""
    if forecast.guessed:
        yield (
            "the step times are those of simulated.*, not of this model and machine: fit them to a short "
            "run with --from-run runs/NAME"
        )
    if failed := forecast.prediction.samples.get("failed"):
        yield f"the engine would refuse the prompts of {failed} samples: --dry-run says why"
    if forecast.recorded_running not in (None, forecast.max_running):
        yield (
            f"the recorded run had engine.max_running={forecast.recorded_running}: step times for "
            f"{forecast.max_running} sequences are extrapolated"
        )
    for name in forecast.left_out:
        yield f"{name} is left out of the forecast: the run will take longer"
    fit = forecast.calibration
    if fit and abs(fit.error) > _TOLERATED:
        yield (
            f"the step times fit badly: the recorded run, simulated with them, is {fit.error:+.0%} off; fit "
            "a longer run with rollout.replicas=1"
        )


def _rows(forecast: Forecast) -> Iterator[tuple[str, str]]:
    found = forecast.prediction
    yield "settings", forecast.present.line() if found.learner_idle is not None else "no learner"
    yield "groups", f"{forecast.groups} of {forecast.n} samples on {_many(forecast.replicas, 'replica')}"
    yield "makespan", f"{found.makespan:,.1f} s from the engines being ready"
    yield "ends", ", ".join(f"{count} {status}" for status, count in found.samples.items())
    yield "response tokens", f"{found.response_tokens:,} ({found.tokens_per_second:,.1f} per second)"
    yield "engines idle", ", ".join(f"{share:.1%}" for share in found.replica_idle)
    if found.learner_idle is not None:
        yield "learner idle", f"{found.learner_idle:.1%}"
        yield "trained", f"{_many(found.batches, 'batch', 'batches')}, {_many(found.versions, 'version')}"
        total = max(1, sum(found.ages.values()))
        ages = ", ".join(f"{age}: {tokens / total:.1%}" for age, tokens in found.ages.items())
        yield "token ages", f"in versions, {ages}"
        yield "waiting groups", f"{found.queue_mean:.1f} on average, {found.queue_max} at most"
    if found.preemptions:
        yield "preemptions", f"{found.preemptions:,}: the KV cache is short"
    if fit := forecast.calibration:
        times = fit.times
        text = f"{times.step * 1e3:.2f} ms + {times.sequence * 1e3:.3f} per sequence"
        yield "step times", f"{text} + {times.prefill_token * 1e3:.3f} per prompt token"
        text = f"{fit.explained:.1%} of the variance of {fit.samples} samples; the recorded run took"
        took, simulated = fit.recorded_makespan, fit.replayed_makespan
        yield "their fit", f"{text} {took:.1f} s, simulated {simulated:.1f} s ({fit.error:+.1%})"


def _many(count: int, one: str, more: str = "") -> str:
    return f"{count} {one if count == 1 else more or one + 's'}"


def _sweep_table(sweep: Sweep, present: str) -> "RenderableType":
    from rich.table import Table

    title = f"other settings, over {sweep.groups} groups (* as configured)"
    table = Table(title=title, title_justify="left")
    table.add_column("policy")
    for name in ("ahead", "partial", "seconds", "x sync", "age", "idle", "dropped"):
        table.add_column(name, justify="right")
    lines = [each.knobs.line() for each in sweep.tries]
    kept = {lines.index(present), lines.index("rollout.mode=sync"), sweep.tries.index(sweep.best)}
    for place, each in enumerate(sweep.tries):
        if place < _SHOWN or place in kept:
            table.add_row(*_cells(each, mark="*" if lines[place] == present else ""))
    return table


def _cells(each: Try, mark: str) -> tuple[str, ...]:
    found, chosen = each.prediction, each.knobs.settings
    engines = sum(found.replica_idle) / len(found.replica_idle)
    numbers = (
        f"{found.makespan:,.1f}",
        f"{each.speed_up:.2f}",
        f"{found.mean_age:.2f}/{found.max_age}",
        f"{engines:.0%}/{found.learner_idle or 0:.0%}",
        str(found.groups.get("stale", 0)),
    )
    if each.knobs.mode == "sync":
        return f"sync{mark}", "", "", *numbers
    partial = "yes" if chosen.partial_rollout else "no"
    return f"{chosen.policy}{mark}", f"{chosen.staleness_threshold:g}", partial, *numbers
