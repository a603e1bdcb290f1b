"""What a run did, counted as records are written: flat memory however long the run."""

import math
from collections import Counter, deque
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from asynckit.errors import Interrupted, WorkFailed
from asynckit.rollout.group import FinishedGroup, GroupStatus
from asynckit.rollout.observing.snapshot import Snapshot

if TYPE_CHECKING:
    from rich.table import Table

SCHEMA = "asynckit.summary/1"
_NEWEST = 1000
_MOST_ERRORS = 1000  # texts that are counted apart: some quote the response


@dataclass(frozen=True)
class Summary:
    """The end of a run.

    Attributes:
        status: done, failed or interrupted.
        groups, samples: how many ended in each status; the groups add up to ``submitted``.
        wanted: groups that were to end other than filtered.
        submitted: groups that the run set out to do, replacements included.
        versions: policy versions that were trained on something; 0 without a learner.
        staleness: sampled tokens that the learner has had, by how many versions old they were.
        mean_reward: over the samples that have one; None when none has.
        response_tokens: tokens sampled in the records written.
        tokens_per_second: ``response_tokens`` over the seconds from the first engine being ready to the last
            group's end, or until the learner has had it. response_length_p50, response_length_p95: tokens.
        idle_ratio: share of that time in which an engine had nothing to step, mean over replicas; None
            where no engine could be asked.
        seconds: from the command's start to its end.
        files: the trajectory files, in order.
        errors: the most frequent sample errors and how often each occurred.
        folder: the run directory.
    """

    status: str
    groups: dict[str, int]
    samples: dict[str, int]
    wanted: int
    submitted: int
    versions: int
    staleness: dict[str, int]
    mean_reward: float | None
    response_tokens: int
    tokens_per_second: float
    response_length_p50: int
    response_length_p95: int
    idle_ratio: float | None
    seconds: float
    files: list[str]
    errors: dict[str, int]
    folder: str

    def to_dict(self) -> dict[str, Any]:
        """JSON-able, with the schema's name."""
        return {"schema": SCHEMA, **asdict(self)}

    @classmethod
    def from_dict(cls, found: Mapping[str, Any]) -> "Summary | None":
        """The summary that ``to_dict`` made JSON of; None where something is missing."""
        names = [part.name for part in fields(cls)]
        return cls(**{name: found[name] for name in names}) if found.keys() >= set(names) else None

    def raise_for_failures(self, allowed: int) -> None:
        """Turn what went wrong into the error that ends the command.

        Raises:
            Interrupted: the run was stopped before its end.
            WorkFailed: more than ``allowed`` samples failed.
        """
        if self.status == "interrupted":
            done = self.submitted - self.groups[GroupStatus.CANCELLED]
            raise Interrupted(
                f"stopped after {done} of {self.submitted} groups; they are in {self.folder}",
                mend=how_to_resume(self.folder),
            )
        missing = self.wanted - (self.submitted - self.groups[GroupStatus.FILTERED])
        if missing > 0:
            raise WorkFailed(
                f"{self.groups[GroupStatus.FILTERED]} groups had rewards that are all equal, and {missing} "
                "of them were not replaced by others",
                where="rollout.max_replacements",
                mend="look at the reward and at how hard the prompts are, or allow more replacements",
            )
        failed = self.samples.get("failed", 0)
        if failed > allowed:
            error, count = next(iter(self.errors.items()), ("no reason was recorded", failed))
            raise WorkFailed(
                f"{failed} of {sum(self.samples.values())} samples failed; {count} of them with: {error}",
                where=f"{self.folder}/trajectories",
                mend=f"mend the cause, or allow failures with --max-failures {failed}",
            )


@dataclass
class Tally:
    """Counts of what has been written so far."""

    groups: Counter[str] = field(default_factory=Counter)
    samples: Counter[str] = field(default_factory=Counter)
    lengths: Counter[int] = field(default_factory=Counter)
    errors: Counter[str] = field(default_factory=Counter)
    reward_sum: float = 0.0
    reward_count: int = 0
    ages: Counter[int] = field(default_factory=Counter)
    trained_versions: set[int] = field(default_factory=set)
    partial_groups: int = 0
    max_partial_span: int = 0
    group_seconds: deque[float] = field(default_factory=lambda: deque(maxlen=_NEWEST))

    def add(self, groups: Iterable[FinishedGroup]) -> None:
        """Count groups whose records have been handed to the sink."""
        for group in groups:
            self.groups[group.status.value] += 1
            self._add_times(group)
            self._add_versions(group)
            for trajectory in group.trajectories:
                self.samples[trajectory.status] += 1
                self.lengths[len(trajectory.response_ids)] += 1
                if trajectory.error:
                    known = trajectory.error in self.errors or len(self.errors) < _MOST_ERRORS
                    self.errors[trajectory.error if known else "other errors"] += 1
                if trajectory.reward is not None:
                    self.reward_sum += trajectory.reward
                    self.reward_count += 1

    def _add_times(self, group: FinishedGroup) -> None:
        times = [each.timing for each in group.trajectories]
        starts = [each.start for each in times if each.start is not None]
        ends = [each.end for each in times if each.end is not None]
        if starts and ends:
            self.group_seconds.append(max(ends) - min(starts))

    def _add_versions(self, group: FinishedGroup) -> None:
        spans = [
            each.max_version - each.min_version
            for each in group.trajectories
            if each.min_version is not None and each.max_version is not None
        ]
        self.partial_groups += any(spans)
        self.max_partial_span = max(self.max_partial_span, *spans, 0)
        for each in group.trajectories:
            if each.consumed_version is None:
                continue
            self.trained_versions.add(each.consumed_version)
            for start, end, version in each.version_spans:
                self.ages[each.consumed_version - version] += sum(each.response_mask[start:end])

    def snapshot(self, **run: Any) -> Snapshot:
        """What has been counted, with what the caller knows of the run."""
        return Snapshot(
            groups=dict(self.groups),
            samples=dict(self.samples),
            ages=Counter(self.ages),
            partial_groups=self.partial_groups,
            max_partial_span=self.max_partial_span,
            reward_sum=self.reward_sum,
            reward_count=self.reward_count,
            response_tokens=self.tokens,
            longest_response=max(self.lengths, default=0),
            group_seconds=tuple(self.group_seconds),
            **run,
        )

    @property
    def mean_reward(self) -> float | None:
        """Mean over the samples that have a reward."""
        return self.reward_sum / self.reward_count if self.reward_count else None

    @property
    def tokens(self) -> int:
        """Tokens in all responses."""
        return sum(length * count for length, count in self.lengths.items())


def how_to_resume(folder: str | Path) -> str:
    """What a person types to go on with a run."""
    return f"go on with: asynckit rollout --resume --out {folder}"


def percentile(counts: Counter[int], share: float) -> int:
    """Nearest-rank percentile: at least ``share`` of the counted values don't exceed it; 0 for no values."""
    rank = math.ceil(share * counts.total())
    seen = 0
    for value in sorted(counts):
        seen += counts[value]
        if seen >= rank:
            return value
    return 0


def render_table(summary: Summary) -> "Table":
    """The summary as a person reads it."""
    from rich.table import Table

    def counted(counts: dict[str, int]) -> str:
        return ", ".join(f"{count} {status}" for status, count in counts.items() if count) or "none"

    reward = "none" if summary.mean_reward is None else f"{summary.mean_reward:.4f}"
    files = summary.files[-1] if len(summary.files) == 1 else f"{len(summary.files)} files in trajectories/"
    rows = (
        ("status", summary.status),
        ("groups", f"{counted(summary.groups)} of {summary.submitted}"),
        ("samples", counted(summary.samples)),
        ("mean reward", reward),
        *([("staleness", _staleness(summary))] if summary.staleness else []),
        ("response tokens", f"{summary.response_tokens:,} ({summary.tokens_per_second:,.1f} per second)"),
        ("response length", f"p50 {summary.response_length_p50}, p95 {summary.response_length_p95} tokens"),
        ("engines idle", "unknown" if summary.idle_ratio is None else f"{summary.idle_ratio:.1%}"),
        ("took", f"{summary.seconds:.1f} s"),
        ("written to", f"{summary.folder}/{files}"),
    )
    table = Table(title="rollout", show_header=False, title_justify="left")
    table.add_column(style="bold")
    table.add_column(overflow="fold")
    for row in rows:
        table.add_row(*row)
    return table


def _staleness(summary: Summary) -> str:
    shares = ", ".join(f"{count:,} of {age}" for age, count in summary.staleness.items())
    return f"tokens by age in versions: {shares}; {summary.versions} versions"
