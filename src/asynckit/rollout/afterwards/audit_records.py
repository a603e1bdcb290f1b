"""The checks that records and groups have to pass one by one, as they are read.

Per sample and per group one small entry is kept, for what can only be said at the end: that nothing is there
twice, and that the ledger knows the same groups.
"""

import contextlib
import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from asynckit.errors import InputError
from asynckit.rollout.afterwards.audit_names import Naming, why_other_group
from asynckit.rollout.afterwards.audit_report import Check
from asynckit.rollout.afterwards.columns import Rows, faults, going_back, incomplete, token_ages
from asynckit.rollout.afterwards.part_reader import Batch
from asynckit.rollout.config import AsyncTrainingConfig, LearnerConfig, RolloutConfig
from asynckit.rollout.group import advantages
from asynckit.rollout.record import FREE_FORM, check, from_row, uid_in_group
from asynckit.rollout.staleness import Schedule
from asynckit.rollout.summary import Tally

_SMALL = ("uid", "group_id", "sample_index", "status", "reward", "advantage", "error")


@dataclass(frozen=True)
class Terms:
    """What the run's settings promise.

    Attributes:
        n: samples per group.
        naming: what its names are made of.
        max_staleness: versions that a token may be old; None without a learner.
        intact: whether the settings have the digest that was written with them; None if that can't be said.
    """

    n: int
    naming: Naming
    max_staleness: int | None
    intact: bool | None


def terms_of(
    rollout: RolloutConfig,
    seed: int,
    training: AsyncTrainingConfig,
    learner: LearnerConfig,
    identity: str,
    *,
    intact: bool | None,
) -> Terms:
    """What these settings promise; ``seed`` is that of the sampling section."""
    bound = None
    if learner.kind != "none":
        bound = Schedule.of(training, learner, mode=rollout.mode).max_staleness
    return Terms(rollout.n, Naming(seed, identity), bound, intact)


class Kept(NamedTuple):
    """What is kept of a group: the file that has it, the end of its first place, its samples' statuses."""

    file: str
    where: str
    statuses: tuple[str, ...]


class _Member(NamedTuple):
    """What is kept of a sample until its group is complete."""

    where: str
    uid: str
    group_id: str
    sample_index: int
    status: str
    reward: float | None
    advantage: float | None


class Records:
    """Takes batches of records in, file by file.

    Args:
        terms: what the settings promise.
        places: of every group in the ledger, its place in the run; empty where the ledger can't be read.
        checks: by name; findings go there.

    Attributes:
        count: records so far.
        groups: what is kept of every group.
        tally: counts for the summary.
        ages: sampled tokens that the learner took, by age.
        named: groups whose id was computed again.
    """

    def __init__(self, terms: Terms, places: Mapping[str, int], checks: Mapping[str, Check]) -> None:
        self._terms, self._places, self._checks = terms, places, checks
        self.count = self.named = 0
        self.groups: dict[str, Kept] = {}
        self.tally = Tally()
        self.ages: Counter[int] = Counter()
        self._file = ""
        self._uids: set[bytes] = set()
        self._members: list[_Member] = []

    def begin(self, file: str) -> None:
        """What comes next is from this file."""
        self._file = file

    def take(self, batch: Batch) -> None:
        """Check some records."""
        self.count += len(batch.places)
        batch = self._complete(batch)
        if not batch.places:
            return
        bad = self._check_records(batch)
        self._check_versions(batch, bad)
        small = [batch.columns.column(name).to_pylist() for name in _SMALL]
        lengths = pc.list_value_length(batch.columns.column("response_ids")).to_pylist()
        firsts = []
        for row, (uid, group_id, index, status, reward, advantage, error) in enumerate(
            zip(*small, strict=True)
        ):
            member = _Member(batch.places[row], uid, group_id, index, status, reward, advantage)
            if not self._members or self._members[-1].group_id != group_id:
                self.end_group()
                firsts.append(row)
            self._members.append(member)
            self._check_uid(member)
            self._count(member, lengths[row], error)
        self._check_names(batch, [row for row in firsts if not bad[row]])

    def end_group(self) -> None:
        """The group that was read last is over: another follows, or the file ends."""
        members, self._members = self._members, []
        if not members:
            return
        first = members[0]
        statuses = tuple(sorted({each.status for each in members}))
        if first.group_id in self.groups:
            problem = f"the group is also in {self.groups[first.group_id].where}"
            self._checks["groups"].finds(first.where, first.group_id, problem)
            return
        self.groups[first.group_id] = Kept(self._file, first.where, statuses)
        indices = sorted(each.sample_index for each in members)
        if indices != list(range(self._terms.n)):
            problem = f"sample indices {_brief(indices)} instead of 0 to {self._terms.n - 1}"
            self._checks["groups"].finds(first.where, first.group_id, problem)
        self._check_advantages(members)

    def _complete(self, batch: Batch) -> Batch:
        """The batch without rows that hold null where they may not."""
        missing = incomplete(batch.columns)
        if not missing:
            return batch
        uids = batch.columns.column("uid")
        for row, name in sorted(missing.items()):
            self._checks["records"].finds(batch.places[row], uids[row].as_py() or "", f"{name} holds null")
        keep = [row for row in range(len(batch.places)) if row not in missing]
        return Batch(batch.columns.take(pa.array(keep, pa.int64())), [batch.places[row] for row in keep])

    def _check_records(self, batch: Batch) -> Rows:
        """Note the rows that ``record.check`` refuses; returns which they are."""
        suspects = faults(batch.columns) | _unparsable(batch.columns)
        bad = np.zeros(len(suspects), dtype=bool)
        for row in np.flatnonzero(suspects):
            problem = _problem(batch, int(row))
            if problem:
                bad[row] = True
                uid = batch.columns.column("uid")[int(row)].as_py()
                self._checks["records"].finds(batch.places[row], uid, problem)
        return bad

    def _check_versions(self, batch: Batch, bad: Rows) -> None:
        kept = np.flatnonzero(~bad)
        columns = batch.columns.take(pa.array(kept)) if bad.any() else batch.columns
        for row in np.flatnonzero(going_back(columns)):
            spans = columns.column("version_spans")[int(row)].as_py()
            versions = [span["version"] for span in spans]
            self._finds("versions", batch, int(kept[row]), f"versions {_brief(versions)}")
        ages, least, most = token_ages(columns)
        self.ages += ages
        bound = self._terms.max_staleness
        if bound is None:
            taken = columns.column("consumed_version").is_valid().to_numpy(zero_copy_only=False)
            for row in np.flatnonzero(taken):
                self._finds("staleness", batch, int(kept[row]), "it was consumed, and the run has no learner")
            return
        for row in np.flatnonzero(most > bound):
            self._finds(
                "staleness",
                batch,
                int(kept[row]),
                f"a token was {most[row]} versions old, {bound} is allowed",
            )
        for row in np.flatnonzero(least < 0):
            self._finds(
                "staleness",
                batch,
                int(kept[row]),
                f"a token is {-least[row]} versions newer than its learner",
            )

    def _finds(self, name: str, batch: Batch, row: int, problem: str) -> None:
        self._checks[name].finds(batch.places[row], batch.columns.column("uid")[row].as_py(), problem)

    def _check_uid(self, member: _Member) -> None:
        if uid_in_group(member.group_id, member.sample_index) != member.uid:
            problem = f"not the uid of sample {member.sample_index} of group {member.group_id}"
            self._checks["uids"].finds(member.where, member.uid, problem)
        key = member.uid.encode("utf-8", "surrogatepass")
        with contextlib.suppress(ValueError):  # no hash at all, which has been noted above
            key = bytes.fromhex(member.uid)  # half the memory
        if key in self._uids:
            self._checks["unique"].finds(member.where, member.uid, "the uid has been there before")
        self._uids.add(key)

    def _count(self, member: _Member, length: int, error: str) -> None:
        tally = self.tally
        tally.samples[member.status] += 1
        tally.lengths[length] += 1
        if error:
            tally.errors[error] += 1
        if member.reward is not None:
            tally.reward_sum += member.reward
            tally.reward_count += 1

    def _check_advantages(self, members: list[_Member]) -> None:
        for member, expected in zip(members, advantages([each.reward for each in members]), strict=True):
            if not _equal(member.advantage, expected):
                problem = f"the advantage is {member.advantage}, the group's rewards make it {expected}"
                self._checks["advantages"].finds(member.where, member.uid, problem)

    def _check_names(self, batch: Batch, rows: list[int]) -> None:
        """Compute the ids of groups again from the first record of each."""
        columns = ("group_id", "messages", "data_source", "ground_truth", "sampling")
        for row, record in zip(
            rows, batch.columns.select(columns).take(pa.array(rows, pa.int64())).to_pylist(), strict=True
        ):
            place = self._places.get(record["group_id"])
            if place is None:
                continue  # the ledger's check says that it isn't there
            self.named += 1
            about = {
                "data_source": record["data_source"],
                "ground_truth": json.loads(record["ground_truth"]),
                "sampling": json.loads(record["sampling"]),
            }
            problem = why_other_group(
                record["group_id"], place, record["messages"], about, self._terms.naming
            )
            if problem:
                self._checks["names"].finds(batch.places[row], record["group_id"], problem)


def _unparsable(columns: Any) -> Rows:
    """The rows whose free-form columns are not JSON."""
    bad = np.zeros(len(columns), dtype=bool)
    for name in FREE_FORM:
        column = columns.column(name)
        wrong = [text for text in column.unique().to_pylist() if not _is_json(text)]
        if wrong:
            bad |= pc.is_in(column, value_set=pa.array(wrong)).to_numpy(zero_copy_only=False)
    return bad


def _is_json(text: str) -> bool:
    try:
        json.loads(text, parse_constant=_refuse)
    except (ValueError, RecursionError):
        return False
    return True


def _refuse(constant: str) -> None:
    """Python reads NaN and Infinity, which are not JSON."""
    raise ValueError(constant)


def _problem(batch: Batch, row: int) -> str:
    """What ``record.check`` says against a record; empty if nothing."""
    (values,) = batch.columns.slice(row, 1).to_pylist()
    try:
        check(from_row(values))
    except InputError as error:
        return error.message
    except (AssertionError, TypeError) as error:
        return str(error)
    return next((f"{name} is not JSON" for name in FREE_FORM if not _is_json(values[name])), "")


def _equal(recorded: float | None, expected: float | None) -> bool:
    if recorded is None or expected is None:
        return recorded is expected
    return abs(recorded - expected) <= 1e-9 * max(1.0, abs(expected))


def _brief(numbers: list[int]) -> str:
    shown = ", ".join(map(str, numbers[:8]))
    return f"{shown}, …" if len(numbers) > 8 else shown
