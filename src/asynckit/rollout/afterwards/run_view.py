"""What ``runs show`` picks out of a run: a summary of every group, or one group's samples."""

import heapq
import json
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from itertools import islice
from typing import Any, TypeVar

from asynckit.errors import InputError
from asynckit.near_miss import did_you_mean
from asynckit.rollout.afterwards.conversation import split_messages
from asynckit.rollout.afterwards.ledger_reader import Entry
from asynckit.rollout.afterwards.run_reader import FoundGroup, Run
from asynckit.rollout.record import Trajectory, to_json

SCHEMA = "asynckit.run/1"
SORTS = ("written", "reward", "length", "time")
Item = TypeVar("Item")


@dataclass(frozen=True)
class GroupRow:
    """One group at a glance.

    Attributes:
        id: the group.
        file: the trajectory file that has it, or the ledger.
        statuses: of its samples, with counts.
        mean_reward, least_reward, most_reward: over the samples with a reward; None without any.
        mean_length: response tokens.
        seconds: from the group's start to its last sample's end; None where that isn't recorded.
        min_version, max_version: of the policies that sampled it.
        prompt: text of the prompt's last message.
    """

    id: str
    file: str
    statuses: dict[str, int]
    mean_reward: float | None
    least_reward: float | None
    most_reward: float | None
    mean_length: float
    seconds: float | None
    min_version: int | None
    max_version: int | None
    prompt: str


@dataclass(frozen=True)
class Choice:
    """Which groups or samples to show, and in which order.

    Attributes:
        status: only samples of this status; None for all.
        sort: one of ``SORTS``; the most reward, the longest response and the slowest come first.
        reverse: the other way round.
        limit: at most so many.
    """

    status: str | None = None
    sort: str = "written"
    reverse: bool = False
    limit: int = 20


def group_rows(run: Run, choice: Choice) -> list[GroupRow]:
    """The groups that are chosen, at a glance.

    Raises:
        InputError: a file cannot be read.
    """
    rows = (_row(group, members) for group in run.groups() if (members := _kept(group.trajectories, choice)))
    return _first(rows, _GROUP_KEYS[choice.sort], choice)


def group_samples(group: FoundGroup, choice: Choice, index: int | None) -> list[Trajectory]:
    """The samples of a group that are chosen.

    Raises:
        InputError: there is no sample of this index.
    """
    members = [each for each in group.trajectories if index is None or each.sample_index == index]
    if not members:
        known = ", ".join(str(each.sample_index) for each in group.trajectories)
        raise InputError(f"group {group.id} has no sample {index}", where="--sample", mend=f"it has {known}")
    return _first(_kept(members, choice), _SAMPLE_KEYS[choice.sort], choice)


def find_group(run: Run, prefix: str) -> FoundGroup:
    """The group whose id begins like this.

    Raises:
        InputError: there is none, there are several, or it has no records yet.
    """
    with run.ledger() as ledger:
        entries = list(ledger.entries())
    entry = _match(prefix, entries)
    part = {path.name: path for path in run.parts()}.get(entry.part or "")
    if part:
        members = tuple(each for each in run.part(part) if each.group_id == entry.id)
        if members:
            return FoundGroup(entry.id, part.name, members)
    for group in run.groups():
        if group.id == entry.id:
            return group
    mend = "it has not ended" if entry.state in ("submitted", "running") else "asynckit runs audit says more"
    raise InputError(f"group {entry.id} is {entry.state} and has no records", where="--group", mend=mend)


def _match(prefix: str, entries: list[Entry]) -> Entry:
    found = [entry for entry in entries if entry.id.startswith(prefix)]
    exact = [entry for entry in found if entry.id == prefix]
    if exact or len(found) == 1:
        return (exact or found)[0]
    if found:
        some = ", ".join(entry.id for entry in found[:4])
        raise InputError(
            f"{len(found)} groups begin with {prefix!r}", where="--group", mend=f"type more of one: {some}"
        )
    near = did_you_mean(prefix, {entry.id[: len(prefix)] for entry in entries})
    raise InputError(
        f"no group begins with {prefix!r}", where="--group", mend=near or "asynckit runs show RUN lists them"
    )


def _kept(members: Iterable[Trajectory], choice: Choice) -> list[Trajectory]:
    return [each for each in members if choice.status in (None, each.status)]


def _first(items: Iterable[Item], key: Callable[[Item], float | None], choice: Choice) -> list[Item]:
    """The first ``choice.limit`` items in the order that is asked for; those without a value come last."""
    if choice.sort == "written":
        return list(deque(items, choice.limit))[::-1] if choice.reverse else list(islice(items, choice.limit))
    sign = 1.0 if choice.reverse else -1.0

    def rank(item: Item) -> tuple[bool, float]:
        value = key(item)
        return value is None, 0.0 if value is None else sign * value

    return heapq.nsmallest(choice.limit, items, key=rank)


def _row(group: FoundGroup, members: list[Trajectory]) -> GroupRow:
    rewards = [each.reward for each in members if each.reward is not None]
    versions = [
        version for each in members for version in (each.min_version, each.max_version) if version is not None
    ]
    statuses: dict[str, int] = {}
    for each in members:
        statuses[each.status] = statuses.get(each.status, 0) + 1
    prompt = split_messages(members[0])[0]
    return GroupRow(
        id=group.id,
        file=group.file,
        statuses=statuses,
        mean_reward=sum(rewards) / len(rewards) if rewards else None,
        least_reward=min(rewards, default=None),
        most_reward=max(rewards, default=None),
        mean_length=sum(len(each.response_ids) for each in members) / len(members),
        seconds=max((seconds for each in members if (seconds := _seconds(each)) is not None), default=None),
        min_version=min(versions, default=None),
        max_version=max(versions, default=None),
        prompt=prompt[-1]["content"] if prompt else "",
    )


def _seconds(trajectory: Trajectory) -> float | None:
    start, end = trajectory.timing.start, trajectory.timing.end
    return None if start is None or end is None else end - start


_GROUP_KEYS: dict[str, Callable[[GroupRow], float | None]] = {
    "written": lambda _: None,
    "reward": lambda row: row.mean_reward,
    "length": lambda row: row.mean_length,
    "time": lambda row: row.seconds,
}
_SAMPLE_KEYS: dict[str, Callable[[Trajectory], float | None]] = {
    "written": lambda _: None,
    "reward": lambda each: each.reward,
    "length": lambda each: len(each.response_ids),
    "time": _seconds,
}


def rows_to_dict(run: Run, summary: dict[str, Any] | None, rows: list[GroupRow]) -> dict[str, Any]:
    """Groups at a glance, JSON-able."""
    return {
        "schema": SCHEMA,
        "folder": str(run.path),
        "status": run.status(),
        "summary": summary,
        "groups": [asdict(row) for row in rows],
    }


def samples_to_dict(run: Run, group: FoundGroup, samples: Iterable[Trajectory]) -> dict[str, Any]:
    """One group's samples, JSON-able."""
    return {
        "schema": SCHEMA,
        "folder": str(run.path),
        "group_id": group.id,
        "file": group.file,
        "samples": [json.loads(to_json(each)) for each in samples],
    }
