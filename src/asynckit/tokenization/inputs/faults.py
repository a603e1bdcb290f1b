"""What can be wrong with an input: one record of it, or what it lies in."""

from typing import NamedTuple

from asynckit.errors import InputError


class Fault(NamedTuple):
    """A record that cannot be used.

    Attributes:
        start: its first byte in the decompressed source, or its row.
        line: its line in the unit, from 0; -1 where there are no lines.
        reason: what is wrong with it, without the place.
        mend: what a person can do about it.
    """

    start: int
    line: int
    reason: str
    mend: str


class Unusable(Exception):
    """A value is not what was asked for; never leaves the inputs: it becomes a :class:`Fault`."""

    def __init__(self, reason: str, mend: str) -> None:
        super().__init__(reason, mend)
        self.reason = reason
        self.mend = mend


class BrokenSource(InputError):
    """The rest of a source cannot be read: a file that is cut off, or damaged inside.

    Attributes:
        start: first byte of the decompressed source, or first row, that is lost.
    """

    start: int = 0

    @classmethod
    def at(cls, start: int, message: str, *, where: str, mend: str) -> "BrokenSource":
        """The error, with the place from which on nothing can be read."""
        error = cls(message, where=where, mend=mend)
        error.start = start
        return error


def is_damage(error: Exception) -> bool:
    """Whether a library complains of the data: pyarrow and bz2 use OSError for that, but without a number."""
    return not isinstance(error, OSError) or (type(error) is OSError and error.errno is None)


def kind_of(value: object) -> str:
    """What a value of a record is, in words."""
    names = {
        bool: "a boolean",
        str: "text",
        int: "a number",
        float: "a number",
        list: "a list",
        dict: "an object",
    }
    return "null" if value is None else names.get(type(value), type(value).__name__)
