"""The schema seen as dotted keys: which exist, how they are declared, and which one was probably meant.

A path is a key taken apart: ``("rollout", "n")``. Sections are nested dataclasses; every other field is
a leaf. The entries of a ``dict`` field are leaves too: ``prompts.task.max_terms``.
"""

import difflib
import functools
import heapq
import re
from collections.abc import Iterable, Mapping
from dataclasses import MISSING as NO_DEFAULT
from dataclasses import dataclass, fields, is_dataclass
from typing import Any, get_args, get_origin, get_type_hints

Path = tuple[str, ...]
Schema = Any  # a dataclass whose fields are settings and sections (mypy has no name for such a type)

UNSET = "???"  # OmegaConf's mark for a value that somebody still has to give


@dataclass(frozen=True)
class Leaf:
    """One setting as its dataclass declares it."""

    type: Any
    default: Any
    metadata: Mapping[str, Any]
    is_entry: bool = False

    @property
    def is_mapping(self) -> bool:
        """Whether the setting is a ``dict``, whose entries are settings of their own."""
        return get_origin(self.type) is dict

    @property
    def entry(self) -> "Leaf":
        """What every entry of a ``dict`` setting looks like."""
        return Leaf(get_args(self.type)[1], UNSET, self.metadata, is_entry=True)


def dotted(path: Path) -> str:
    """The path as people write it."""
    return ".".join(path)


def path_of(key: str) -> Path:
    r"""The parts of a key as OmegaConf's dotlists write it: ``a.b``, ``a[b]``, ``a\.b`` for a literal dot."""
    parts = re.split(r"(?<!\\)[.\[]", key)
    return tuple(re.sub(r"\\(.)", r"\1", part.removesuffix("]")) for part in parts)


@functools.cache
def leaves(schema: Schema) -> Mapping[Path, Leaf]:
    """Every leaf of a dataclass and of its sections, in the order of declaration."""
    found: dict[Path, Leaf] = {}
    hints = get_type_hints(schema)
    for field in fields(schema):
        hint = hints[field.name]
        if is_dataclass(hint):
            found |= {(field.name, *path): leaf for path, leaf in leaves(hint).items()}  # type: ignore[arg-type]
        else:
            found[field.name,] = Leaf(hint, _default(field), field.metadata)
    return found


def _default(field: Any) -> Any:
    if field.default_factory is not NO_DEFAULT:
        return field.default_factory()
    return UNSET if field.default is NO_DEFAULT else field.default


@functools.cache
def sections(schema: Schema) -> frozenset[Path]:
    """The paths of all sections; the root is the empty path."""
    return frozenset(path[:depth] for path in leaves(schema) for depth in range(len(path)))


def leaf_at(schema: Schema, path: Path) -> Leaf | None:
    """The leaf at this path, an entry of a ``dict`` setting included; None where the schema has none."""
    known = leaves(schema)
    parent = known.get(path[:-1])
    return known.get(path) or (parent.entry if parent and parent.is_mapping and path[-1] else None)


def leaf_of(schema: Schema, path: Path) -> Leaf:
    """The leaf at a path that is known to be one."""
    known = leaves(schema)
    return known[path] if path in known else known[path[:-1]].entry


def undotted(schema: Schema, key: str) -> Path:
    """The path of a dotted key; what follows the name of a mapping is one entry's name, dots and all."""
    for path, leaf in leaves(schema).items():
        if leaf.is_mapping and key.startswith(f"{dotted(path)}."):
            return (*path, key[len(dotted(path)) + 1 :])
    return tuple(key.split("."))


def build(schema: Schema, values: Mapping[Path, Any], prefix: Path = ()) -> Any:
    """The dataclass with its sections, from one value of the declared type per leaf."""
    hints = get_type_hints(schema)
    given: dict[str, Any] = {}
    for field in fields(schema):
        path = (*prefix, field.name)
        if is_dataclass(hints[field.name]):
            given[field.name] = build(hints[field.name], values, path)
        else:
            entries = {key[-1]: value for key, value in values.items() if key[:-1] == path}
            given[field.name] = entries or values[path]
    return schema(**given)


def nest(values: Mapping[Path, Any]) -> dict[str, Any]:
    """The values as a tree of mappings."""
    tree: dict[str, Any] = {}
    for path, value in values.items():
        node = tree
        for name in path[:-1]:
            node = node.setdefault(name, {})
        node[path[-1]] = value
    return tree


def advice(path: Path, schema: Schema) -> str:
    """What a person who wrote an unknown key can do: write the key that was probably meant, or choose one."""
    written = dotted(path)
    known = [dotted(known) for known in leaves(schema)]
    if tuple(written.split(".")) in leaves(schema):  # a file that has "rollout.n: 8" at its top
        return (
            f"nest it: {path[-1].split('.')[-1]} goes under {written.rpartition('.')[0].replace('.', ', ')}"
        )
    elsewhere = (section for section in sections(schema) if section != path[: len(section)])
    near = nearest(written, [*known, *map(dotted, elsewhere)])
    if near:
        return f"did you mean {' or '.join(near)}?"
    section = path[:-1] if path[:-1] in sections(schema) else ()
    choices = dict.fromkeys(key[len(section)] for key in leaves(schema) if key[: len(section)] == section)
    return f"{dotted(section) or 'the configuration'} has {', '.join(choices)}"


def interpolation_advice(reason: str, keys: Iterable[str]) -> str:
    """What to do about an interpolation that OmegaConf cannot resolve, for the reason it gives."""
    wanted = re.search(r"Interpolation key '(.*)' not found", reason)
    if wanted:
        near = nearest(wanted[1], keys)
        return f"did you mean ${{{near[0]}}}?" if near else "write the whole key, such as ${rollout.n}"
    variable = re.search(r"Environment variable '(.*)' not found", reason)
    if variable:
        return f"set it, or give a default: ${{oc.env:{variable[1]},DEFAULT}}"
    return "write ${section.key} or ${oc.env:NAME}"


def nearest(written: str, known: Iterable[str]) -> list[str]:
    """Up to three known keys near to what was written, nearest first; the section may be quite another."""
    rated = {key: _likeness(written, key) for key in known}
    best = max(rated.values(), default=0.0)
    near = [key for key, likeness in rated.items() if likeness >= 0.75 and likeness > best - 0.03]
    return heapq.nlargest(3, near, key=rated.__getitem__)


def _likeness(written: str, known: str) -> float:
    section, _, leaf = written.rpartition(".")
    known_section, _, known_leaf = known.rpartition(".")
    apart = 0.9 * _ratio(leaf, known_leaf) + 0.1 * _ratio(section, known_section)
    return max(_ratio(written, known), apart)


def _ratio(left: str, right: str) -> float:
    return difflib.SequenceMatcher(None, left.lower(), right.lower(), autojunk=False).ratio()
