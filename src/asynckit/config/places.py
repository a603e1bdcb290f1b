"""Places in YAML text: the line and column of every key and value, and of what is wrong with the text."""

import pathlib
from collections.abc import Callable, Iterator
from typing import Any

import yaml

from asynckit.config.keys import Path
from asynckit.errors import ConfigError

MERGE = "tag:yaml.org,2002:merge"
DEEPEST = 20  # no section of the schema comes near; OmegaConf runs out of stack at some 100
Locate = Callable[[Any], str]  # a YAML mark (None: unknown) -> the place as people read it


def in_file(name: str) -> Locate:
    """Marks as ``name:line:column``, both counted from 1."""
    return lambda mark: f"{name}:{mark.line + 1}:{mark.column + 1}" if mark else name


def compose(text: str, locate: Locate) -> yaml.Node | None:
    """The node tree of one YAML document; None for an empty one.

    Raises:
        ConfigError: not YAML, a key twice in one mapping, a tag, or a number with a leading zero.
    """
    try:
        node: yaml.Node | None = yaml.compose(text, Loader=yaml.SafeLoader)
        if node is not None:
            _check(node, locate, set(), 0)
    except yaml.YAMLError as error:
        raise syntax_error(error, text, locate) from error
    except RecursionError as error:
        raise ConfigError("the YAML is nested too deeply", where=locate(None)) from error
    return node


def syntax_error(error: yaml.YAMLError, text: str, locate: Locate) -> ConfigError:
    """What PyYAML says about the text, with its place."""
    mark, problem = None, str(error).splitlines()[0]
    if isinstance(error, yaml.MarkedYAMLError):
        mark = error.problem_mark or error.context_mark
        problem = ", ".join(filter(None, (error.context, error.problem)))
    elif isinstance(error, yaml.reader.ReaderError):
        before = text[: error.position]
        mark = yaml.Mark(
            "", error.position, before.count("\n"), len(before) - before.rfind("\n") - 1, None, 0
        )
    return ConfigError(
        f"not valid YAML: {problem}",
        where=locate(mark),
        mend="check the quotes, brackets and indentation there",
    )


def _check(node: yaml.Node, locate: Locate, seen: set[int], depth: int) -> None:
    if depth > DEEPEST:
        raise ConfigError("the YAML is nested too deeply", where=locate(node.start_mark))
    if id(node) in seen:  # an alias (*name) leads back to a node
        return
    seen.add(id(node))
    _refuse_tags(node, locate)
    children: list[yaml.Node] = []
    if isinstance(node, yaml.MappingNode):
        _refuse_duplicates(node, locate)
        children = [each for pair in node.value for each in pair]
    elif isinstance(node, yaml.SequenceNode):
        children = node.value
    elif isinstance(node, yaml.ScalarNode):
        _refuse_octal(node, locate)
    for child in children:
        _check(child, locate, seen, depth + 1)


def _refuse_duplicates(node: yaml.MappingNode, locate: Locate) -> None:
    first: dict[str, yaml.Node] = {}
    for key, _ in node.value:
        if not isinstance(key, yaml.ScalarNode):
            raise ConfigError("a key must be a name, not a list or mapping", where=locate(key.start_mark))
        if key.value in first:
            raise ConfigError(
                f"{key.value} is given twice",
                where=locate(key.start_mark),
                mend=f"keep one; the first is at {locate(first[key.value].start_mark)}",
            )
        first[key.value] = key


def _refuse_tags(node: yaml.Node, locate: Locate) -> None:
    """Refuse ``!!binary``, ``!!set`` and all other tags but those that say what the value is without them."""
    resolve: Any = yaml.resolver.Resolver().resolve  # types-PyYAML leaves it untyped
    usual = {resolve(type(node), node.value, implicit) for implicit in ((True, False), (False, True))}
    if node.tag not in usual:
        raise ConfigError(
            f"the YAML tag {node.tag} is not supported",
            where=locate(node.start_mark),
            mend="leave it out, and put text in quotes",
        )


def _refuse_octal(node: yaml.ScalarNode, locate: Locate) -> None:
    """Refuse ``010``, which YAML 1.1 reads as eight."""
    digits = node.value.lstrip("+-")
    if node.tag == "tag:yaml.org,2002:int" and digits[:1] == "0" and digits[1:].replace("_", "").isdecimal():
        raise ConfigError(
            f"{node.value} would be read as an octal number",
            where=locate(node.start_mark),
            mend=f"write {digits.lstrip('0_') or '0'}, or put it in quotes if it is text",
        )


def mark_of(node: yaml.Node, path: Path, *, key: bool) -> Any:
    """The mark of the value at a path (of its key, if ``key``), or of the nearest node above it."""
    mark = node.start_mark
    for name in path:
        pair = next((pair for pair in _pairs(node) if pair[0].value == name), None)
        if pair is None:
            return mark
        node = pair[1]
        mark = pair[0].start_mark if key or _is_empty(node) else node.start_mark
    return mark


def _is_empty(node: yaml.Node) -> bool:
    return isinstance(node, yaml.ScalarNode) and node.start_mark.index == node.end_mark.index


def _pairs(node: yaml.Node) -> Iterator[tuple[yaml.Node, yaml.Node]]:
    """The keys and values of a mapping, its own before those it merges (``<<: *name``)."""
    if not isinstance(node, yaml.MappingNode):
        return
    yield from (pair for pair in node.value if pair[0].tag != MERGE)
    for key, value in node.value:
        if key.tag == MERGE:
            for merged in value.value if isinstance(value, yaml.SequenceNode) else [value]:
                yield from _pairs(merged)


def text_of(file: pathlib.Path) -> str:
    """The file's text, its byte-order mark removed.

    Raises:
        ConfigError: there is no such file, or it is not UTF-8.
    """
    try:
        return file.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        line = error.object.count(b"\n", 0, error.start) + 1
        raise ConfigError(
            "the file is not UTF-8 text", where=f"{file}:{line}", mend="save it as UTF-8"
        ) from error
    except OSError as error:
        problem = (error.strerror or str(error)).lower()
        raise ConfigError(f"cannot read the configuration file: {problem}", where=str(file)) from error
