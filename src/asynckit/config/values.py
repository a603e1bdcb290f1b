"""Values: turned into their declared types without guessing, shown to people, masked where secret."""

import hashlib
import json
import re
import types
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from typing import Any, Union, get_args, get_origin

from asynckit.config.keys import Leaf, Path, dotted

NAMES: Mapping[Any, tuple[str, str]] = {  # type: (one of them, several of them)
    bool: ("true or false", "booleans"),
    int: ("an integer", "integers"),
    float: ("a number", "numbers"),
    str: ("a string", "strings"),
}
LONGEST_SHOWN = 60


class WrongType(Exception):
    """A value does not have the declared type; the message is a whole sentence."""


def convert(value: Any, leaf: Leaf, key: str) -> Any:
    """The value in the type that the leaf declares.

    Only what loses nothing is converted: integers to floats, lists to tuples, and numbers given as entries
    of a ``dict[str, str]`` to their strings.

    Raises:
        WrongType: the value is of another type.
    """
    if leaf.is_entry and leaf.type is str and isinstance(value, bool | int | float):
        value = json.dumps(value)
    if "separator" in leaf.metadata and isinstance(value, str):
        value = [item.strip() for item in value.split(leaf.metadata["separator"]) if item.strip()]
    return _convert(value, leaf.type, key, leaf)


def _convert(value: Any, declared: Any, key: str, leaf: Leaf) -> Any:
    bare, optional = _without_none(declared)
    container = get_origin(bare)
    if value is None and optional:
        return None
    if container in (tuple, list) and isinstance(value, list | tuple):
        item = get_args(bare)[0]
        return container(_convert(each, item, f"{key}[{index}]", leaf) for index, each in enumerate(value))
    if container is dict and value == {}:  # entries are leaves of their own
        return {}
    if bare is float and type(value) is int and abs(value) < 2**1023:
        return float(value)
    if container is None and type(value) is bare and _is_text(value):
        return value
    raise WrongType(f"{key} must be {_describe(declared)}, not {shown(value, leaf)}")


def _is_text(value: Any) -> bool:
    """False for a string with bytes that are not UTF-8 (surrogates stand for them): no file holds it."""
    return not (isinstance(value, str) and any("\ud800" <= letter <= "\udfff" for letter in value))


def _without_none(declared: Any) -> tuple[Any, bool]:
    if get_origin(declared) not in (Union, types.UnionType):
        return declared, False
    (bare,) = (
        each for each in get_args(declared) if each is not types.NoneType
    )  # X | None is the only union
    return bare, True


def _describe(declared: Any) -> str:
    bare, optional = _without_none(declared)
    container, parts = get_origin(bare), get_args(bare)
    if container in (tuple, list):
        name = f"a list of {NAMES[parts[0]][1]}"
    elif container is dict:
        name = f"a mapping of names to {NAMES[parts[1]][1]}"
    else:
        name = NAMES[bare][0]
    return f"{name} or null" if optional else name


def declares_text(leaf: Leaf) -> bool:
    """Whether the leaf is a string, or a string or null."""
    return _without_none(leaf.type)[0] is str


def help_for(leaf: Leaf, path: Path) -> str:
    """What the setting is, for somebody who gave it a wrong value."""
    text = leaf.metadata.get("help")
    return f"{dotted(path)} is: {text}" if text else ""


def shown(value: Any, leaf: Leaf) -> str:
    """The value as an error message shows it: short, and never a secret."""
    value = masked(value, leaf.metadata)
    text = repr(value) if isinstance(value, str) else json.dumps(value, default=str, ensure_ascii=False)
    return text if len(text) <= LONGEST_SHOWN else text[: LONGEST_SHOWN - 1] + "…"


def masked(value: Any, metadata: Mapping[str, Any]) -> Any:
    """The value, or where the field is secret, a fingerprint by which two secrets can be compared unseen."""
    if not metadata.get("secret") or value is None:
        return value
    if isinstance(value, Mapping):
        return {key: masked(each, metadata) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [masked(each, metadata) for each in value]
    return "***" + hashlib.sha256(str(value).encode("utf-8", "surrogateescape")).hexdigest()[:8]


def plain(instance: Any, *, mask: bool = False, identity: bool = False) -> dict[str, Any]:
    """A dataclass as nested mappings, lists and scalars that JSON can hold.

    ``mask`` hides secrets; ``identity`` leaves out what changes how a run goes but not what it produces.
    """
    return {
        field.name: _plain(getattr(instance, field.name), field.metadata, mask=mask, identity=identity)
        for field in fields(instance)
        if not identity or field.metadata.get("identity", True)
    }


def _plain(value: Any, metadata: Mapping[str, Any], *, mask: bool, identity: bool) -> Any:
    if is_dataclass(value):
        return plain(value, mask=mask, identity=identity)
    if isinstance(value, tuple):
        value = list(value)
    return masked(value, metadata) if mask else value


def digest_of(values: Mapping[str, Any]) -> str:
    """16 hexadecimal digits of the SHA-256 of the values as canonical JSON."""
    canonical = json.dumps(values, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(canonical.encode()).hexdigest()[:16]


def escaped(value: Any) -> Any:
    """The value with every literal ``${`` protected, because it has been resolved already."""
    if isinstance(value, str):
        return re.sub(r"(\\*)\$\{", lambda found: found[1] * 2 + r"\${", value)
    if isinstance(value, Mapping):
        return {key: escaped(each) for key, each in value.items()}
    return [escaped(each) for each in value] if isinstance(value, list) else value
