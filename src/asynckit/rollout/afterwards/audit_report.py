"""What an audit found: one entry per check, with its verdict, its numbers and where it does not hold."""

from collections import Counter
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from asynckit import claims
from asynckit.errors import WorkFailed
from asynckit.readable import readable

if TYPE_CHECKING:
    from rich.console import RenderableType

SCHEMA = "asynckit.audit/1"


@dataclass(frozen=True)
class Finding:
    """One thing that is wrong.

    Attributes:
        where: the file and row or line, such as ``trajectories/part-000000.parquet:row 3``.
        uid: of the sample, or the id of the group where all of it is meant; empty for a file.
        problem: what is wrong.
    """

    where: str
    uid: str
    problem: str


@dataclass
class Check(claims.Check[Finding]):
    """One property of a run."""

    def finds(self, where: str, uid: str, problem: str) -> None:
        """Note one place where it does not hold."""
        self.keep(Finding(where, uid, problem))


@dataclass(frozen=True)
class Audit:
    """All checks of one run.

    Attributes:
        folder: the run.
        status: see :meth:`asynckit.rollout.afterwards.run_reader.Run.status`.
        records: how many were read.
        checks: in the order in which they are shown.
        ages: sampled tokens that the learner took, by how many versions old they were.
    """

    folder: Path
    status: str
    records: int
    checks: list[Check]
    ages: Counter[int]

    @property
    def broken(self) -> list[Check]:
        """The checks that do not hold."""
        return [check for check in self.checks if check.broken]

    def to_dict(self) -> dict[str, Any]:
        """JSON-able, with the schema's name."""
        return {
            "schema": SCHEMA,
            "folder": str(self.folder),
            "status": self.status,
            "records": self.records,
            "holds": not self.broken,
            "checks": [{"verdict": check.verdict, **asdict(check)} for check in self.checks],
            "staleness": {str(age): self.ages[age] for age in sorted(self.ages)},
        }

    def raise_for_findings(self) -> None:
        """Turn broken checks into the error that ends the command.

        Raises:
            WorkFailed: some check does not hold.
        """
        if self.broken:
            first = self.broken[0]
            finding = first.findings[0]
            uid = f" ({finding.uid})" if finding.uid else ""
            raise WorkFailed(
                f"{len(self.broken)} of {len(self.checks)} checks do not hold; {first.name}: "
                f"{finding.problem}{uid}",
                where=f"{self.folder}/{finding.where}" if finding.where else str(self.folder),
                mend="don't train on this run before you know why",
            )


def render(audit: Audit) -> list["RenderableType"]:
    """The checks, the findings and the staleness histogram as a person reads them."""
    from rich.table import Table
    from rich.text import Text

    styles = {"holds": "green", "broken": "bold red", "not checked": "yellow"}
    title = Text(f"audit of {readable(str(audit.folder))} ({audit.status})")
    table = Table("verdict", "check", "looked at", title=title, title_justify="left")
    for check in audit.checks:
        table.add_row(
            Text(check.verdict, styles[check.verdict]), Text(check.claim), Text(readable(check.covers))
        )
    shown: list[RenderableType] = [table]
    if audit.ages:
        shown.append(_histogram(audit.ages))
    for check in audit.broken:
        shown.append(Text(f"{check.name}: {check.broken} found", "bold"))
        for finding in check.findings:
            uid = f" {finding.uid}" if finding.uid else ""
            shown.append(Text(readable(f"  {finding.where}{uid}: {finding.problem}")))
        if check.broken > len(check.findings):
            shown.append(Text(f"  … and {check.broken - len(check.findings)} more"))
    return shown


def _histogram(ages: Counter[int]) -> "RenderableType":
    from rich.table import Table

    table = Table("versions old", "sampled tokens", "share", title="staleness", title_justify="left")
    for age in sorted(ages):
        table.add_row(str(age), f"{ages[age]:,}", f"{ages[age] / ages.total():.2%}")
    return table
