"""Staleness: the bound holds for every token, nothing waits for ever, and nothing is taken twice."""

import random
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from asynckit.rollout.config import AsyncTrainingConfig, LearnerConfig
from asynckit.rollout.staleness import Policy, Schedule, Staleness, Take

schedules = st.builds(
    lambda batch, steps, threshold, most, policy: Schedule(batch, batch * steps, threshold, most, policy),
    batch=st.integers(1, 4),
    steps=st.integers(1, 3),
    threshold=st.sampled_from([0.0, 0.1, 0.5, 1.0, 2.5]),
    most=st.integers(0, 3),
    policy=st.sampled_from(Policy),
)


class Run:
    """A rollout without time: groups start, finish, fail and are taken in a random order."""

    def __init__(self, schedule: Schedule, groups: int, seed: int, consumed: int = 0) -> None:
        self.staleness = Staleness(schedule, consumed)
        self.left = [f"g{index}" for index in range(groups)]
        self.running: dict[str, int] = {}
        self.oldest: dict[str, int] = {}
        self.ends: Counter[str] = Counter()
        self.ages: list[int] = []
        self.batches: list[tuple[str, ...]] = []
        self.most_begun = 0
        self._random = random.Random(seed)  # noqa: S311 - no secret depends on it

    def start(self) -> bool:
        """Start a group if one may."""
        if not self.left or not self.staleness.may_start():
            return False
        group = self.left.pop(0)
        self.staleness.start(group)
        self.running[group] = self.staleness.version
        self.most_begun = max(self.most_begun, self.staleness.begun)
        return True

    def finish(self) -> bool:
        """End one of the groups in flight, well or badly."""
        if not self.running:
            return False
        group = self._random.choice(list(self.running))
        oldest = self.running.pop(group)
        if self._random.random() < 0.1:
            self.staleness.dismiss(group)
            self.ends[group] += 1
        else:
            # Restarted under newer weights, its tokens may be newer than its start.
            self.oldest[group] = self._random.randint(oldest, self.staleness.version)
            self.staleness.finish(group, self.oldest[group])
        return True

    def take(self) -> bool:
        """Let the learner take what it can, and publish when it is time."""
        took = self.staleness.take(last=not self.left and not self.running)
        self.ends.update((*took.batch, *took.stale))
        self.ages += [self.staleness.version - self.oldest[group] for group in took.batch]
        if took.batch:
            self.batches.append(took.batch)
        if self.staleness.publication_due:
            self.staleness.publish()
        return took != Take()

    def to_the_end(self) -> None:
        """Do what can be done, in any order, until nothing can."""
        while True:
            acts = [self.start, self.finish, self.take]
            self._random.shuffle(acts)
            if not any(act() for act in acts):
                return


@settings(max_examples=400, deadline=None)
@given(schedule=schedules, groups=st.integers(0, 60), seed=st.integers(0, 2**32), consumed=st.integers(0, 20))
def test_the_bound_holds_and_everything_ends_once(
    schedule: Schedule, groups: int, seed: int, consumed: int
) -> None:
    """Whatever the order of events, no token is too old, no group is lost, and the run comes to its end.

    Also where an earlier attempt ended with a batch that was not whole.
    """
    run = Run(schedule, groups, seed, consumed)
    run.to_the_end()
    assert max(run.ages, default=0) <= schedule.max_staleness
    assert run.ends == Counter(f"g{index}" for index in range(groups))
    assert run.staleness.begun == run.staleness.waiting == 0
    assert run.staleness.consumed >= consumed + len(run.ages)


@settings(max_examples=200, deadline=None)
@given(schedule=schedules, groups=st.integers(0, 60), seed=st.integers(0, 2**32))
def test_no_more_is_begun_than_verl_would(schedule: Schedule, groups: int, seed: int) -> None:
    """Between two publications at most (1 + staleness_threshold) versions' worth is in flight or waiting."""
    run = Run(schedule, groups, seed)
    run.to_the_end()
    assert run.most_begun <= (1 + schedule.threshold) * schedule.groups_per_version + 1e-9


@settings(max_examples=200, deadline=None)
@given(schedule=schedules, groups=st.integers(0, 60), seed=st.integers(0, 2**32))
def test_only_drop_gives_anything_up(schedule: Schedule, groups: int, seed: int) -> None:
    """Pace and wait use every group that finished well."""
    run = Run(schedule, groups, seed)
    run.to_the_end()
    if schedule.policy is not Policy.DROP:
        assert len(run.ages) == len(run.oldest)


@settings(max_examples=200, deadline=None)
@given(schedule=schedules, groups=st.integers(0, 60), seeds=st.tuples(st.integers(0), st.integers(0)))
def test_pace_uses_groups_in_the_order_of_their_starts(
    schedule: Schedule, groups: int, seeds: tuple[int, int]
) -> None:
    """What trains which version is then the same in every run in which the same groups end well."""
    runs = [Run(schedule, groups, seed) for seed in seeds]
    for run in runs:
        run.to_the_end()
        taken = [int(group[1:]) for batch in run.batches for group in batch]
        assert schedule.policy is not Policy.PACE or taken == sorted(taken)


def test_sync_lets_generation_and_training_take_turns() -> None:
    """With mode=sync nothing starts before the version that was trained on the last batch is out."""
    schedule = Schedule.of(
        AsyncTrainingConfig(trigger_parameter_sync_step=4, max_staleness=3, policy="drop"),
        LearnerConfig(batch_size=2),
        mode="sync",
    )
    staleness = Staleness(schedule)
    for group in ("a", "b"):
        assert staleness.may_start()
        staleness.start(group)
        staleness.finish(group, 0)
    assert not staleness.may_start()
    assert staleness.take().batch == ("a", "b")
    assert staleness.publication_due
    assert not staleness.may_start()
    staleness.publish()
    assert staleness.may_start()


@pytest.mark.parametrize(
    ("threshold", "most", "expected"), [(0.0, None, 0), (0.1, None, 1), (2.0, None, 2), (0.1, 5, 5)]
)
def test_max_staleness_follows_the_threshold(threshold: float, most: int | None, expected: int) -> None:
    """Without a bound of its own, the run has the one that verl's threshold implies."""
    config = AsyncTrainingConfig(staleness_threshold=threshold, max_staleness=most)
    assert Schedule.of(config, LearnerConfig(), mode="async").max_staleness == expected


def test_a_straggler_holds_the_learner_only_where_it_has_to() -> None:
    """With wait, others are used before a straggler until it is about to be too old."""
    staleness = Staleness(Schedule(1, 1, 1.0, 1, Policy.WAIT))
    staleness.start("slow")
    staleness.start("quick")
    staleness.finish("quick", 0)
    assert staleness.take().batch == ("quick",)
    staleness.publish()
    staleness.start("next")
    staleness.finish("next", 1)
    assert staleness.take() == Take()  # it would make "slow" two versions old
    staleness.finish("slow", 0)
    assert staleness.take().batch == ("slow",)


def test_a_run_that_goes_on_has_the_version_it_had() -> None:
    """The version is a matter of what the learner has had."""
    assert Staleness(Schedule(2, 4, 0.0, 0, Policy.PACE), consumed=9).version == 2
