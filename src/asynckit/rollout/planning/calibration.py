"""Step times fitted to the records of a run.

Records have no step times, but they say when samples' first and last tokens came, and
``step_counts`` how many steps lie between two such times. Who ran meanwhile is known, and
which prompts passed through the engine. So every interval is one equation

    seconds = step x steps + sequence x tokens made + prefill x prompt tokens

and least squares, with no negative solution, give the three numbers that ``simulated.*`` calls
``step_seconds``, ``sequence_seconds`` and ``prefill_token_seconds``.

Which replica made a sample is not recorded. With several, the intervals are those from samples' first to last
tokens, and each replica counts as having made its share of all tokens meanwhile. Nor is recorded how often a
sample was preempted, which makes the counts of steps wrong: where they fit badly, those intervals are tried.

How well the numbers fit is not taken on trust: the recorded groups, with their own lengths, are simulated
again with them, and the makespan is compared with the recorded one.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from typing import TYPE_CHECKING

from asynckit.engine.config import EngineConfig
from asynckit.engine.prefix_cache import extend_hashes
from asynckit.engine.simulated_config import SimulatedConfig
from asynckit.errors import InputError
from asynckit.rollout.backlog import places_for
from asynckit.rollout.planning.simulation import Setup, simulate
from asynckit.rollout.planning.step_counts import count_steps
from asynckit.rollout.planning.workload import RecordedSample, groups_from_records

if TYPE_CHECKING:
    import numpy as np

_FEWEST = 8  # samples of two tokens or more
_GOOD = 0.05  # of the makespan: a fit that is nearer is not doubted


@dataclass(frozen=True)
class StepTimes:
    """Seconds per step, per sequence in it, and per prompt token in it."""

    step: float
    sequence: float
    prefill_token: float


@dataclass(frozen=True)
class Calibration:
    """Fitted step times, and how well they fit.

    Attributes:
        times: the numbers.
        samples: equations that they were fitted to.
        explained: share of the variance of the samples' durations that they explain (R squared).
        recorded_makespan: seconds from the first group's start to the last token of the run.
        replayed_makespan: the same by simulation of the recorded groups.
    """

    times: StepTimes
    samples: int
    explained: float
    recorded_makespan: float
    replayed_makespan: float

    @property
    def error(self) -> float:
        """How far the replay is off: 0.05 is 5 % too long."""
        return self.replayed_makespan / self.recorded_makespan - 1


def calibrate(
    samples: Sequence[RecordedSample], *, engine: EngineConfig, simulated: SimulatedConfig, replicas: int
) -> Calibration:
    """Fit step times to a run, and try them on it.

    Args:
        samples: of the run.
        engine: the run's settings.
        simulated: likewise; only sizes matter.
        replicas: that the run had.

    Raises:
        InputError: the run is too short to say anything.
    """
    groups = groups_from_records(samples)
    places = places_for(engine.max_running, max(group.request.n for group in groups))
    began, ended = min(sample.start for sample in samples), max(sample.end for sample in samples)
    found = []
    for counted in (True, False) if replicas == 1 else (False,):
        times, used, explained = fit(samples, engine.block_size, replicas, counted=counted)
        replay = simulate(Setup(engine, with_times(simulated, times), replicas, places), groups)
        found.append(Calibration(times, used, explained, ended - began, replay.makespan))
        if abs(found[-1].error) <= _GOOD:
            return found[-1]
    return min(found, key=lambda each: abs(each.error))


def with_times(simulated: SimulatedConfig, times: StepTimes) -> SimulatedConfig:
    """The settings with fitted step times."""
    return replace(
        simulated,
        step_seconds=f"constant({times.step!r})",
        sequence_seconds=times.sequence,
        prefill_token_seconds=times.prefill_token,
    )


def fit(
    samples: Sequence[RecordedSample], block_size: int, replicas: int, *, counted: bool
) -> tuple[StepTimes, int, float]:
    """Step times, the number of samples that they rest on, and the share of variance they explain.

    Args:
        samples: of the run.
        block_size: of its KV cache.
        replicas: that it had.
        counted: whether to count steps, which takes one replica and no preemption.

    Raises:
        InputError: there are too few samples of two tokens or more, or they took no time.
    """
    import numpy as np

    long = [sample for sample in samples if sample.tokens > 1 and sample.end > sample.first_token]
    if len(long) < _FEWEST:
        raise InputError(
            f"step times can't be fitted to {len(long)} samples of more than one token",
            mend=f"use a run with at least {_FEWEST}",
        )
    rows = _counted(samples, block_size) if counted else _shared(long, samples, block_size, replicas)
    weight = 1 / np.sqrt(rows.steps)  # steps vary each on its own
    found = _least_squares(rows.causes * weight[:, None], rows.seconds * weight)
    tried = _shared(long, samples, block_size, replicas)
    rest = tried.seconds - tried.causes @ found
    spread = float(np.sum((tried.seconds - np.mean(tried.seconds)) ** 2))
    explained = 1 - float(rest @ rest) / spread if spread else 1.0
    return StepTimes(float(found[0]), float(found[1]), float(found[2])), len(long), explained


@dataclass(frozen=True)
class _Rows:
    """Equations: seconds, steps, and the causes in columns (steps, tokens made, prompt tokens)."""

    seconds: "np.ndarray"
    steps: "np.ndarray"
    causes: "np.ndarray"


def _counted(samples: Sequence[RecordedSample], block_size: int) -> _Rows:
    """One equation per interval between two times of a single engine: all is known exactly."""
    import numpy as np

    begin, end, steps = np.array(count_steps(samples), dtype=float).T
    firsts = np.sort([sample.first_token for sample in samples])
    ends = np.sort([sample.end for sample in samples])
    throughout = np.searchsorted(firsts, begin, side="right") - np.searchsorted(ends, end, side="left")
    joined = np.searchsorted(firsts, end, side="right") - np.searchsorted(firsts, end, side="left")
    prefilled = _prefilled_by(samples, end, block_size) - _prefilled_by(samples, begin, block_size)
    return _Rows(end - begin, steps, np.stack([steps, throughout * steps + joined, prefilled], axis=1))


def _shared(
    long: Sequence[RecordedSample], samples: Sequence[RecordedSample], block_size: int, replicas: int
) -> _Rows:
    """One equation per sample of two tokens or more, of an engine that made its share of all tokens."""
    import numpy as np

    first = np.array([sample.first_token for sample in long])
    end = np.array([sample.end for sample in long])
    steps = np.array([sample.tokens - 1.0 for sample in long])
    made = (_made_by(samples, end) - _made_by(samples, first)) / replicas
    prefilled = _prefilled_by(samples, end, block_size) - _prefilled_by(samples, first, block_size)
    return _Rows(end - first, steps, np.stack([steps, made, prefilled / replicas], axis=1))


def _made_by(samples: Sequence[RecordedSample], when: "np.ndarray") -> "np.ndarray":
    """Tokens that all samples together had at each of the times, evenly between a sample's first and last."""
    import numpy as np

    first = np.array([sample.first_token for sample in samples])
    end = np.array([sample.end for sample in samples])
    tokens = np.array([sample.tokens for sample in samples], dtype=float)
    lasting = np.maximum(end - first, 1e-12)
    rate = np.where(tokens > 1, (tokens - 1) / lasting, 0.0)
    times = np.concatenate([first, end])
    order = np.argsort(times, kind="stable")
    times = times[order]
    rates = np.cumsum(np.concatenate([rate, -rate])[order])  # after each of the times
    jumps = np.cumsum(np.concatenate([np.ones(len(first)), np.zeros(len(end))])[order])
    grown = np.concatenate([[0.0], np.cumsum(rates[:-1] * np.diff(times))])
    place = np.searchsorted(times, when, side="right") - 1
    total: np.ndarray = grown[place] + rates[place] * (when - times[place]) + jumps[place]
    return total


def _prefilled_by(samples: Sequence[RecordedSample], when: "np.ndarray", block_size: int) -> "np.ndarray":
    """Prompt tokens that had passed through the engines at each of the times; cached beginnings did not."""
    import numpy as np

    computed = _computed_tokens(samples, block_size)
    order = sorted(range(len(samples)), key=lambda index: samples[index].first_token)
    times = np.array([samples[index].first_token for index in order])
    total = np.concatenate([[0.0], np.cumsum([computed[index] for index in order])])
    passed: np.ndarray = total[np.searchsorted(times, when, side="right")]
    return passed


def _computed_tokens(samples: Sequence[RecordedSample], block_size: int) -> list[int]:
    """Prompt tokens that each sample computed: none where it joined a sibling, the rest of a known prefix."""
    known: set[bytes] = set()
    joined: set[tuple[str, float]] = set()
    computed = [0] * len(samples)
    for index in sorted(range(len(samples)), key=lambda index: samples[index].first_token):
        sample = samples[index]
        pass_of_group = (sample.group_id, sample.first_token)  # equal times are one pass: the others joined
        if pass_of_group in joined:
            continue
        joined.add(pass_of_group)
        hashes: list[bytes] = []
        extend_hashes(hashes, sample.prompt_ids, block_size)
        usable = hashes[: (len(sample.prompt_ids) - 1) // block_size]
        prefix = next((place for place, digest in enumerate(usable) if digest not in known), len(usable))
        computed[index] = len(sample.prompt_ids) - prefix * block_size
        known.update(hashes)
    return computed


def _least_squares(causes: "np.ndarray", effects: "np.ndarray") -> "np.ndarray":
    """The solution without negative numbers whose squared error is smallest, of all subsets of the causes."""
    import numpy as np

    width = causes.shape[1]
    best, least = np.zeros(width), float(effects @ effects)
    for size in range(1, width + 1):
        for chosen in combinations(range(width), size):
            part = causes[:, chosen]
            solution = np.linalg.lstsq(part, effects, rcond=None)[0]
            error = float(np.sum((effects - part @ solution) ** 2))
            if (solution >= 0).all() and error < least:
                best, least = np.zeros(width), error
                best[list(chosen)] = solution
    return best
