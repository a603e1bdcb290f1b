"""The unit of work: one prompt with its n samples, on the way in and on the way out."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import StrEnum

from asynckit.rollout.prompting.prompts import Prompt
from asynckit.rollout.record import Trajectory, group_id


class GroupStatus(StrEnum):
    """How a group ended."""

    COMPLETED = "completed"  # every sample has a response and a reward
    FAILED = "failed"  # at least one sample failed; its error says why
    STALE = "stale"  # it came too late for the learner, which took others instead
    FILTERED = "filtered"  # all its rewards are equal, so there is nothing to learn from it
    CANCELLED = "cancelled"  # the run was stopped first


@dataclass(frozen=True)
class Group:
    """A prompt to be answered n times.

    Attributes:
        id: stable over runs; see :func:`asynckit.rollout.record.group_id`.
        prompt: the prompt.
        n: samples.
        seed: of the request's randomness, derived from the run's seed and the group's id.
        queued: seconds on ``time.time()``'s clock when it became available.
    """

    id: str
    prompt: Prompt
    n: int
    seed: int
    queued: float


@dataclass(frozen=True)
class FinishedGroup:
    """A group's records and how it ended."""

    id: str
    status: GroupStatus
    trajectories: tuple[Trajectory, ...]


def consumed_at(group: FinishedGroup, version: int) -> FinishedGroup:
    """The group with records that say which policy version was trained on them."""
    trajectories = tuple(replace(each, consumed_version=version) for each in group.trajectories)
    return FinishedGroup(group.id, group.status, trajectories)


def ended_as(group: FinishedGroup, status: GroupStatus) -> FinishedGroup:
    """A completed group that ends as ``stale`` or ``filtered``, and its samples with it."""
    trajectories = tuple(replace(each, status=status.value) for each in group.trajectories)
    return FinishedGroup(group.id, status, trajectories)


def oldest_version(group: FinishedGroup) -> int | None:
    """The oldest policy version that sampled a token of the group; None without tokens."""
    known = [each.min_version for each in group.trajectories if each.min_version is not None]
    return min(known, default=None)


def all_equal(rewards: Sequence[float | None]) -> bool:
    """Whether a group's rewards leave nothing to learn from: every advantage would be 0."""
    return len(rewards) > 1 and len(set(rewards)) == 1


def group_seed(prompt: Prompt, run_seed: int) -> int:
    """The seed of one group's request: a different stream for every prompt, the same at every try.

    It doesn't depend on other settings: runs that differ in their reward alone score the same responses.
    """
    return int(group_id(prompt, run_seed, "")[:15], 16)


def advantages(rewards: Sequence[float | None]) -> list[float | None]:
    """Group-relative advantages ``(r - mean) / (std + 1e-6)``.

    The method is GRPO's (Shao et al. 2024, arXiv:2402.03300), the details are verl's. The standard deviation
    is the sample one; a group of one has advantage 0. Samples without a reward get None and don't count.
    """
    known = [reward for reward in rewards if reward is not None]
    if len(known) < 2:
        return [None if reward is None else 0.0 for reward in rewards]
    mean = math.fsum(known) / len(known)
    deviation = math.sqrt(math.fsum((reward - mean) ** 2 for reward in known) / (len(known) - 1))
    return [None if reward is None else (reward - mean) / (deviation + 1e-6) for reward in rewards]
