"""Names to local folders: the one place that knows all the ways in which a model can be named."""

import difflib
import hashlib
import os
from pathlib import Path

from asynckit.errors import AsynckitError, InputError, ModelNotFound
from asynckit.models import embedded
from asynckit.models.cache import cache_root
from asynckit.models.config import ModelConfig
from asynckit.models.files import Selection, model_files, tokenizer_files
from asynckit.models.gguf import Part, convert
from asynckit.models.hub import HUB_ID, fetch_from_hub
from asynckit.models.local import LocalModel, open_model, sampled_digest
from asynckit.models.remote import copy_to_local

__all__ = ["LocalModel", "resolve_model", "resolve_tokenizer"]

_WHERE = "model.name"


def resolve_model(config: ModelConfig, *, progress: bool = False) -> LocalModel:
    """Bring the model that ``config.name`` names to this machine and check that it is whole.

    Args:
        config: the model's section of the configuration.
        progress: show on stderr what takes long.

    Raises:
        ModelNotFound: nothing of that name can be found or fetched, or what was found lacks a file.
        InputError: a file is broken.
        DependencyError: a driver is missing, a store or the cache fails, or another process is at it for too
            long.
    """
    return open_model(config.name, _find(config.name, config.revision, config, "model", progress=progress))


def resolve_tokenizer(config: ModelConfig, *, progress: bool = False) -> Path:
    """The folder with the tokenizer of ``config`` (``tokenizer``, else ``name``); fetches no weights.

    ``config.revision`` belongs to the model: a Hub tokenizer named apart comes from its main branch. Raises
    as ``resolve_model`` does.
    """
    if config.tokenizer is None:
        return _find(config.name, config.revision, config, "tokenizer", progress=progress)
    try:
        return _find(config.tokenizer, None, config, "tokenizer", progress=progress)
    except AsynckitError as error:
        if error.where != _WHERE:
            raise
        raise type(error)(error.message, where="model.tokenizer", mend=error.mend) from error


def _find(name: str, revision: str | None, config: ModelConfig, part: Part, *, progress: bool) -> Path:
    """The local folder for a name. The order is the rule: built-in, URL, what exists on disk, Hub id."""
    select = model_files if part == "model" else tokenizer_files
    files = select(code=config.trust_remote_code)
    if name == embedded.NAME:
        return _find_embedded(files, config, part, progress=progress)
    if not name.strip():
        raise _not_found(name)
    if "://" in name:
        return copy_to_local(name, cache_root(config.cache_dir), progress=progress, files=files)
    path = Path(os.path.expanduser(name))  # noqa: PTH111 - Path.expanduser raises for unknown users
    if path.is_dir():
        return path.absolute()
    if path.is_file():
        return _find_converted(path.absolute(), config, part, progress=progress)
    if _looks_local(name) or not HUB_ID.fullmatch(name):
        raise _not_found(name)
    return fetch_from_hub(name, revision, files, cache_dir=_hub_cache(config), progress=progress)


def _find_embedded(files: Selection, config: ModelConfig, part: Part, *, progress: bool) -> Path:
    gguf = embedded.find_gguf()
    if gguf is not None:
        return embedded.convert_embedded(gguf, _models(config), part=part, progress=progress)
    try:
        return fetch_from_hub(embedded.HUB_ID, None, files, cache_dir=_hub_cache(config), progress=progress)
    except ModelNotFound as error:
        raise ModelNotFound(
            f"the built-in model {embedded.NAME} is not installed, and the Hub cannot be asked for it",
            mend=embedded.INSTALL,
        ) from error


def _find_converted(path: Path, config: ModelConfig, part: Part, *, progress: bool) -> Path:
    if path.suffix.lower() != ".gguf":
        raise InputError(
            f"{path} is a file, and not a GGUF file",
            where=_WHERE,
            mend=f"name the model's folder: {path.parent}",
        )
    # The time catches an edit of the metadata in place, such as another chat template of the same length.
    content = f"{sampled_digest(path)} {path.stat().st_mtime_ns}".encode()
    name = f"{path.stem}-{hashlib.sha256(content).hexdigest()[:16]}"
    return convert(path, _models(config), name, part=part, progress=progress)


def _models(config: ModelConfig) -> Path:
    return cache_root(config.cache_dir) / "models"


def _hub_cache(config: ModelConfig) -> Path | None:
    """The Hub's own cache unless a folder is set: other tools share what lies there."""
    return cache_root(config.cache_dir) / "hub" if config.cache_dir else None


def _looks_local(name: str) -> bool:
    return name.startswith(("/", "./", "../", "~")) or name.count("/") > 1 or name.lower().endswith(".gguf")


def _not_found(name: str) -> ModelNotFound:
    if _looks_local(name) or "/" in name:
        kind = "file" if name.lower().endswith(".gguf") else "folder"
        return ModelNotFound(f"there is no {kind} {name}", where=_WHERE, mend="check the path")
    near = difflib.get_close_matches(name.lower(), [embedded.NAME], n=1)
    return ModelNotFound(
        f"there is no built-in model or local folder {name!r}",
        where=_WHERE,
        mend=f"did you mean {near[0]}?" if near else f"built in is {embedded.NAME}; Hub ids are org/name",
    )
