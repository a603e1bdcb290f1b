"""Where in a record the text is: ``text``, ``meta.body``, ``messages[0].content``, ``["odd key"]``."""

import json
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from asynckit.errors import ConfigError
from asynckit.near_miss import did_you_mean
from asynckit.readable import in_one_line
from asynckit.tokenization.inputs.faults import Unusable, kind_of

_STEP = re.compile(
    r"""(?P<dot>\.)?(?P<name>[^.\[\]"]+)|\[(?P<index>-?\d+)\]|\[(?P<quoted>"(?:[^"\\]|\\.)*")\]"""
)
_NAMES_SHOWN = 8


@dataclass(frozen=True, slots=True)
class FieldPath:
    """A way into a record.

    Attributes:
        text: as the person wrote it.
        root: the key at the top of the record.
        steps: what follows: keys of objects, indices of lists.
    """

    text: str
    root: str
    steps: tuple[str | int, ...] = ()

    def find(self, root_value: Any) -> Any:
        """What lies there, given the value of ``root``.

        Raises:
            Unusable: nothing lies there.
        """
        value, way = root_value, self.root
        for step in self.steps:
            if isinstance(step, int):
                value, way = _element(value, step, way), f"{way}[{step}]"
            else:
                value, way = _member(value, step, way), f"{way}.{step}"
        return value


def parse_field(text: str) -> FieldPath:
    """The path that ``text`` names.

    Raises:
        ConfigError: it is none.
    """
    steps: list[str | int] = []
    position = 0
    while position < len(text):
        found = _STEP.match(text, position)
        # A name needs a dot before it except at the start, and an index needs something to index.
        if (
            found is None
            or (found["name"] and bool(found["dot"]) != bool(steps))
            or (found["index"] and not steps)
        ):
            raise _no_path(text)
        steps.append(_step(found, text))
        position = found.end()
    if not steps:
        raise _no_path(text)
    return FieldPath(text, str(steps[0]), tuple(steps[1:]))


def _step(found: re.Match[str], text: str) -> str | int:
    if found["index"]:
        return int(found["index"])
    if not found["quoted"]:
        return found["name"]
    try:
        return str(json.loads(found["quoted"]))
    except ValueError as error:
        raise _no_path(text) from error


def _no_path(text: str) -> ConfigError:
    return ConfigError(
        f"{text!r} names no field",
        where="--field",
        mend='write it such as text, meta.body, messages[0].content or ["odd key"]',
    )


def missing(name: str, known: Iterable[str], inside: str = "") -> Unusable:
    """That an object lacks ``name``, with what it has and what was probably meant."""
    there = list(known)
    shown = ", ".join(in_one_line(key, 40) for key in there[:_NAMES_SHOWN]) + (
        ", …" if len(there) > _NAMES_SHOWN else ""
    )
    place = f" in {inside}" if inside else ""
    advice = did_you_mean(name, there) or "name another field with --field"
    return Unusable(f"no field {name!r}{place}" + (f"; it has {shown}" if there else "; it is empty"), advice)


def _member(value: Any, key: str, way: str) -> Any:
    if not isinstance(value, dict):
        raise Unusable(f"{way} is {kind_of(value)}, not an object", f"{way}.{key} needs an object there")
    if key not in value:
        raise missing(key, value, way)
    return value[key]


def _element(value: Any, index: int, way: str) -> Any:
    if not isinstance(value, list):
        raise Unusable(f"{way} is {kind_of(value)}, not a list", f"{way}[{index}] needs a list there")
    if not -len(value) <= index < len(value):
        raise Unusable(
            f"{way} has {len(value)} elements, no [{index}]", "name an element that every record has"
        )
    return value[index]


@dataclass(frozen=True, slots=True)
class Wanted:
    """A field that is asked for, and what has to lie there.

    Attributes:
        path: where.
        kind: text; list, which may be kept as JSON in a text; or any.
        optional: None is given where it is missing or null.
    """

    path: FieldPath
    kind: str = "text"
    optional: bool = False

    def value(self, root_value: Any) -> Any:
        """The field's value, given that of its root.

        Raises:
            Unusable: it is missing, or of another kind.
        """
        if root_value is None and self.optional:
            return None
        return self.checked(self.path.find(root_value))

    def checked(self, value: Any) -> Any:
        """``value`` itself, if it is of the right kind.

        Raises:
            Unusable: it is not.
        """
        if value is None and self.optional:
            return None
        if self.kind == "text":
            return self._text(value)
        return self._list(value) if self.kind == "list" else value

    def _text(self, value: Any) -> str:
        if not isinstance(value, str):
            raise self._wrong_kind(value, "text")
        return value

    def _list(self, value: Any) -> list[Any]:
        if isinstance(value, str) and value.startswith("["):
            try:
                value = json.loads(value)
            except ValueError as error:
                mend = "mend the record, or leave such records out with --on-error skip"
                raise Unusable(f"{self.path.text} is text, and no JSON: {error}", mend) from error
        if not isinstance(value, list):
            raise self._wrong_kind(value, "a list of messages")
        return value

    def _wrong_kind(self, value: Any, expected: str) -> Unusable:
        mend = "name another field with --field, or leave such records out with --on-error skip"
        return Unusable(f"{self.path.text} is {kind_of(value)}, not {expected}", mend)


def wanted_fields(fields: Sequence[str], mode: str) -> tuple[Wanted, ...]:
    """The fields with what has to lie there in ``mode``; a chat's second field (its tools) may be missing.

    Raises:
        ConfigError: a field is no path.
    """
    paths = [parse_field(field) for field in fields]
    if mode != "chat":
        return tuple(Wanted(path) for path in paths)
    return (Wanted(paths[0], "list"), *(Wanted(path, "any", optional=True) for path in paths[1:]))
