"""Token ids to text, one token at a time, without ever cutting a character in two."""

from collections.abc import Callable, Sequence

_REPLACEMENT = "\N{REPLACEMENT CHARACTER}"
_MOST_HELD = 3  # U+FFFD that may still become a character: one per byte of it, or one for them all
_CONTEXT = 12  # tokens: enough for the bytes of three unfinished characters
_LONGEST = 24


class TextWindow:
    """The last tokens of a growing list, whose text shows what a new token adds.

    Decoding one token alone loses the space or the half character that it needs its neighbours for, and
    decoding all of them at every step is quadratic. So the last few are decoded, and what goes beyond the
    text that is known already is new (after the prefix and read offsets of HF's text-generation-inference).
    At the end U+FFFD is held back while it may become a character. Whoever holds the window decodes it, so
    that many windows are decoded in one call.

    Attributes:
        tokens: the window. Append a new token; decode them all; :meth:`read` the text.
    """

    __slots__ = ("_told", "held", "tokens")

    def __init__(self) -> None:
        self.tokens: list[int] = []
        self.held = ""
        self._told = 0

    def read(self, text: str, *, last: bool = False) -> str:
        """The text that is certain now and was not before, given the window's; all of it if ``last``."""
        certain = len(text) if last else _certain(text)
        new = text[self._told : certain]
        self._told = max(self._told, certain)
        self.held = text[self._told :]
        return new

    def release(self) -> str:
        """What is held back; it can't become anything else any more."""
        held, self.held = self.held, ""
        self._told += len(held)
        return held

    def restart(self, token: int) -> None:
        """Forget the tokens; go on after one that stands for U+FFFD and was told."""
        self.tokens, self._told, self.held = [token], 1, ""

    def context(self) -> list[int] | None:
        """The tokens to go on with where the window has become long: decode them for :meth:`shorten`."""
        return self.tokens[-_CONTEXT:] if len(self.tokens) > _LONGEST else None

    def shorten(self, tokens: list[int], text: str) -> None:
        """Go on with these of its last tokens; not if they have too little text to go by."""
        if len(text) > len(self.held) and text.endswith(self.held):
            self.tokens = tokens
            self._told = len(text) - len(self.held)


def _certain(text: str) -> int:
    """How much of a text can't change by what comes after it, in characters."""
    if not text.endswith(_REPLACEMENT):
        return len(text)
    return max(len(text) - _MOST_HELD, len(text.rstrip(_REPLACEMENT)))


class IncrementalText:
    """Text of a growing list of tokens; see :class:`TextWindow`."""

    def __init__(self, decode: Callable[[Sequence[int]], str]) -> None:
        self._decode = decode
        self._window = TextWindow()

    def push(self, token: int) -> str:
        """Add a token; returns the text that is certain now, often empty."""
        window = self._window
        window.tokens.append(token)
        new = window.read(self._decode(window.tokens))
        shorter = window.context()
        if shorter:
            window.shorten(shorter, self._decode(shorter))
        return new

    def finish(self) -> str:
        """The text held back so far, incomplete characters as U+FFFD."""
        return self._window.read(self._decode(self._window.tokens), last=True)


class StopStrings:
    """Watches a growing text for the first of several stop strings."""

    def __init__(self, stop: Sequence[str], decode: Callable[[Sequence[int]], str]) -> None:
        self._stop = stop
        self._text = IncrementalText(decode)
        self._tail = ""
        self._keep = max(map(len, stop)) - 1

    def push(self, token: int) -> bool:
        """Add a token; returns whether a stop string is complete now."""
        known = len(self._tail)
        self._tail += self._text.push(token)  # a stop string that was complete before was allowed to pass
        found = any(self._tail.find(stop, max(0, known - len(stop) + 1)) >= 0 for stop in self._stop)
        self._tail = self._tail[-self._keep :] if self._keep else ""
        return found


def cut_at_stop(text: str, stop: Sequence[str]) -> str:
    """``text`` without the stop string that ended it, and what its last token brought after that.

    The last occurrence counts: earlier ones were allowed to pass (``min_tokens``).
    """
    return text[: max((text.rfind(s) for s in stop if s in text), default=len(text))]


class BeforeStop:
    """Passes a growing text on without the stop string that ends it.

    What may be the beginning of a stop string is held back. A whole one that ends nothing passes: the engine
    lets those before ``min_tokens`` pass.
    """

    def __init__(self, stop: Sequence[str]) -> None:
        self._stop = stop
        self._longest = max(map(len, stop)) - 1
        self._held = ""

    def push(self, new: str) -> str:
        """The text that can be shown now."""
        text = self._held + new
        start = next(
            (at for at in range(max(0, len(text) - self._longest), len(text)) if self._may_begin(text[at:])),
            len(text),
        )
        self._held = text[start:]
        return text[:start]

    def finish(self, new: str, *, stopped: bool) -> str:
        """The rest of the text; if a stop string may have ended it (``stopped``), up to that.

        Of several in ``new`` the one that is complete first counts, as if characters had come one by one; of
        those, the longest.
        """
        text, known = self._held + new, len(self._held)
        self._held = ""
        if not stopped:
            return text
        found = [(text.find(stop, max(0, known - len(stop) + 1)), stop) for stop in self._stop]
        ends = [(start + len(stop), start) for start, stop in found if start >= 0]
        return text[: min(ends)[1]] if ends else text

    def _may_begin(self, tail: str) -> bool:
        return any(len(stop) > len(tail) and stop.startswith(tail) for stop in self._stop)
