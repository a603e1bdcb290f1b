"""A model's own configuration, read without its weights."""

from typing import TYPE_CHECKING

from asynckit.errors import DependencyError, InputError
from asynckit.models.config import ModelConfig
from asynckit.models.local import LocalModel

if TYPE_CHECKING:
    from transformers import PretrainedConfig


def load_shape(model: LocalModel, config: ModelConfig) -> "PretrainedConfig":
    """The model's ``config.json`` as transformers understands it.

    Raises:
        InputError: transformers can't make sense of it, or it doesn't say how many tokens it was made for.
        DependencyError: it needs Python code that is not trusted, or a package that is not installed.
    """
    from transformers import AutoConfig

    trusted = config.trust_remote_code
    try:
        shape = AutoConfig.from_pretrained(
            model.path, trust_remote_code=trusted, local_files_only=not trusted
        )
    except ImportError as error:
        raise DependencyError(
            _reason(error), where=str(model.path), mend="install the package it names"
        ) from error
    except (KeyError, OSError, TypeError, ValueError) as error:  # as transformers says what it can't read
        raise InputError(
            f"the model's config.json can't be used: {_reason(error)}", where=str(model.path)
        ) from error
    if not isinstance(getattr(shape, "max_position_embeddings", None), int):
        raise InputError("the model's config.json has no max_position_embeddings", where=str(model.path))
    return shape


def _reason(error: Exception) -> str:
    return next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
