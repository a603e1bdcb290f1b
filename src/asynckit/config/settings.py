"""What a layer gave, taken apart into single settings and checked against the schema, each with its place."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from asynckit.config.keys import UNSET, Leaf, Path, Schema, advice, dotted, leaf_at, leaves, sections
from asynckit.config.origin import Kind, Origin
from asynckit.config.values import WrongType, convert, declares_text, help_for
from asynckit.errors import ConfigError

Setting = tuple[Path, Origin]
Place = Callable[[Path, bool], str]  # (path, the key rather than its value?) -> where


def spread(schema: Schema, path: Path, value: Any, kind: Kind, place: Place) -> Iterator[Setting]:
    """The settings in a value: itself, or those that it holds where the path is a section or ``dict`` field.

    Raises:
        ConfigError: the schema has no such key, or the value has another type than it declares.
    """
    leaf = leaf_at(schema, path)
    if leaf is None and path not in sections(schema):
        raise _unknown(schema, path, place(path, True))
    if isinstance(value, Mapping) and (leaf is None or (leaf.is_mapping and value)):
        for name, each in value.items():
            yield from spread(schema, (*path, str(name)), each, kind, place)
    elif leaf is not None:
        where = place(path, False)
        if value != UNSET and not has_interpolation(value):
            value = typed(value, leaf, path, where)
        yield path, Origin(kind, where, value)
    elif value is not None or kind != "file":  # "rollout:" with all its keys commented out says nothing
        keys = [dotted(key) for key in leaves(schema) if key[: len(path)] == path]
        raise ConfigError(
            f"{dotted(path)} is a section, not a single value",
            where=place(path, False),
            mend=f"set one of its keys: {', '.join(keys)}",
        )


def _unknown(schema: Schema, path: Path, where: str) -> ConfigError:
    for depth in range(1, len(path)):
        above = path[:depth]
        leaf = leaf_at(schema, above)
        if leaf and not leaf.is_mapping:
            problem = f"{dotted(above)} is a single value and has no key {path[depth]!r}"
            return ConfigError(problem, where=where, mend=help_for(leaf, above))
    noun = "section" if len(path) == 1 and sections(schema) != {()} else "key"
    return ConfigError(f"unknown {noun} {dotted(path)}", where=where, mend=advice(path, schema))


def typed(value: Any, leaf: Leaf, path: Path, where: str, source: str = "") -> Any:
    """The value in its declared type; ``source`` ends the error message, if there is one.

    Raises:
        ConfigError: it is of another type.
    """
    try:
        return convert(value, leaf, dotted(path))
    except WrongType as error:
        unquoted = declares_text(leaf) and value is not None and not isinstance(value, str)
        mend = "if it is text, put it in quotes" if unquoted else help_for(leaf, path)
        raise ConfigError(f"{error}{source}", where=where, mend=mend) from error


def has_interpolation(value: Any) -> bool:
    """Whether OmegaConf has something to resolve in the value."""
    if isinstance(value, list | tuple):
        return any(map(has_interpolation, value))
    return isinstance(value, str) and "${" in value


def histories_of(settings: Sequence[Setting]) -> dict[Path, tuple[Origin, ...]]:
    """Every value that each key was given, oldest first."""
    histories: dict[Path, tuple[Origin, ...]] = {}
    for path, origin in settings:
        histories[path] = (*histories.get(path, ()), origin)
    with_entries = {path[:-1] for path in histories}  # a dict field itself stands in the way of its entries
    return {path: history for path, history in histories.items() if path not in with_entries}


def without_value(path: Path, origin: Origin) -> ConfigError:
    """The error for a key that nobody gave a value."""
    mend = f"set it, for example with the argument {dotted(path)}=VALUE"
    return ConfigError(f"{dotted(path)} has no value ({UNSET})", where=origin.where, mend=mend)
