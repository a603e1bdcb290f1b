"""The inputs that a person names, as sources in a fixed order."""

from collections.abc import Sequence

from asynckit.errors import InputError
from asynckit.tokenization.config import TokenizationConfig
from asynckit.tokenization.inputs.identity import size_and_identity
from asynckit.tokenization.inputs.names import kind_by_name
from asynckit.tokenization.records import Source


def list_sources(inputs: Sequence[str], config: TokenizationConfig) -> list[Source]:
    """The sources that ``inputs`` name: files, for now.

    Raises:
        InputError: one cannot be read, or its format is unknown.
    """
    return [_source(name, config) for name in inputs]


def _source(name: str, config: TokenizationConfig) -> Source:
    kind = kind_by_name(name)
    form = kind.format if config.input_format == "auto" else config.input_format
    if not form:
        raise InputError("its name does not tell its format", where=name, mend="say it with --input-format")
    size, identity = size_and_identity(name)
    return Source(name, form, kind.compression, size, identity, text_unit=config.text_unit)
