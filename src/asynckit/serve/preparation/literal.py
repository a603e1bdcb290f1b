"""Keeps text that looks like a special token from becoming one when a chat is laid out.

A chat template glues special tokens and what people wrote into one text, in which ``<|im_end|>`` of the
template and ``<|im_end|>`` of a user are the same. So before the template runs, every special token in a
message is replaced by a mark that nobody can guess. Afterwards the special tokens in the text are the
template's own; between them the marks become text again and are encoded as text.
"""

import re
from collections.abc import Iterator, Mapping
from typing import Any


class Marks:
    """Marks for one chat.

    Args:
        specials: texts of the special tokens.
        nonce: letters and digits that nobody can guess, made anew for every chat.
    """

    def __init__(self, specials: Mapping[str, int], nonce: str) -> None:
        longest_first = sorted(specials, key=len, reverse=True)
        self._specials = specials
        self._texts = longest_first
        self._places = {text: place for place, text in enumerate(longest_first)}
        self._special = re.compile("|".join(map(re.escape, longest_first))) if longest_first else None
        self._mark = re.compile(f"Q{nonce}x([0-9]+)Z")
        self._nonce = nonce
        self.used = False

    def put(self, value: Any) -> Any:
        """``value`` with marks for the special tokens in all of its strings, keys included."""
        if isinstance(value, str):
            return self._special.sub(self._marked, value) if self._special else value
        if isinstance(value, dict):
            return {self.put(key): self.put(each) for key, each in value.items()}
        if isinstance(value, list | tuple):
            return [self.put(each) for each in value]
        return value

    def take(self, text: str) -> str:
        """``text`` with the special tokens instead of their marks."""
        return self._mark.sub(lambda found: self._texts[int(found[1])], text)

    def pieces(self, rendered: str) -> Iterator[str | int]:
        """The laid-out chat: ids of the template's special tokens, and the text between them."""
        end = 0
        for found in self._special.finditer(rendered) if self._special else ():
            if found.start() > end:
                yield self.take(rendered[end : found.start()])
            yield self._specials[found[0]]
            end = found.end()
        if end < len(rendered):
            yield self.take(rendered[end:])

    def _marked(self, found: "re.Match[str]") -> str:
        self.used = True
        return f"Q{self._nonce}x{self._places[found[0]]}Z"
