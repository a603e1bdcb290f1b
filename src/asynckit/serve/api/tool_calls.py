"""Finds tool calls in what a model writes, piece by piece, whatever the pieces are cut like.

How a model writes calls is read off its chat template (:func:`format_of`):

===========  ====================================================================================
``hermes``   ``<tool_call>{"name": …, "arguments": {…}}</tool_call>``, anywhere, any number (Qwen, Hermes)
``llama``    ``{"name": …, "parameters": {…}}`` as the whole answer, several joined by ``;`` (Llama 3)
``mistral``  ``[TOOL_CALLS][{"name": …, "arguments": {…}}, …]`` as the whole answer
===========  ====================================================================================

Where the request forces a call, a grammar makes the answer a ``list`` of calls, or just the ``arguments`` of
the named function. What turns out to be no call stays text, and so does one of a function that is unknown.
"""

import json
import re
from collections.abc import Callable, Collection
from dataclasses import dataclass
from enum import StrEnum


class ToolFormat(StrEnum):
    """How calls are written."""

    HERMES = "hermes"
    LLAMA = "llama"
    MISTRAL = "mistral"
    LIST = "list"
    ARGUMENTS = "arguments"


@dataclass(frozen=True)
class Said:
    """Text for the person."""

    text: str


@dataclass(frozen=True)
class Called:
    """Call number ``index`` begins."""

    index: int
    name: str


@dataclass(frozen=True)
class Argued:
    """More of the arguments, JSON text, of the call that began last."""

    index: int
    text: str


Found = Said | Called | Argued

_OPEN, _CLOSE = "<tool_call>", "</tool_call>"
_MISTRAL_MARK, _LLAMA_MARK = "[TOOL_CALLS]", "<|python_tag|>"
_HEAD = re.compile(r'\{\s*"name"\s*:\s*"((?:[^"\\]|\\.)*)"\s*,\s*"(?:arguments|parameters)"\s*:\s*(?=\{)')
_TELLING = re.compile(r'["\\{}\[\]]')


def format_of(template: str) -> ToolFormat | None:
    """How a model with this chat template writes calls; None if not at all, or unknown."""
    if "tools" not in template:
        return None
    if _OPEN in template:
        return ToolFormat.HERMES
    if _MISTRAL_MARK in template:
        return ToolFormat.MISTRAL
    if _LLAMA_MARK in template or '{"name": function name, "parameters"' in template:
        return ToolFormat.LLAMA
    return None


class _Braces:
    """Follows JSON to the end of its first object or list."""

    def __init__(self) -> None:
        self._depth = 0
        self._in_string = False
        self._at = 0

    def end(self, text: str) -> int:
        """Where the value ends in ``text``, which begins with it and grows from call to call; -1 as yet."""
        while found := _TELLING.search(text, self._at):
            self._at = found.end()
            if self._step(found[0]):
                return self._at
        self._at = max(self._at, len(text))
        return -1

    def _step(self, character: str) -> bool:
        if character == "\\":
            self._at += 1  # whatever is escaped tells nothing
        elif character == '"':
            self._in_string = not self._in_string
        elif not self._in_string:
            self._depth += 1 if character in "{[" else -1
            return self._depth == 0
        return False


class _Call:
    """One call as a JSON object, from its opening brace on."""

    def __init__(self, names: Collection[str], index: int) -> None:
        self._names, self._index = names, index
        self._object, self._arguments = _Braces(), _Braces()
        self._start = -1  # of the arguments
        self._argued = 0  # how many characters of them were reported
        self._argued_all = False
        self.is_call = False

    def push(self, text: str) -> tuple[list[Found], int]:
        """What is new in ``text``, the object as far as it is there, and where it ends (-1: not yet)."""
        found: list[Found] = []
        head = _HEAD.match(text) if self._start < 0 else None
        name = _unquoted(head[1]) if head else ""
        if head and name in self._names:
            self._start, self.is_call = head.end(), True
            found.append(Called(self._index, name))
        if self._start >= 0:
            found += self._more_arguments(text)
        end = self._object.end(text)
        if end >= 0 and not self.is_call:
            found += self._whole(text[:end])
        return found, end

    def _more_arguments(self, text: str) -> list[Found]:
        if self._argued_all:
            return []
        arguments = text[self._start :]
        end = self._arguments.end(arguments)
        self._argued_all = end >= 0
        arguments = arguments[:end] if self._argued_all else arguments
        new, self._argued = arguments[self._argued :], len(arguments)
        return [Argued(self._index, new)] if new else []

    def _whole(self, text: str) -> list[Found]:
        """A call whose keys come in another order, or whose arguments are text; nothing if it is none."""
        try:
            call = json.loads(text)
        except (ValueError, RecursionError):
            return []
        name = call.get("name") if isinstance(call, dict) else None
        arguments = call.get("arguments", call.get("parameters", {})) if isinstance(call, dict) else None
        if not isinstance(name, str) or name not in self._names or not isinstance(arguments, dict | str):
            return []
        self.is_call = True
        given = arguments if isinstance(arguments, str) else json.dumps(arguments, ensure_ascii=False)
        return [Called(self._index, name), Argued(self._index, given)]


def _unquoted(text: str) -> str:
    try:
        return str(json.loads(f'"{text}"'))
    except ValueError:
        return ""


class ToolCalls:
    """Reads one answer.

    Args:
        how: calls are written.
        names: functions that there are; with ``ARGUMENTS`` the one that is called.
    """

    def __init__(self, how: ToolFormat, names: Collection[str]) -> None:
        self._names = names
        self._text = ""  # what nothing is known about yet
        self._call: _Call | None = None
        self._opened = ""  # what stood before the call, to be said if it is none
        self.count = 0
        self._after_call = False  # blanks between calls are nobody's text
        self._state: Callable[[list[Found]], bool] = {
            ToolFormat.HERMES: self._outside,
            ToolFormat.LLAMA: self._before_objects,
            ToolFormat.MISTRAL: self._before_list,
            ToolFormat.LIST: self._before_list,
            ToolFormat.ARGUMENTS: self._before_arguments,
        }[how]
        self._next = {ToolFormat.HERMES: self._after_tagged, ToolFormat.LLAMA: self._after_object}.get(
            how, self._after_item
        )
        self._other = {ToolFormat.HERMES: self._outside}.get(how, self._saying)

    def push(self, text: str) -> list[Found]:
        """What ``text`` adds."""
        self._text += text
        found: list[Found] = []
        while self._text and self._state(found):
            pass
        return found

    def finish(self) -> list[Found]:
        """What the end of the answer adds: text that might have become a call."""
        if self._call and self._call.is_call:
            return []
        rest, self._text = self._opened + self._text, ""
        self._opened = ""
        blank_after_calls = self.count and not rest.strip()
        return [Said(rest)] if rest and not blank_after_calls else []

    # Each state takes what it can from the text, and says whether another may go on at once.

    def _saying(self, found: list[Found]) -> bool:
        found.append(Said(self._text))
        self._text = ""
        return False

    def _outside(self, found: list[Found]) -> bool:
        if self._after_call:
            self._text = self._text.lstrip()
            self._after_call = not self._text
        before, mark, after = self._text.partition(_OPEN)
        if mark:
            self._say(found, before.rstrip())
            self._opened, self._text, self._state = (
                before[len(before.rstrip()) :] + _OPEN,
                after,
                self._inside,
            )
            return True
        kept = _possible_mark(before)
        self._say(found, before[: len(before) - kept])
        self._text = before[len(before) - kept :]
        return False

    def _say(self, found: list[Found], text: str) -> None:
        if text:
            found.append(Said(text))

    def _inside(self, found: list[Found]) -> bool:
        """A brace begins a call; anything else shows that there is none."""
        stripped = self._text.lstrip()
        if not stripped:
            return False
        if not stripped.startswith("{"):
            return self._no_call(found)
        self._opened += self._text[: len(self._text) - len(stripped)]
        self._text = stripped
        self._call = _Call(self._names, self.count)
        self._state = self._calling
        return True

    def _no_call(self, found: list[Found]) -> bool:
        found.append(Said(self._opened))
        self._opened, self._call, self._state = "", None, self._other
        return True

    def _calling(self, found: list[Found]) -> bool:
        assert self._call
        new, end = self._call.push(self._text)
        found += new
        if end < 0:
            return False
        if not self._call.is_call:
            self._opened, self._text = self._opened + self._text[:end], self._text[end:]
            return self._no_call(found)
        self.count += 1
        self._opened, self._text, self._call, self._state = "", self._text[end:], None, self._next
        return True

    def _after_tagged(self, _: list[Found]) -> bool:
        self._text = self._text.lstrip()
        if self._text.startswith(_CLOSE):
            self._text = self._text[len(_CLOSE) :]
        elif _CLOSE.startswith(self._text):
            return False
        self._state, self._after_call = self._outside, True
        return True

    def _before_objects(self, _: list[Found]) -> bool:
        return self._opening(_LLAMA_MARK, "{", self._inside)

    def _before_list(self, _: list[Found]) -> bool:
        return self._opening(_MISTRAL_MARK, "[", self._at_list)

    def _opening(self, mark: str, bracket: str, then: Callable[[list[Found]], bool]) -> bool:
        """Expects the mark, which may be left out, and the bracket at the beginning of the answer."""
        stripped = self._text.lstrip()
        marked = stripped.startswith(mark)
        rest = stripped[len(mark) :].lstrip() if marked else stripped
        if rest.startswith(bracket):
            self._opened, self._text = self._text[: len(self._text) - len(rest)], rest
            self._state = then
            return True
        if not rest or (not marked and mark.startswith(rest)):
            return False
        self._state = self._saying
        return True

    def _at_list(self, _: list[Found]) -> bool:
        self._opened, self._text = self._opened + self._text[0], self._text[1:]
        self._state = self._inside
        return True

    def _after_object(self, _: list[Found]) -> bool:
        """Another object may follow, after blanks and semicolons."""
        rest = self._text.lstrip("; \n\t\r")
        if not rest:
            return False
        self._opened, self._text = self._text[: len(self._text) - len(rest)], rest
        self._state = self._inside
        return True

    def _after_item(self, _: list[Found]) -> bool:
        """A comma and another object, or the end of the list."""
        rest = self._text.lstrip()
        self._text = rest
        if rest.startswith(","):
            self._opened, self._text, self._state = ",", rest[1:], self._inside
        elif rest.startswith("]"):
            self._text, self._state = rest[1:], self._after_list
        elif rest:
            self._state = self._saying
        return bool(rest)

    def _after_list(self, _: list[Found]) -> bool:
        self._text = self._text.lstrip()
        self._state = self._saying
        return bool(self._text)

    def _before_arguments(self, found: list[Found]) -> bool:
        found.append(Called(0, next(iter(self._names))))
        self.count, self._state = 1, self._arguing
        return True

    def _arguing(self, found: list[Found]) -> bool:
        found.append(Argued(0, self._text))
        self._text = ""
        return False


def _possible_mark(text: str) -> int:
    """How many characters at the end of ``text`` may belong to a call: blanks, and a mark's beginning."""
    part = next((size for size in range(len(_OPEN) - 1, 0, -1) if text.endswith(_OPEN[:size])), 0)
    rest = text[: len(text) - part]
    return part + len(rest) - len(rest.rstrip())
