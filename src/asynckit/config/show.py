"""The resolved configuration as text: YAML, JSON, or with the origin of every value. Secrets are masked."""

import json
from typing import Any

from asynckit.config.keys import advice, leaf_of, undotted
from asynckit.config.load import LoadedConfig, as_yaml
from asynckit.config.origin import Origin
from asynckit.config.values import masked
from asynckit.errors import ConfigError


def render_yaml(loaded: LoadedConfig, selection: str | None = None) -> str:
    """The whole configuration, a section (``rollout``) or the value of a key (``rollout.n``), as YAML.

    A single string is printed bare, so that a shell script can use it. The whole is a file for ``-c``.

    Raises:
        ConfigError: there is no such section or key.
    """
    value = _select(loaded, selection)
    if isinstance(value, str):
        return value + "\n"
    return as_yaml(value) if isinstance(value, dict | list) else json.dumps(value) + "\n"


def render_json(loaded: LoadedConfig, selection: str | None = None) -> str:
    """The whole configuration, a section or the value of a key, as JSON.

    Raises:
        ConfigError: there is no such section or key.
    """
    return json.dumps(_select(loaded, selection), indent=2, ensure_ascii=False) + "\n"


def render_origins(loaded: LoadedConfig, selection: str | None = None, *, as_json: bool = False) -> str:
    """One line per key: its value, where it comes from, and what it replaced, newest first.

    As JSON, for every key its resolved ``value`` and its ``origins``, oldest first.

    Raises:
        ConfigError: there is no such section or key.
    """
    _select(loaded, selection)
    keys = [key for key in loaded.histories if selection is None or f"{key}.".startswith(f"{selection}.")]
    if as_json:
        return json.dumps({key: _as_record(loaded, key) for key in keys}, indent=2, ensure_ascii=False) + "\n"
    return "".join(_as_line(loaded, key) + "\n" for key in keys)


def _select(loaded: LoadedConfig, selection: str | None) -> Any:
    value: Any = loaded.to_dict(mask=True)
    path = undotted(type(loaded.root), selection) if selection else ()
    for name in path:
        if not isinstance(value, dict) or name not in value:
            mend = advice(path, type(loaded.root))
            raise ConfigError(f"there is no section or key {selection}", mend=mend)
        value = value[name]
    return value


def _as_line(loaded: LoadedConfig, key: str) -> str:
    *replaced, winner = _masked_history(loaded, key)
    line = f"{key}: {_one_line(_select(loaded, key))}  # {winner.where}"
    if replaced:
        line += "; before: " + ", ".join(
            f"{_one_line(each.value)} ({each.where})" for each in reversed(replaced)
        )
    return line


def _as_record(loaded: LoadedConfig, key: str) -> dict[str, Any]:
    origins = [
        {"kind": each.kind, "where": each.where, "value": each.value} for each in _masked_history(loaded, key)
    ]
    return {"value": _select(loaded, key), "origins": origins}


def _masked_history(loaded: LoadedConfig, key: str) -> list[Origin]:
    leaf = leaf_of(type(loaded.root), undotted(type(loaded.root), key))
    return [
        Origin(each.kind, each.where, masked(each.value, leaf.metadata)) for each in loaded.histories[key]
    ]


def _one_line(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)
