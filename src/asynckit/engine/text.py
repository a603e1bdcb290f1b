"""Token ids to text, one token at a time, without ever cutting a character in two."""

from collections.abc import Callable, Sequence

_REPLACEMENT = "\N{REPLACEMENT CHARACTER}"


class IncrementalText:
    """Text of a growing list of tokens.

    Decoding one token alone loses the space or the half character that it needs its neighbours for, and
    decoding all of them at every step is quadratic. So a window is decoded twice, with and without the new
    tokens, and the difference is the new text (the prefix and read offsets of HF's
    text-generation-inference). Text that ends in an incomplete character is held back until the rest arrives
    or :meth:`finish` is called.
    """

    def __init__(self, decode: Callable[[Sequence[int]], str]) -> None:
        self._decode = decode
        self._tokens: list[int] = []
        self._prefix = 0
        self._read = 0

    def push(self, token: int) -> str:
        """Add a token; returns the text that is certain now, often empty."""
        self._tokens.append(token)
        text = self._new_text()
        if text.endswith(_REPLACEMENT):
            return ""
        self._prefix, self._read = self._read, len(self._tokens)
        return text

    def finish(self) -> str:
        """The text held back so far, incomplete characters as U+FFFD."""
        text = self._new_text()
        self._prefix = self._read = len(self._tokens)
        return text

    def _new_text(self) -> str:
        known = self._decode(self._tokens[self._prefix : self._read])
        return self._decode(self._tokens[self._prefix :])[len(known) :]


class StopStrings:
    """Watches a growing text for the first of several stop strings."""

    def __init__(self, stop: Sequence[str], decode: Callable[[Sequence[int]], str]) -> None:
        self._stop = stop
        self._text = IncrementalText(decode)
        self._tail = ""
        self._keep = max(map(len, stop)) - 1

    def push(self, token: int) -> bool:
        """Add a token; returns whether a stop string is complete now."""
        self._tail += self._text.push(token)
        found = any(stop in self._tail for stop in self._stop)
        self._tail = self._tail[-self._keep :] if self._keep else ""
        return found


def cut_at_stop(text: str, stop: Sequence[str]) -> str:
    """``text`` without the stop string that ended it, and what its last token brought after that.

    The last occurrence counts: earlier ones were allowed to pass (``min_tokens``).
    """
    return text[: max((text.rfind(s) for s in stop if s in text), default=len(text))]
