"""What a run did, counted as records are written: flat memory however long the run."""

import math
from collections import Counter
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from asynckit.errors import Interrupted, WorkFailed
from asynckit.rollout.group import FinishedGroup, GroupStatus

if TYPE_CHECKING:
    from rich.table import Table

SCHEMA = "asynckit.summary/1"


@dataclass(frozen=True)
class Summary:
    """The end of a run.

    Attributes:
        status: done, failed or interrupted.
        groups, samples: how many ended in each status; the groups add up to ``submitted``.
        submitted: groups that the run set out to do.
        mean_reward: over the samples that have one; None when none has.
        response_tokens: tokens sampled in the records written.
        tokens_per_second: ``response_tokens`` over the seconds from the engines being ready to the last
        group's end. response_length_p50, response_length_p95: tokens.
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
    submitted: int
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

    def raise_for_failures(self, allowed: int) -> None:
        """Turn what went wrong into the error that ends the command.

        Raises:
            Interrupted: the run was stopped before its end.
            WorkFailed: more than ``allowed`` samples failed.
        """
        if self.status == "interrupted":
            done = self.groups[GroupStatus.COMPLETED] + self.groups[GroupStatus.FAILED]
            raise Interrupted(
                f"stopped after {done} of {self.submitted} groups; they are in {self.folder}/trajectories",
                mend=how_to_resume(self.folder),
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

    def add(self, groups: Iterable[FinishedGroup]) -> None:
        """Count groups whose records have been handed to the sink."""
        for group in groups:
            self.groups[group.status.value] += 1
            for trajectory in group.trajectories:
                self.samples[trajectory.status] += 1
                self.lengths[len(trajectory.response_ids)] += 1
                if trajectory.error:
                    self.errors[trajectory.error] += 1
                if trajectory.reward is not None:
                    self.reward_sum += trajectory.reward
                    self.reward_count += 1

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
