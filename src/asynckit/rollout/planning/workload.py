"""What a forecast runs: groups made from prompts as the run makes them, or from the records of one."""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from asynckit.engine.config import SamplingParams
from asynckit.engine.lengths import length_shares, parse_lengths
from asynckit.engine.request import Request
from asynckit.errors import InputError
from asynckit.rollout.group import group_seed
from asynckit.rollout.planning.simulation import SimulatedGroup
from asynckit.rollout.prompting.prompt_stream import PromptStream
from asynckit.rollout.prompting.prompts import Prompt
from asynckit.rollout.sinks import read_trajectories

_GENERATED = ("completed", "truncated", "stale", "filtered")  # statuses of samples that the engine ended


@dataclass(frozen=True)
class RecordedSample:
    """What a record says about one sample's generation; times are seconds since the run began."""

    group_id: str
    prompt_ids: tuple[int, ...]
    tokens: int
    start: float
    first_token: float
    end: float


def groups_from_prompts(
    stream: PromptStream,
    encode: Callable[[Prompt], tuple[int, ...]],
    *,
    n: int,
    sampling: SamplingParams,
    total: int | None,
) -> list[SimulatedGroup]:
    """The groups of a run, one per position of its prompts; their lengths are drawn later.

    Seeds are the run's, so that the simulated engine gives the same lengths there and here.

    Args:
        stream: the prompts.
        encode: gives the token ids of one.
        n: samples per group.
        sampling: of the run; its seed is the base of the groups' seeds.
        total: groups; None for all epochs of the prompts.
    """
    groups = []
    for number in range(len(stream) if total is None else total):
        prompt = stream.at(number)
        params = SamplingParams(**{**asdict(sampling), "seed": group_seed(prompt, sampling.seed)})
        groups.append(SimulatedGroup(Request(str(number), encode(prompt), params, n)))
    return groups


def with_lengths(groups: Sequence[SimulatedGroup], response_tokens: str) -> list[SimulatedGroup]:
    """The groups with the lengths that the simulated engine draws for them, to be simulated many times.

    Raises:
        ConfigError: ``response_tokens`` is no distribution.
        InputError: the trace of lengths can't be used.
    """
    draw = parse_lengths(response_tokens, where="simulated.response_tokens")
    drawn = (
        tuple(draw(len(group.request.prompt_ids), share) for share in length_shares(group.request))
        for group in groups
    )
    return [replace(group, lengths=lengths) for group, lengths in zip(groups, drawn, strict=True)]


def read_recorded(folder: Path) -> list[RecordedSample]:
    """The samples of a run that its engine brought to an end, in the order in which their groups started.

    Raises:
        InputError: the run's records can't be read, have no times, or come from more than one attempt, whose
            times don't belong together.
    """
    attempts = sorted(path.name for path in (folder / "logs").glob("attempt-*"))
    if len(attempts) > 1:
        raise InputError(
            f"the run was interrupted and resumed ({len(attempts)} attempts), so its times have gaps",
            where=str(folder),
            mend="fit a run that went through in one go",
        )
    found = []
    for record in read_trajectories(folder / "trajectories"):
        times = record.timing
        if record.status in _GENERATED and None not in (times.start, times.first_token, times.end):
            assert times.start is not None
            assert times.first_token is not None
            assert times.end is not None
            found.append(
                RecordedSample(
                    record.group_id,
                    tuple(record.prompt_ids),
                    len(record.response_ids),
                    times.start,
                    times.first_token,
                    times.end,
                )
            )
    if not found:
        raise InputError("no sample in it has a response and its times", where=str(folder))
    return sorted(found, key=lambda sample: sample.start)


def groups_from_records(samples: Sequence[RecordedSample]) -> list[SimulatedGroup]:
    """The recorded groups again, with the lengths that they had, in the order in which they started."""
    by_group: dict[str, list[RecordedSample]] = {}
    for sample in samples:
        by_group.setdefault(sample.group_id, []).append(sample)
    groups = []
    for number, (name, members) in enumerate(by_group.items()):
        params = SamplingParams(max_tokens=max(sample.tokens for sample in members), seed=number)
        request = Request(name, members[0].prompt_ids, params, n=len(members))
        groups.append(SimulatedGroup(request, tuple(sample.tokens for sample in members)))
    return groups
