"""The model whose shapes and steps are measured: whole, or its configuration only."""

from dataclasses import dataclass
from pathlib import Path

from asynckit.bench.shapes import ModelShape, read_shape
from asynckit.models.config import ModelConfig
from asynckit.models.local import LocalModel

NO_WEIGHTS = "needs a model's weights, and only its configuration was given"


@dataclass(frozen=True)
class Subject:
    """A model to measure.

    Attributes:
        shape: its sizes.
        config: how it is read.
        local: where it is; None where only its configuration is known.
    """

    shape: ModelShape
    config: ModelConfig
    local: LocalModel | None


def find_subject(config: ModelConfig, *, progress: bool = False) -> Subject:
    """Bring the model here, or read the ``.json`` file that is named instead: a ``config.json`` by itself.

    Raises:
        ModelNotFound: there is no such model or file.
        InputError: it is broken, or no transformer of a known kind.
        DependencyError: it needs Python code that is not trusted, or a package that is missing.
    """
    from asynckit.models.resolve import resolve_model
    from asynckit.models.shape import load_shape

    if config.name.lower().endswith(".json") and "://" not in config.name:
        file = _config_file(config.name)
        return Subject(
            read_shape(load_shape(LocalModel(config.name, file, ""), config), config.name), config, None
        )
    local = resolve_model(config, progress=progress)
    return Subject(read_shape(load_shape(local, config), config.name), config, local)


def _config_file(name: str) -> Path:
    from asynckit.errors import ModelNotFound
    from asynckit.models.local import read_json

    path = Path(name).expanduser()
    if not path.is_file():
        raise ModelNotFound(f"there is no file {name}", where="model.name", mend="check the path")
    read_json(path)  # says line and column of what is wrong
    return path.absolute()
