"""What a run that was cut off left behind, put in order before it goes on."""

import time
from collections.abc import Iterable
from itertools import groupby
from pathlib import Path

from asynckit.rollout.group import FinishedGroup, GroupStatus
from asynckit.rollout.job import Job
from asynckit.rollout.ledger import Ledger
from asynckit.rollout.record import Trajectory
from asynckit.rollout.run_directory import RunDirectory
from asynckit.rollout.sinks import part_paths, read_part
from asynckit.rollout.summary import Summary, Tally, percentile


def regroup(trajectories: Iterable[Trajectory]) -> list[FinishedGroup]:
    """Trajectories as the groups that they came in; a group's trajectories are neighbours."""
    groups = (tuple(members) for _, members in groupby(trajectories, lambda each: each.group_id))
    return [FinishedGroup(members[0].group_id, _status(members), members) for members in groups]


def _status(members: tuple[Trajectory, ...]) -> GroupStatus:
    statuses = {each.status for each in members}
    ends = (GroupStatus.FAILED, GroupStatus.STALE, GroupStatus.FILTERED)
    return next((status for status in ends if status in statuses), GroupStatus.COMPLETED)


def recover(ledger: Ledger, folder: Path) -> Tally:
    """Bring the ledger up to date with the trajectory files; returns what is in them.

    A part that the ledger doesn't know was written just before the run was cut off: it is whole, because it
    was renamed into place, so its groups are committed now. Beginnings of parts under hidden names go.

    Raises:
        InputError: a part cannot be read.
    """
    tally, known = Tally(), ledger.parts()
    for unfinished in folder.glob(".part-*.tmp"):
        unfinished.unlink()
    for path in part_paths(folder):
        groups = regroup(read_part(path))
        tally.add(groups)
        if path.name not in known:
            ledger.commit(path.name, groups)
    return tally


def summarize(
    job: Job,
    ledger: Ledger,
    tally: Tally,
    *,
    wanted: int,
    status: str,
    tokens_per_second: float,
    idle_ratio: float | None,
) -> Summary:
    """What a run has done so far, over all attempts; groups that have not ended count as cancelled."""
    counts, submitted = ledger.counts(), len(ledger.ids())
    groups = {each.value: counts.get(each.value, 0) for each in GroupStatus}
    groups[GroupStatus.CANCELLED] += submitted - sum(groups.values())
    parts = part_paths(RunDirectory(job.folder).trajectories)
    return Summary(
        status=status,
        groups=groups,
        samples=dict(tally.samples),
        wanted=wanted,
        submitted=submitted,
        versions=len(tally.trained_versions),
        staleness={str(age): count for age, count in sorted(tally.ages.items())},
        mean_reward=tally.mean_reward,
        response_tokens=tally.tokens,
        tokens_per_second=tokens_per_second,
        response_length_p50=percentile(tally.lengths, 0.5),
        response_length_p95=percentile(tally.lengths, 0.95),
        idle_ratio=idle_ratio,
        seconds=time.time() - job.began,
        files=[str(part.relative_to(job.folder)) for part in parts],
        errors=dict(tally.errors.most_common(10)),
        folder=str(job.folder),
    )
