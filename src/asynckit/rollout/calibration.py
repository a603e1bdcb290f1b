"""Step times fitted to the records of a run.

A record has no step times, but it says when a sample's first and last tokens came and how many tokens lie
between, each of which took a step. While they were made, the other samples made theirs, and prompts passed
through the engine. So every sample is one equation

    end - first token = step x (tokens - 1) + sequence x all tokens + prefill x prompt tokens meanwhile

So is the single step in which a sample starts in the place of one that has just ended: it shows what prefill
takes. Least squares, with no negative solution, give the three numbers that ``simulated.*`` calls
``step_seconds``, ``sequence_seconds`` and ``prefill_token_seconds``. Which replica made a sample is not
recorded: of several replicas each counts as having made its share, and single steps are left out. Times in
which a sequence was preempted are not recorded either: runs that are short of KV cache fit badly.

How well the numbers fit is not taken on trust: the recorded groups, with their own lengths, are simulated
again with them, and the makespan is compared with the recorded one.
"""

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import combinations, pairwise
from typing import TYPE_CHECKING

from asynckit.engine.config import EngineConfig
from asynckit.engine.prefix_cache import extend_hashes
from asynckit.engine.simulated_config import SimulatedConfig
from asynckit.errors import InputError
from asynckit.rollout.simulation import Setup, places_for, simulate
from asynckit.rollout.workload import RecordedSample, groups_from_records

if TYPE_CHECKING:
    import numpy as np

_FEWEST = 8  # samples of two tokens or more


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
    times, used, explained = fit(samples, block_size=engine.block_size, replicas=replicas)
    replay = simulate(Setup(engine, with_times(simulated, times), replicas, places), groups)
    began, ended = min(s.start for s in samples), max(s.end for s in samples)
    return Calibration(times, used, explained, ended - began, replay.makespan)


def with_times(simulated: SimulatedConfig, times: StepTimes) -> SimulatedConfig:
    """The settings with fitted step times."""
    return replace(
        simulated,
        step_seconds=f"constant({times.step!r})",
        sequence_seconds=times.sequence,
        prefill_token_seconds=times.prefill_token,
    )


def fit(samples: Sequence[RecordedSample], *, block_size: int, replicas: int) -> tuple[StepTimes, int, float]:
    """Step times, the number of samples that they rest on, and the share of variance they explain.

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
    spans = [(sample.first_token, sample.end, sample.tokens - 1.0) for sample in long]
    if replicas == 1:
        spans += [(before, after, 1.0) for before, after in _admissions(samples)]
    begin, end, steps = np.array(spans).T
    made = _made_by(samples, np.concatenate([begin, end])) / replicas
    passed = _prefilled_by(samples, np.concatenate([begin, end]), block_size) / replicas
    count = len(spans)
    meanwhile = made[count:] - made[:count]
    meanwhile[len(long) :] = _running_at(samples, end[len(long) :])  # exactly, as each makes one in one step
    causes = np.stack([steps, meanwhile, passed[count:] - passed[:count]], axis=1)
    weight = 1 / np.sqrt(steps)  # steps vary each on its own
    found = _least_squares(causes * weight[:, None], (end - begin) * weight)
    seconds = (end - begin)[: len(long)]
    rest = seconds - (causes @ found)[: len(long)]
    spread = float(np.sum((seconds - np.mean(seconds)) ** 2))
    explained = 1 - float(rest @ rest) / spread if spread else 1.0
    return StepTimes(float(found[0]), float(found[1]), float(found[2])), len(long), explained


def _admissions(samples: Sequence[RecordedSample]) -> list[tuple[float, float]]:
    """Begin and end of steps that start a sample in the place of one that has just ended."""
    firsts = sorted({sample.first_token for sample in samples})
    ends = sorted({sample.end for sample in samples})
    found = []
    for before, first in pairwise(firsts):
        place = bisect_left(ends, first) - 1
        if place >= 0 and ends[place] >= before:
            found.append((ends[place], first))
    return found


def _running_at(samples: Sequence[RecordedSample], when: "np.ndarray") -> "np.ndarray":
    """How many samples got a token in the step that ended at each of the times."""
    import numpy as np

    firsts = np.sort([sample.first_token for sample in samples])
    ends = np.sort([sample.end for sample in samples])
    count: np.ndarray = np.searchsorted(firsts, when, side="right") - np.searchsorted(ends, when, side="left")
    return count


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
