"""What verifying found: one entry per check, with its verdict, its numbers and where it does not hold."""

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from asynckit import claims
from asynckit.errors import WorkFailed
from asynckit.readable import readable

if TYPE_CHECKING:
    from rich.console import RenderableType

SCHEMA = "asynckit.tokens-verification/1"
AGAIN = "restore the file, or delete the folder and tokenize again"


@dataclass(frozen=True)
class Finding:
    """One thing that is wrong: where, what, and what to do about it."""

    where: str
    problem: str
    mend: str


@dataclass
class Check(claims.Check[Finding]):
    """One property of a folder."""

    def finds(self, where: str, problem: str, mend: str = AGAIN) -> None:
        """Note one place where it does not hold."""
        self.keep(Finding(where, problem, mend))


@dataclass(frozen=True)
class Verification:
    """All checks of one folder, in the order in which they are shown."""

    folder: Path
    checks: list[Check]

    @property
    def broken(self) -> list[Check]:
        """The checks that do not hold."""
        return [check for check in self.checks if check.broken]

    def check(self, name: str) -> Check:
        """The check of that name."""
        return next(check for check in self.checks if check.name == name)

    def to_dict(self) -> dict[str, Any]:
        """JSON-able, with the schema's name."""
        return {
            "schema": SCHEMA,
            "folder": str(self.folder),
            "holds": not self.broken,
            "checks": [{"verdict": check.verdict, **asdict(check)} for check in self.checks],
        }

    def raise_for_findings(self) -> None:
        """Turn broken checks into the error that ends the command.

        Raises:
            WorkFailed: some check does not hold.
        """
        if self.broken:
            first = self.broken[0].findings[0]
            raise WorkFailed(
                f"{len(self.broken)} of {len(self.checks)} checks do not hold; {self.broken[0].name}: "
                f"{first.problem}",
                where=first.where,
                mend=first.mend,
            )


def render(verification: Verification) -> list["RenderableType"]:
    """The checks and what they found, as a person reads them."""
    from rich.table import Table
    from rich.text import Text

    styles = {"holds": "green", "broken": "bold red", "not checked": "yellow"}
    title = Text(f"verification of {readable(str(verification.folder))}")
    table = Table("verdict", "check", "looked at", title=title, title_justify="left")
    for check in verification.checks:
        verdict = Text(check.verdict, styles[check.verdict])
        table.add_row(verdict, Text(check.claim), Text(readable(check.covers)))
    shown: list[RenderableType] = [table]
    for check in verification.broken:
        shown.append(Text(f"{check.name}: {check.broken:,} found", "bold"))
        shown += [Text(readable(f"  {each.where}: {each.problem}")) for each in check.findings]
        if check.broken > len(check.findings):
            shown.append(Text(f"  … and {check.broken - len(check.findings):,} more"))
    return shown
