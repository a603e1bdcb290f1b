"""``math_verify``: whether a response's mathematics equals the ground truth's, by the package math-verify.

The package extracts and compares through SymPy, which may take any time on what a model made up. Its own
time-outs are off: one alarm here covers the whole of it, and a response that needs longer is wrong.
"""

import functools
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

from asynckit.errors import DependencyError, InputError
from asynckit.rollout.scoring.numbers_in_text import true_number
from asynckit.rollout.scoring.rewards import RewardInput, Score

_SECONDS = 5.0  # for reading one text, and for one comparison
_MARKED = ("$", r"\boxed", r"\(", r"\[")


def import_math_verify() -> Any:
    """The ``math_verify`` module.

    Raises:
        DependencyError: it is not installed, or cannot be imported.
    """
    try:
        import math_verify
    except ImportError as error:
        raise DependencyError(
            f"math_verify cannot be imported: {error}", mend="pip install 'asynckit[math]'"
        ) from error
    return math_verify


def is_readable(ground_truth: Any) -> bool:
    """Whether a ground truth may be mathematics: a number, or a text that is not blank."""
    if isinstance(ground_truth, bool) or not isinstance(ground_truth, int | float | str):
        return False
    return bool(str(ground_truth).strip())


def score_math(given: RewardInput) -> Score:
    r"""1.0 where the last ``\boxed{}`` of the response, or else its last expression, equals the ground truth.

    In the process's main thread only, because it sets an alarm.

    Raises:
        InputError: the ground truth can't be read as mathematics.
    """
    gold = _read_truth(as_latex(given.prompt.ground_truth))
    if not gold:
        raise InputError(
            f"the ground truth {str(given.prompt.ground_truth)[:80]!r} can't be read as mathematics",
            where=given.prompt.where,
            mend="write LaTeX or a number, or choose another reward",
        )
    verify = import_math_verify().verify
    try:
        with _time_limit(_SECONDS):
            right = verify(gold, _read(given.response), timeout_seconds=None)
    # SymPy raises anything on what it can't read or compare, which is a wrong answer; the component keeps it
    # visible. The ground truth has been read by the same code, outside.
    except (Exception, _TooLong):  # noqa: BLE001
        return Score(0.0, {"verifier_error": 1.0})
    return Score(float(right))


def as_latex(ground_truth: Any) -> str:
    """A ground truth as text with its mathematics marked; numbers in digits, ``1e-5`` among them."""
    number = true_number(ground_truth)
    if number is not None:
        return rf"\boxed{{{number:f}}}"
    text = str(ground_truth).rpartition("####")[2].strip()
    return text if any(mark in text for mark in _MARKED) or not text else rf"\boxed{{{text}}}"


@functools.lru_cache(maxsize=256)  # the samples of a group share theirs
def _read_truth(text: str) -> list[Any]:
    try:
        with _time_limit(_SECONDS):
            return _read(text)
    except _TooLong:
        return []


def _read(text: str) -> list[Any]:
    """The last boxed expression, else the last expression or number, and its text; empty without one."""
    math_verify = import_math_verify()
    targets = (
        math_verify.LatexExtractionConfig(boxed_match_priority=0),
        math_verify.ExprExtractionConfig(),
    )
    found: list[Any] = math_verify.parse(
        text, targets, extraction_mode="first_match", parsing_timeout=None, raise_on_error=True
    )
    return found


class _TooLong(BaseException):
    """No Exception, so that no ``except Exception`` on the way up takes it for an error of its own."""


@contextmanager
def _time_limit(seconds: float) -> Iterator[None]:
    """Raise ``_TooLong`` in the block when it takes longer; code in C that never returns is not stopped."""

    def strike(_signal: int, _frame: FrameType | None) -> None:
        raise _TooLong

    previous = signal.signal(signal.SIGALRM, strike)
    signal.setitimer(signal.ITIMER_REAL, seconds, 1.0)  # and again, in case something on the way catches it
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, previous)
