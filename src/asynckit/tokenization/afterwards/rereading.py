"""Reading the inputs of a folder again, by the settings of its manifest."""

import hashlib
from collections.abc import Iterator
from dataclasses import fields, replace

import msgspec

from asynckit.errors import InputError
from asynckit.tokenization.config import TokenizationConfig
from asynckit.tokenization.inputs.faults import BrokenSource
from asynckit.tokenization.inputs.listing import list_sources
from asynckit.tokenization.inputs.names import STANDARD_INPUT_SHOWN
from asynckit.tokenization.inputs.reading import UnitReader
from asynckit.tokenization.inputs.units import blocks_of, is_stream, units_of
from asynckit.tokenization.outputs.manifest import MANIFEST, InputRecord, Manifest
from asynckit.tokenization.records import Records, Unit


def config_of(manifest: Manifest) -> TokenizationConfig:
    """The settings that a folder was made with.

    Raises:
        InputError: they are those of another version.
    """
    unknown = set(manifest.options) - {each.name for each in fields(TokenizationConfig)}
    if unknown:
        raise _other_version(manifest, f"it does not know {', '.join(sorted(unknown))}")
    try:
        return msgspec.convert(manifest.options, TokenizationConfig)
    except msgspec.ValidationError as error:
        raise _other_version(manifest, str(error)) from error


def _other_version(manifest: Manifest, problem: str) -> InputError:
    return InputError(
        f"the manifest's settings are not those of this version: {problem}",
        where=MANIFEST,
        mend=f"verify the inputs with asynckit {manifest.asynckit}",
    )


def can_be_read_again(record: InputRecord) -> bool:
    """Whether an input is still somewhere: standard input is not."""
    return record.name != STANDARD_INPUT_SHOWN


class InputAgain:
    """Iterates over the records of one input, as they were read when the folder was made.

    Attributes:
        source: the input as it is now.
        digest: after the iteration, as the manifest has it.
    """

    def __init__(
        self, record: InputRecord, number: int, names: tuple[str, ...], config: TokenizationConfig
    ) -> None:
        """Find it.

        Args:
            record: of the manifest.
            number: among the inputs.
            names: of the fields that are wanted.
            config: the settings.

        Raises:
            AsynckitError: it is not there any more, or can't be reached.
        """
        found = list_sources([record.name], replace(config, input_format=record.format))
        if len(found) != 1:
            raise InputError(
                f"there are {len(found)} inputs of the name now", where=record.name, mend="restore the input"
            )
        self.source = found[0]
        self.digest = ""
        self._number = number
        self._names = names
        self._config = config

    def __iter__(self) -> Iterator[Records]:
        """The records.

        Raises:
            AsynckitError: it can't be read, or a record can't be used and none was to be skipped.
        """
        digest = hashlib.sha256()
        for unit, block in self._units():
            reader = UnitReader(self.source, unit, block, self._names, self._config)
            try:
                yield from reader
            except BrokenSource:  # what could be read of it was used
                if self._config.on_error == "stop":
                    raise
            digest.update(bytes.fromhex(reader.digest))
        self.digest = digest.hexdigest()

    def _units(self) -> Iterator[tuple[Unit, bytes | None]]:
        size = self._config.unit_bytes
        try:
            if is_stream(self.source):
                yield from blocks_of(self.source, self._number, size)
            else:
                yield from ((unit, None) for unit in units_of(self.source, self._number, size))
        except BrokenSource:  # what came before was used
            if self._config.on_error == "stop":
                raise
