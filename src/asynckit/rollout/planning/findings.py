"""What a dry run found: one line per check, and the error that weighs most."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeVar

from asynckit.errors import AsynckitError

if TYPE_CHECKING:
    from rich.table import Table

SCHEMA = "asynckit.dry-run/1"
Answer = TypeVar("Answer")


@dataclass(frozen=True)
class Finding:
    """One check.

    Attributes:
        check: what was looked at.
        status: ``ok``, ``note`` (worth knowing), ``bad`` (the run would fail) or ``skipped``.
        text: what was found.
        error: of a bad one.
    """

    check: str
    status: str
    text: str
    error: AsynckitError | None = None


@dataclass
class Findings:
    """The checks in the order in which they were made."""

    found: list[Finding] = field(default_factory=list)

    def ok(self, check: str, text: str) -> None:
        """All is well."""
        self.found.append(Finding(check, "ok", text))

    def note(self, check: str, text: str) -> None:
        """Something to know that need not be wrong."""
        self.found.append(Finding(check, "note", text))

    def skip(self, check: str, text: str) -> None:
        """It could not be looked at, because something before is wrong."""
        self.found.append(Finding(check, "skipped", text))

    def bad(self, check: str, error: AsynckitError) -> None:
        """The run would fail with this error."""
        self.found.append(Finding(check, "bad", str(error), error))

    def attempt(self, check: str, act: Callable[[], Answer]) -> Answer | None:
        """Do something and return what it returns; its error is a bad finding, and the answer None then."""
        try:
            return act()
        except AsynckitError as error:
            self.bad(check, error)
            return None

    def raise_worst(self) -> None:
        """Raise the error with the highest exit code, the first of equal ones; nothing where none is bad."""
        errors = [finding.error for finding in self.found if finding.error]
        if errors:
            raise max(errors, key=lambda error: error.exit_code)

    def to_dict(self) -> dict[str, Any]:
        """JSON-able, with the schema's name."""
        return {
            "schema": SCHEMA,
            "ok": not any(finding.error for finding in self.found),
            "findings": [
                {
                    "check": finding.check,
                    "status": finding.status,
                    "text": finding.text,
                    "exit_code": finding.error.exit_code if finding.error else None,
                }
                for finding in self.found
            ],
        }


def render(findings: Findings) -> "Table":
    """The checks as a person reads them."""
    from rich.table import Table
    from rich.text import Text

    colours = {"ok": "green", "note": "yellow", "bad": "bold red", "skipped": "dim"}
    table = Table(title="dry run", show_header=False, title_justify="left")
    table.add_column(style="bold")
    table.add_column()
    table.add_column(overflow="fold")
    for finding in findings.found:
        mark = Text(finding.status, style=colours[finding.status])
        table.add_row(finding.check, mark, Text(finding.text))
    return table
