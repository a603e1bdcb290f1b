"""Which engine a model worker runs, and the adapters that it begins with."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Protocol, runtime_checkable

from asynckit.engine.protocol import InferenceEngine
from asynckit.engine.simulated import SimulatedEngine
from asynckit.errors import ConfigError
from asynckit.models.resolve import resolve_model
from asynckit.serve.assignment import Assignment
from asynckit.serve.config import ServeConfig


@runtime_checkable
class Embeds(Protocol):
    """An engine that makes vectors."""

    def embed(self, prompts_ids: Sequence[Sequence[int]]) -> list[list[float]]:
        """One vector for each prompt."""


@runtime_checkable
class Prefetches(Protocol):
    """Adapters that can be read before they are needed."""

    def prefetch(self, name: str) -> None:
        """Begin to read an adapter; unknown names do nothing."""


def load_engine(assignment: Assignment, adapters: Mapping[str, Path]) -> InferenceEngine:
    """Load what the assignment asks for, with adapters to begin with.

    Raises:
        AsynckitError: it can't be had.
    """
    engine = _load(assignment)
    for name, folder in adapters.items():
        engine.adapters.register(name, folder)
    return engine


def _load(assignment: Assignment) -> InferenceEngine:
    if assignment.serve.engine == "simulated":
        return SimulatedEngine.load(assignment.engine, assignment.simulated)
    from asynckit.engine.engine import Engine

    # Ranks of one model (serve.tp > 1) meet here: assignment.rank of assignment.serve.tp, at
    # assignment.rendezvous.
    return Engine.load(assignment.engine, assignment.model, resolve_model(assignment.model))


def first_adapters(serve: ServeConfig) -> dict[str, Path]:
    """The adapters that the settings name, by name.

    Raises:
        ConfigError: a setting is wrong, a name occurs twice, or adapters are off.
    """
    found: dict[str, Path] = {}
    for entry in serve.loras:
        name, equals, folder = entry.partition("=")
        if not (name and equals and folder):
            raise ConfigError(
                f"{entry!r} names no adapter",
                where="serve.loras",
                mend="write NAME=FOLDER, as in de=adapters/de",
            )
        _put(found, name, Path(folder).expanduser(), "serve.loras")
    if serve.lora_dir is not None:
        root = Path(serve.lora_dir).expanduser()
        if not root.is_dir():
            raise ConfigError(f"there is no folder {root}", where="serve.lora_dir", mend="name a folder")
        for file in sorted(root.glob("*/adapter_config.json")):
            _put(found, file.parent.name, file.parent, "serve.lora_dir")
    if found and not serve.lora:
        raise ConfigError(
            "adapters are named, and serve.lora is off", where="serve.lora", mend="leave one of them out"
        )
    return found


def _put(found: dict[str, Path], name: str, folder: Path, where: str) -> None:
    if name in found:
        raise ConfigError(f"two adapters are called {name!r}", where=where, mend="rename one of them")
    found[name] = folder
