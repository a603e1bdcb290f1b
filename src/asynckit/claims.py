"""What is claimed of a folder, and whether it holds: for commands that prove their data whole."""

from dataclasses import dataclass, field
from typing import Generic, TypeVar

FindingT = TypeVar("FindingT")
_KEPT = 20  # findings per check; all are counted


@dataclass
class Check(Generic[FindingT]):
    """One property.

    Attributes:
        name: short and stable, for programs.
        claim: what is checked.
        covers: what was looked at, in numbers, or why nothing was.
        made: whether it could be checked.
        findings: the first places where it does not hold.
        broken: in how many it does not.
    """

    name: str
    claim: str
    covers: str = ""
    made: bool = True
    findings: list[FindingT] = field(default_factory=list)
    broken: int = 0

    @property
    def verdict(self) -> str:
        """``holds``, ``broken`` or ``not checked``."""
        if self.broken:
            return "broken"
        return "holds" if self.made else "not checked"

    def keep(self, finding: FindingT) -> None:
        """Count a place where it does not hold, and keep it if it is one of the first."""
        self.broken += 1
        if len(self.findings) < _KEPT:
            self.findings.append(finding)

    def cover(self, what: str) -> None:
        """Note what was looked at."""
        self.made, self.covers = True, what

    def skip(self, why: str) -> None:
        """Note that it can't be checked, or isn't."""
        self.made, self.covers = False, why
