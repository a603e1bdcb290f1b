"""Settings from all layers become one frozen configuration. The only module that knows OmegaConf.

Later layers win: schema defaults < YAML files < environment variables < ``key=value`` arguments < flags.

Every layer is taken apart into single settings, each with its place; a wrong one is refused there. The last
value of every key wins, OmegaConf resolves interpolations between the winners, and the schema's dataclasses
are built from what comes out. OmegaConf reads values and resolves them; :mod:`asynckit.config.values` checks
their types, because it can say what was expected and where.
"""

import os
import pathlib
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import yaml
from omegaconf import OmegaConf
from omegaconf.errors import GrammarParseError, OmegaConfBaseException

from asynckit.bounds import violation
from asynckit.config.keys import (
    UNSET,
    Leaf,
    Path,
    Schema,
    build,
    dotted,
    interpolation_advice,
    leaf_at,
    leaf_of,
    leaves,
    nest,
    path_of,
)
from asynckit.config.origin import Kind, Origin
from asynckit.config.places import compose, in_file, mark_of, syntax_error, text_of
from asynckit.config.schema import Root
from asynckit.config.settings import Setting, has_interpolation, histories_of, spread, typed, without_value
from asynckit.config.values import declares_text, digest_of, escaped, help_for, masked, plain, shown
from asynckit.errors import ConfigError

PREFIX = "ASYNCKIT_"
RUN_SCHEMA = "asynckit.config/1"
NULLS = ("", "~", "null", "Null", "NULL")


@dataclass(frozen=True)
class Flag:
    """A command-line flag that was given: the key that it sets, the value, and the flag's name (``-n``)."""

    key: str
    value: object
    name: str


@dataclass(frozen=True)
class LoadedConfig:
    """The configuration, and how it came about.

    Attributes:
        root: the schema's dataclasses with resolved values.
        histories: for every dotted key, all values it was given, oldest first; the last one won.
        digest: 16 hexadecimal digits that depend on the resolved values only, not on where they came from.
        identity: the same over the values that determine what a run produces: two runs with one identity and
            the same inputs make the same records, whatever their output folder, replicas or timeouts.
    """

    root: Root
    histories: Mapping[str, tuple[Origin, ...]]
    digest: str
    identity: str

    def to_dict(self, *, mask: bool = False) -> dict[str, Any]:
        """The resolved values as nested mappings that JSON can hold; ``mask`` hides secrets."""
        return plain(self.root, mask=mask)

    def to_replay(self) -> dict[str, Any]:
        """What a run writes down: secrets masked, and nothing in it is interpolated a second time."""
        values: dict[str, Any] = escaped(self.to_dict(mask=True))
        return values


def load_config(
    *,
    files: Sequence[pathlib.Path] = (),
    overrides: Sequence[str] = (),
    flags: Sequence[Flag] = (),
    environ: Mapping[str, str] | None = None,
    schema: Schema = Root,
) -> LoadedConfig:
    """Read all layers, check them, and resolve interpolations.

    Args:
        files: YAML files; later ones win.
        overrides: ``key=value`` words; later ones win.
        flags: flags that were given on the command line.
        environ: environment variables, by default this process's (which ``${oc.env:NAME}`` always reads).
        schema: dataclass of the whole configuration.

    Raises:
        ConfigError: a file cannot be read, a key is unknown, or a value is wrong; says which and where.
    """
    settings = [
        *_from_defaults(schema),
        *(setting for file in files for setting in _from_file(schema, file)),
        *_from_environment(schema, os.environ if environ is None else environ),
        *(setting for word in overrides for setting in _from_override(schema, word)),
        *(setting for flag in flags for setting in _from_flag(schema, flag)),
    ]
    histories = histories_of(settings)
    root = build(schema, _resolve(schema, {path: history[-1] for path, history in histories.items()}))
    return LoadedConfig(
        root=root,
        histories={dotted(path): history for path, history in histories.items()},
        digest=digest_of(plain(root)),
        identity=digest_of(identifying(root)),
    )


def identifying(root: Any) -> dict[str, Any]:
    """The values that determine what a run produces; of an engine or learner only if it is used."""
    values = plain(root, identity=True)
    for engine in ("simulated", "openai"):
        if values.get("rollout", {}).get("engine") != engine:
            values.pop(engine, None)
    if values.get("learner", {}).get("kind") == "none":
        values.pop("learner")
        values.pop("async_training", None)
        values["rollout"].pop("mode")
    return values


def as_yaml(values: Any) -> str:
    """A mapping or list of resolved values as YAML that loads to the same values again."""
    return str(OmegaConf.to_yaml(OmegaConf.create(escaped(values))))


def _from_defaults(schema: Schema) -> Iterator[Setting]:
    for path, leaf in leaves(schema).items():
        yield from spread(schema, path, leaf.default, "default", lambda *_: "default")


def _from_file(schema: Schema, file: pathlib.Path) -> Iterator[Setting]:
    text, locate = text_of(file), in_file(str(file))
    node = compose(text, locate)
    if node is None:
        return
    if not isinstance(node, yaml.MappingNode):
        raise ConfigError(
            "a configuration file holds sections with keys, nothing else",
            where=locate(node.start_mark),
            mend="begin with a section, such as 'rollout:'",
        )
    try:
        values = OmegaConf.to_container(OmegaConf.create(text))
    except yaml.YAMLError as error:
        raise syntax_error(error, text, locate) from error
    except OmegaConfBaseException as error:
        path = tuple(re.split(r"[.\[]", str(error.full_key or "")))
        raise _unreadable(error, leaf_at(schema, path), locate(mark_of(node, path, key=False))) from error
    within = _settings_within(node)
    if within is not node:
        values = values["config"]  # type: ignore[index,call-overload]  # node shows that it is there
    yield from spread(schema, (), values, "file", lambda path, key: locate(mark_of(within, path, key=key)))


def _settings_within(node: yaml.MappingNode) -> yaml.Node:
    """The node that holds the sections: a run's config.json has them one level down."""
    entries: dict[str, yaml.Node] = {key.value: value for key, value in node.value}
    schema = entries.get("schema")
    if isinstance(schema, yaml.ScalarNode) and schema.value == RUN_SCHEMA:
        return entries.get("config", node)
    return node


def _from_environment(schema: Schema, environ: Mapping[str, str]) -> Iterator[Setting]:
    names: dict[Path, str] = {}
    for name in sorted(environ):
        if not name.upper().startswith(PREFIX) or "__" not in name:
            continue
        path = tuple(name[len(PREFIX) :].lower().split("__"))
        if path in names:
            raise ConfigError(
                f"{names[path]} sets {dotted(path)} too", where=name, mend="unset one of the two"
            )
        names[path] = name
        yield from _from_text(schema, path, environ[name], "environment", name)


def _from_override(schema: Schema, word: str) -> Iterator[Setting]:
    where = f"argument {word!r}"
    match = re.match(r"\s*((?:\\.|[^\\=])+?)\s*=(.*)", word, re.DOTALL)
    if match is None:
        raise ConfigError("a setting is written key=value", where=where, mend="for example rollout.n=8")
    key, text = match.groups()
    path = path_of(key)
    leaf = leaf_at(schema, path)
    if leaf and leaf.metadata.get("secret"):
        where = f"argument '{key}={masked(text, leaf.metadata)}'"
    yield from _from_text(schema, path, text, "argument", where)


def _from_flag(schema: Schema, flag: Flag) -> Iterator[Setting]:
    value = str(flag.value) if isinstance(flag.value, pathlib.PurePath) else flag.value
    path = tuple(flag.key.split("."))
    try:
        OmegaConf.create({"value": list(value) if isinstance(value, tuple) else value})
    except OmegaConfBaseException as error:
        raise _unreadable(error, leaf_at(schema, path), flag.name) from error
    yield from spread(schema, path, value, "flag", lambda *_: flag.name)


def _from_text(schema: Schema, path: Path, text: str, kind: Kind, where: str) -> Iterator[Setting]:
    value = _parse(text, leaf_at(schema, path), where)
    yield from spread(schema, path, value, kind, lambda *_: where)


def _parse(text: str, leaf: Leaf | None, where: str) -> Any:
    """The value that a word stands for: YAML, except that a declared string is taken as it was typed."""
    try:
        if leaf and declares_text(leaf) and not text.startswith(("'", '"', "[", "{")):
            value = None if text in NULLS else text
            OmegaConf.create({"value": value})
            return value
        compose(text, lambda _: where)
        return OmegaConf.to_container(OmegaConf.from_dotlist([f"value={text}"]))["value"]  # type: ignore[call-overload,index]
    except yaml.YAMLError as error:
        raise syntax_error(error, text, lambda _: where) from error
    except OmegaConfBaseException as error:
        raise _unreadable(error, leaf, where) from error


def _unreadable(error: OmegaConfBaseException, leaf: Leaf | None, where: str) -> ConfigError:
    """The error for a value that OmegaConf cannot hold, most often for a stray ``${``."""
    if not isinstance(error, GrammarParseError):
        return ConfigError(_reason(error), where=where)
    hidden = leaf is not None and leaf.metadata.get("secret")  # OmegaConf quotes a piece of the value
    detail = "" if hidden else f": {_reason(error)}"
    return ConfigError(f"not an interpolation{detail}", where=where, mend=r"write \${ for a literal ${")


def _reason(error: OmegaConfBaseException) -> str:
    """OmegaConf's own explanation without the lines about its internals."""
    reason = str(error).partition("\n")[0].partition("raised while resolving interpolation: ")
    return (reason[2] or reason[0]).strip('"')


def _resolve(schema: Schema, winners: Mapping[Path, Origin]) -> dict[Path, Any]:
    """The winners' final values: interpolations resolved, types and bounds checked."""
    for path, origin in winners.items():
        if origin.value == UNSET:
            raise without_value(path, origin)
    config = OmegaConf.create(nest({path: origin.value for path, origin in winners.items()}))
    values = {}
    for path, origin in winners.items():
        leaf = leaf_of(schema, path)
        values[path] = (
            _interpolated(config, winners, path, leaf) if has_interpolation(origin.value) else origin.value
        )
        problem = violation(values[path], leaf.metadata)
        if problem:
            mend = help_for(leaf, path)
            raise ConfigError(
                f"{dotted(path)} {problem}{_source(origin, leaf)}", where=origin.where, mend=mend
            )
    return values


def _interpolated(config: Any, winners: Mapping[Path, Origin], path: Path, leaf: Leaf) -> Any:
    node, origin = config, winners[path]
    try:
        for name in path:
            node = node[name]
        value = OmegaConf.to_container(node, resolve=True) if OmegaConf.is_config(node) else node
    except OmegaConfBaseException as error:
        problem = f"{dotted(path)} cannot be resolved from {shown(origin.value, leaf)}: {_reason(error)}"
        mend = interpolation_advice(_reason(error), map(dotted, winners))
        raise ConfigError(problem, where=origin.where, mend=mend) from error
    if value == UNSET:
        raise without_value(path, origin)
    if isinstance(value, str) and not declares_text(
        leaf
    ):  # variables hold text only: N=8 in ${oc.env:N} is 8
        value = _parse(value, None, origin.where)
    return typed(value, leaf, path, origin.where, _source(origin, leaf))


def _source(origin: Origin, leaf: Leaf) -> str:
    return f" (from {shown(origin.value, leaf)})" if has_interpolation(origin.value) else ""
