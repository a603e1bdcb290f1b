"""A group's records, put together from what was generated and how it scored."""

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from asynckit.engine.config import SamplingParams
from asynckit.engine.request import Finish
from asynckit.rollout.episodes.episode import Episode, version_spans
from asynckit.rollout.group import FinishedGroup, Group, GroupStatus, advantages, all_equal, ended_as
from asynckit.rollout.job import Job
from asynckit.rollout.record import EngineInfo, Timing, Trajectory, trajectory_uid
from asynckit.rollout.scoring.rewards import Failure, Score


def sampling_of(job: Job, group: Group) -> SamplingParams:
    """The run's sampling parameters with the group's own seed."""
    return SamplingParams(**{**asdict(job.sampling), "seed": group.seed})


def finished_group(
    job: Job,
    engine: EngineInfo,
    group: Group,
    *,
    attempt: int,
    prompt_ids: Sequence[int],
    episodes: Sequence[Episode],
    scores: Sequence[Score | Failure],
    virtual: bool,
) -> FinishedGroup:
    """The records of a group that was generated and scored, and how it ended.

    Args:
        job: the run.
        engine: what generated it.
        group: the group.
        attempt: how often it had been started.
        prompt_ids: token ids of its prompt.
        episodes: its samples.
        scores: one for each of them.
        virtual: whether the times of the episodes are a simulation's, which begins at 0.
    """
    values = [score.value if isinstance(score, Score) else None for score in scores]
    parts = zip(episodes, scores, advantages(values), strict=True)
    shared = {
        **_described(group, engine),
        "attempt": attempt,
        "prompt_ids": list(prompt_ids),
        "sampling": {**asdict(sampling_of(job, group)), "n": group.n},
    }
    zero, queued = (0.0, 0.0) if virtual else (job.began, group.queued - job.began)
    trajectories = tuple(
        Trajectory(
            uid=trajectory_uid(group.prompt, index, job.sampling.seed, job.identity),
            sample_index=index,
            timing=_timing(episode, zero, queued),
            advantage=advantage,
            **_generated(group, episode),
            **_scored(score, episode),
            **shared,
        )
        for index, (episode, score, advantage) in enumerate(parts)
    )
    if any(isinstance(score, Failure) for score in scores):
        return FinishedGroup(group.id, GroupStatus.FAILED, trajectories)
    done = FinishedGroup(group.id, GroupStatus.COMPLETED, trajectories)
    filtered = job.rollout.filter_groups and all_equal(values)
    return ended_as(done, GroupStatus.FILTERED) if filtered else done


def failed_group(group: Group, job: Job, error: str) -> FinishedGroup:
    """A group that ended without a response; every sample says why."""
    engine = EngineInfo(job.rollout.engine, job.model.name, "")
    trajectories = tuple(
        Trajectory(
            uid=trajectory_uid(group.prompt, index, job.sampling.seed, job.identity),
            sample_index=index,
            status="failed",
            messages=group.prompt.chat(),
            error=error,
            **_described(group, engine),
        )
        for index in range(group.n)
    )
    return FinishedGroup(group.id, GroupStatus.FAILED, trajectories)


def _described(group: Group, engine: EngineInfo) -> dict[str, Any]:
    """What the samples of a group have in common, whatever became of them."""
    prompt = group.prompt
    return {
        "group_id": group.id,
        "data_source": prompt.data_source,
        "engine": engine,
        "ground_truth": prompt.ground_truth,
        "extra": dict(prompt.extra),
    }


def _generated(group: Group, episode: Episode) -> dict[str, Any]:
    versions = episode.versions
    return {
        "stop_reason": episode.cut or episode.finish.value,
        "messages": [*group.prompt.chat(), *episode.messages],
        "response_ids": episode.response_ids,
        "response_mask": episode.response_mask,
        "logprobs": episode.logprobs,
        "version_spans": version_spans(versions),
        "min_version": min(versions, default=None),
        "max_version": max(versions, default=None),
        "turns": episode.turns,
    }


def _scored(score: Score | Failure, episode: Episode) -> dict[str, Any]:
    if isinstance(score, Failure):
        return {"status": "failed", "error": score.error}
    status = "truncated" if episode.cut or episode.finish is Finish.LENGTH else "completed"
    own = {} if episode.reward is None else {"environment": episode.reward}
    return {"status": status, "reward": score.value, "reward_components": {**score.components, **own}}


def _timing(episode: Episode, zero: float, queued: float) -> Timing:
    first = episode.first_token
    return Timing(
        queued=queued,
        start=episode.start - zero,
        first_token=None if first is None else first - zero,
        end=episode.end - zero,
    )
