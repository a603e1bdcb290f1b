"""A text on which two encoders differ, made as short as it goes."""

from collections.abc import Callable

_MOST_CHARACTERS = 1 << 22  # that both encode on the way: about two seconds


def shrink(text: str, differ: Callable[[str], bool]) -> str:
    """A short part of a text on which the encoders still differ; the text itself where nothing can go.

    Zeller's delta debugging (ddmin): takes out ever smaller parts, within a bound on the work.

    Args:
        text: on which they differ.
        differ: whether they differ on a text.
    """
    left = _MOST_CHARACTERS
    part = (len(text) + 1) // 2
    while part:
        shorter, left = _without_parts(text, part, differ, left)
        if left <= 0:
            return shorter
        part = part // 2 if shorter == text else min(part, (len(shorter) + 1) // 2)
        text = shorter
    return text


def _without_parts(text: str, part: int, differ: Callable[[str], bool], left: int) -> tuple[str, int]:
    """The text after trying once to take out each part of this size, and the work that is left."""
    at = 0
    while at < len(text) and left > 0:
        candidate = text[:at] + text[at + part :]
        left -= len(candidate) + 100
        if candidate and differ(candidate):
            text = candidate
        else:
            at += part
    return text, left
