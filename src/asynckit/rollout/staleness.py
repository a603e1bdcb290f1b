"""Who may start, what the learner takes, and what is too old: the one place where that is decided.

A policy version is trained on ``groups_per_version`` groups; then the next version is published. A token's
staleness is the version that is trained on it minus the version that sampled it. Three policies keep it at
``max_staleness`` or below:

pace
    Groups start only as far ahead as they can be used in time, and are used in the order in which they
    started. Which groups train which version depends on nothing but that order.
wait
    Groups start likewise, and are used as they finish. The learner waits only for a group that would be too
    old for a later version.
drop
    Groups are used as they finish and nobody waits for a straggler: what is too old by then ends as stale.

The limit on what is begun is verl's: between two publications at most ``(1 + staleness_threshold)`` versions'
worth of groups, counting those in flight and those that wait. With the order of pace that bounds staleness at
``ceil(staleness_threshold)``, which is the default of ``max_staleness``; see AReaL (arXiv:2505.24298, section
5.1) for the same rule in whole versions.
"""

import math
from collections import Counter
from dataclasses import dataclass
from enum import StrEnum
from itertools import islice

from asynckit.rollout.config import AsyncTrainingConfig, LearnerConfig


class Policy(StrEnum):
    """What gives way when a group takes too long."""

    PACE = "pace"
    WAIT = "wait"
    DROP = "drop"


@dataclass(frozen=True)
class Schedule:
    """The numbers that decide.

    Attributes:
        batch: groups that the learner takes at a time.
        groups_per_version: groups until the next version is published; a multiple of ``batch``.
        threshold: how many versions' worth of groups may be begun ahead; a fraction is fine.
        max_staleness: versions that a token may be old when it is used.
        policy: what gives way.
    """

    batch: int
    groups_per_version: int
    threshold: float
    max_staleness: int
    policy: Policy

    @classmethod
    def of(cls, config: AsyncTrainingConfig, learner: LearnerConfig, *, mode: str) -> "Schedule":
        """The schedule of a configuration.

        In mode ``sync`` generation and training take turns, batch by batch: each batch is generated with the
        weights that the one before has trained.
        """
        batch = learner.batch_size * config.require_batches
        if mode == "sync":
            return cls(batch, batch, 0.0, 0, Policy.PACE)
        threshold, most = config.staleness_threshold, config.max_staleness
        most = math.ceil(threshold) if most is None else most
        return cls(batch, batch * config.trigger_parameter_sync_step, threshold, most, Policy(config.policy))


@dataclass(frozen=True)
class Take:
    """What the learner gets next, in order, and what has become too old for it."""

    batch: tuple[str, ...] = ()
    stale: tuple[str, ...] = ()


class Staleness:
    """Follows every group from its start until the learner has it.

    Args:
        schedule: the rules.
        consumed: groups that the learner has had, in a run that goes on.

    Attributes:
        version: of the policy that is trained now, which every rollouter has.
        consumed: groups that the learner has had, in whole batches.
    """

    def __init__(self, schedule: Schedule, consumed: int = 0) -> None:
        self.schedule = schedule
        # A last batch may have been smaller; it counts as a whole one, or the next would never be full.
        self.consumed = -(-consumed // schedule.batch) * schedule.batch
        self.version = self.consumed // schedule.groups_per_version
        # In order of start; the oldest version that a group's tokens may have.
        self._oldest: dict[str, int] = {}
        self._finished: dict[str, None] = {}  # in order of their ends
        self._deadlines: Counter[int] = Counter()  # the last version that may be trained on so many groups

    @property
    def begun(self) -> int:
        """Groups that have started and that the learner has not had: in flight, or waiting for it."""
        return len(self._oldest)

    @property
    def waiting(self) -> int:
        """Groups that have finished and that the learner has not had."""
        return len(self._finished)

    @property
    def publication_due(self) -> bool:
        """Whether this version has had its groups, so that the next one is to be published."""
        return self.consumed >= (self.version + 1) * self.schedule.groups_per_version

    def has_begun(self, group_id: str) -> bool:
        """Whether this group has started and the learner has not had it."""
        return group_id in self._oldest

    def may_start(self) -> bool:
        """Whether one more group can be used in time."""
        rules, position = self.schedule, self.consumed + self.begun
        ahead = math.floor(rules.threshold * rules.groups_per_version + 1e-9)  # 0.1 x 10 is 1
        if position >= (self.version + 1) * rules.groups_per_version + ahead:
            return False
        if rules.policy is Policy.DROP:
            return True
        return position < (self.version + 1 + rules.max_staleness) * rules.groups_per_version

    def start(self, group_id: str, version: int | None = None) -> None:
        """A group starts; one that starts again, because what ran it died, keeps its place.

        Args:
            group_id: the group.
            version: the oldest version that can sample it; the present one by default.
        """
        if group_id not in self._oldest:
            self._oldest[group_id] = self.version if version is None else version
            self._due(self._oldest[group_id], 1)

    def finish(self, group_id: str, oldest: int) -> None:
        """A group is ready for the learner; its oldest token is of the version ``oldest``."""
        self._due(self._oldest[group_id], -1)
        self._due(oldest, 1)
        self._oldest[group_id] = oldest
        self._finished[group_id] = None

    def dismiss(self, group_id: str) -> None:
        """A group has ended otherwise: the learner won't get it."""
        if group_id in self._oldest:
            self._due(self._oldest.pop(group_id), -1)
        self._finished.pop(group_id, None)

    def take(self, *, last: bool = False) -> Take:
        """Take the learner's next batch, if it is time; empty otherwise.

        Args:
            last: nothing more will finish, so that what is left may be less than a batch.
        """
        assert not self.publication_due, "the next version comes first"
        stale = self._too_old() if self.schedule.policy is Policy.DROP else ()
        for group_id in stale:
            self.dismiss(group_id)
        size = min(self.schedule.batch, len(self._finished)) if last else self.schedule.batch
        chosen = self._choose(size)
        if not chosen:
            return Take(stale=stale)
        for group_id in chosen:
            self.dismiss(group_id)
        self.consumed += self.schedule.batch
        return Take(chosen, stale)

    def publish(self) -> int:
        """Every rollouter has the next version; returns its number."""
        self.version += 1
        return self.version

    def _due(self, version: int, count: int) -> None:
        deadline = version + self.schedule.max_staleness
        self._deadlines[deadline] += count
        if not self._deadlines[deadline]:
            del self._deadlines[deadline]

    def _too_old(self) -> tuple[str, ...]:
        bound = self.version - self.schedule.max_staleness
        return tuple(group_id for group_id in self._finished if self._oldest[group_id] < bound)

    def _choose(self, size: int) -> tuple[str, ...]:
        if len(self._finished) < size or not size:
            return ()
        if self.schedule.policy is Policy.PACE:
            chosen = tuple(islice(self._oldest, size))
            return chosen if all(group_id in self._finished for group_id in chosen) else ()
        # Oldest first; sorted() keeps the order of their ends among equals.
        chosen = tuple(sorted(self._finished, key=self._oldest.__getitem__)[:size])
        if self.schedule.policy is Policy.WAIT and not self._leaves_time_for_the_rest(chosen):
            return ()
        return chosen

    def _leaves_time_for_the_rest(self, chosen: tuple[str, ...]) -> bool:
        """Whether every other group can still be used in time once these are."""
        taken = Counter(self._oldest[each] + self.schedule.max_staleness for each in chosen)
        due = 0
        for deadline in sorted(self._deadlines):
            due += self._deadlines[deadline] - taken[deadline]
            room = (deadline + 1) * self.schedule.groups_per_version - self.consumed - len(chosen)
            if due > max(0, room):
                return False
        return True
