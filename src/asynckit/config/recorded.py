"""The settings that a run was begun with, read back from its ``config.json``."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from asynckit.config.load import identifying, load_config
from asynckit.config.schema import Root
from asynckit.config.values import escaped, plain


@dataclass(frozen=True)
class Recorded:
    """What ``config.json`` says.

    Attributes:
        root: the settings.
        identity: the digest that the run's names are made of, as it was written.
        intact: whether the settings have the digest that was written with them; None where that can't be
            said, because a secret is masked or the file was written by an asynckit with other settings.
    """

    root: Root
    identity: str
    intact: bool | None


def read_recorded(path: Path) -> Recorded:
    """Read a run's ``config.json``; nothing else, neither environment nor other files, has a say.

    Raises:
        ConfigError: it is damaged, or has settings that this asynckit does not know.
    """
    loaded = load_config(files=[path], environ={})
    document = json.loads(path.read_bytes())
    intact: bool | None = loaded.digest == document.get("digest")
    if not intact and (
        _has_secret(loaded.root) or _keys(document["config"]) != _keys(escaped(plain(loaded.root)))
    ):
        intact = None
    return Recorded(loaded.root, str(document.get("identity")), intact)


def changed_settings(path: Path, now: Root) -> list[str]:
    """Names of the settings that decide what a run produces and differ now from its ``config.json``."""
    before, after = (_flat(identifying(root)) for root in (read_recorded(path).root, now))
    return sorted(name for name in before.keys() | after.keys() if before.get(name) != after.get(name))


def _flat(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, value in values.items():
        found |= _flat(value, f"{prefix}{name}.") if isinstance(value, dict) else {f"{prefix}{name}": value}
    return found


def _has_secret(root: Root) -> bool:
    return plain(root) != plain(root, mask=True)


def _keys(values: Any) -> Any:
    return {name: _keys(value) for name, value in values.items()} if isinstance(values, dict) else None
