"""Every error that asynckit raises on purpose, and the exit code each one ends a command with.

::

    AsynckitError            1   base class; never raised itself
    ├── WorkFailed           1   the work ran and failed, or failed beyond what was allowed
    │   └── EncoderMismatch  1   a fast encoder and the reference make different tokens of a text
    ├── UsageError           2   the command line asks for something contradictory or unsafe
    ├── ConfigError          3   a configuration key or value is wrong
    ├── InputError           4   a prompt file, reward function or other input is wrong
    │   └── RequestError     4   the engine refuses a request before it reaches the model
    │       └── NoRoom       4   because the model's context or the cache is too small for it
    ├── DependencyError      5   something needed is missing or unreachable
    │   └── ModelNotFound    5   no model of that name can be found or fetched
    ├── RegressionFound      6   a comparison found a regression
    └── Interrupted        130   the person pressed Ctrl-C, or the process was asked to stop

An error says what is wrong (``message``), where (``where``: file:line:column, a flag, an environment
variable) and what to do about it (``mend``). ``asynckit.cli`` alone turns one into an exit code.
"""

from typing import ClassVar


class AsynckitError(Exception):
    """Base of all errors meant for the person at the terminal.

    Attributes:
        message: what is wrong, one sentence.
        where: the place, such as ``conf.yaml:3:5`` or ``--model``; empty when there is none.
        mend: what the person can do about it; empty when nothing is known.
    """

    exit_code: ClassVar[int] = 1

    def __init__(self, message: str, *, where: str = "", mend: str = "") -> None:
        # All three go to Exception, so that the error survives the trip from a Ray worker (pickled by its
        # args).
        super().__init__(message, where, mend)
        self.message = message
        self.where = where
        self.mend = mend

    def __reduce__(self) -> tuple[object, ...]:
        return (_rebuild, (type(self), self.message, self.where, self.mend))

    def __str__(self) -> str:
        place = f"{self.where}: " if self.where else ""
        advice = f" ({self.mend})" if self.mend else ""
        return f"{place}{self.message}{advice}"


def _rebuild(kind: type[AsynckitError], message: str, where: str, mend: str) -> AsynckitError:
    return kind(message, where=where, mend=mend)


class WorkFailed(AsynckitError):
    """The work ran and failed, or more of it failed than ``--max-failures`` allows."""


class EncoderMismatch(WorkFailed):
    """A fast encoder and the reference make different tokens of the same text."""


class UsageError(AsynckitError):
    """The command line asks for something contradictory or unsafe."""

    exit_code = 2


class ConfigError(AsynckitError):
    """A configuration key is unknown or its value has the wrong type or range."""

    exit_code = 3


class InputError(AsynckitError):
    """An input (prompts, reward function, data) cannot be used as it is."""

    exit_code = 4


class RequestError(InputError):
    """The engine refuses a request before it reaches the model."""


class NoRoom(RequestError):
    """A request and its response are more tokens than the model's context or the cache can hold."""


class DependencyError(AsynckitError):
    """A package, model, server or device that the work needs is missing or unreachable."""

    exit_code = 5


class ModelNotFound(DependencyError):
    """No model of that name can be found or fetched."""


class RegressionFound(AsynckitError):
    """A comparison found a regression beyond the threshold."""

    exit_code = 6


class Interrupted(AsynckitError):
    """The person pressed Ctrl-C, or the process was asked to stop."""

    exit_code = 130
