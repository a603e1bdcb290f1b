"""The settings between generation and learner, tried one after the other in virtual time."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import product

from asynckit.engine.counter import uniform
from asynckit.engine.distributions import parse_distribution
from asynckit.rollout.config import AsyncTrainingConfig, LearnerConfig
from asynckit.rollout.planning.simulation import Learning, Prediction, Setup, SimulatedGroup, simulate
from asynckit.rollout.staleness import Policy, Schedule

_THRESHOLDS = (0.1, 0.5, 1.0, 2.0)
_SAMPLES = 1500  # of one try, so that the sweep takes seconds
_VERSIONS = 6  # at least, whatever a version needs
_AS_GOOD = 1.02  # of the shortest makespan: what is within chooses by staleness


@dataclass(frozen=True)
class Knobs:
    """One combination of settings: ``rollout.mode`` and the section ``async_training``."""

    mode: str
    settings: AsyncTrainingConfig

    def line(self) -> str:
        """The settings as a person types them."""
        if self.mode == "sync":
            return "rollout.mode=sync"
        chosen = self.settings
        return (
            f"rollout.mode=async async_training.staleness_threshold={chosen.staleness_threshold:g} "
            f"async_training.policy={chosen.policy} "
            f"async_training.partial_rollout={str(chosen.partial_rollout).lower()}"
        )


@dataclass(frozen=True)
class Try:
    """What one combination would do; ``speed_up`` is the makespan in sync mode over its own."""

    knobs: Knobs
    prediction: Prediction
    speed_up: float


@dataclass(frozen=True)
class Sweep:
    """All tries, the shortest makespan first.

    Attributes:
        tries: at least the present settings and sync.
        groups: that each try ran: the first ones of the run.
        best: the least stale of those that are about as fast as the fastest and drop no group.
    """

    tries: tuple[Try, ...]
    groups: int
    best: Try


def learning_of(
    knobs: Knobs,
    learner: LearnerConfig,
) -> Learning | None:
    """The learner of a configuration; None for none.

    Raises:
        ConfigError: ``learner.step_seconds`` is no distribution.
    """
    if learner.kind == "none":
        return None
    quantile = parse_distribution(learner.step_seconds, where="learner.step_seconds")
    return Learning(
        Schedule.of(knobs.settings, learner, mode=knobs.mode),
        lambda step: quantile(uniform(learner.seed, 1, step)),
        knobs.settings.partial_rollout,
        knobs.settings.on_update,
    )


def sweep(
    setup: Setup, groups: Sequence[SimulatedGroup], present: Knobs, learner: LearnerConfig
) -> Sweep | None:
    """Try the combinations on the first groups of a run; None without a learner, where nothing differs.

    ``max_staleness`` and ``on_update`` stay as they are.
    """
    if learner.kind == "none":
        return None
    some = groups[: _enough(groups, present, learner)]
    found = {
        knobs: simulate(replace(setup, learning=learning_of(knobs, learner)), some)
        for knobs in _grid(present)
    }
    sync = next(prediction.makespan for knobs, prediction in found.items() if knobs.mode == "sync")
    tries = sorted(
        (Try(knobs, result, sync / max(result.makespan, 1e-9)) for knobs, result in found.items()),
        key=lambda each: each.prediction.makespan,
    )
    return Sweep(tuple(tries), len(some), _best(tries))


def _enough(groups: Sequence[SimulatedGroup], present: Knobs, learner: LearnerConfig) -> int:
    """How many groups a try runs."""
    n = groups[0].request.n
    version = Schedule.of(present.settings, learner, mode=present.mode).groups_per_version
    return max(_SAMPLES // n, _VERSIONS * version)


def _grid(present: Knobs) -> Iterator[Knobs]:
    """The present settings, sync, and what lies around; none that breaks a bound which is set."""
    seen = set()
    most = present.settings.max_staleness
    thresholds = sorted({*_THRESHOLDS, present.settings.staleness_threshold} - {0.0})
    around = [
        Knobs(
            "async",
            replace(present.settings, staleness_threshold=threshold, policy=policy, partial_rollout=on),
        )
        for threshold, policy, on in product(
            (threshold for threshold in thresholds if most is None or threshold <= most),
            map(str, Policy),
            (True, False),
        )
    ]
    for knobs in (present, Knobs("sync", present.settings), *around):
        if (line := knobs.line()) not in seen:
            seen.add(line)
            yield knobs


def _best(tries: Sequence[Try]) -> Try:
    whole = [each for each in tries if not each.prediction.groups.get("stale")]
    limit = min(each.prediction.makespan for each in whole) * _AS_GOOD
    return min(
        (each for each in whole if each.prediction.makespan <= limit),
        key=lambda each: (each.prediction.max_age, each.prediction.mean_age, each.prediction.makespan),
    )
