"""The inputs that a person names, as sources in a fixed order: as given, and sorted in folders and globs.

A file that several folders and globs hold is read once, where it comes first; one that is named twice by
itself is refused.
"""

import glob
import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from asynckit.errors import InputError, UsageError
from asynckit.models.store import shown
from asynckit.near_miss import did_you_mean
from asynckit.tokenization.config import TokenizationConfig
from asynckit.tokenization.inputs import remote
from asynckit.tokenization.inputs.access import faults_named, named_faults
from asynckit.tokenization.inputs.beginnings import with_beginning
from asynckit.tokenization.inputs.folders import data_files
from asynckit.tokenization.inputs.identity import size_and_identity
from asynckit.tokenization.inputs.names import FORMATS, ROW_FORMATS, STANDARD_INPUT, is_url, kind_by_name
from asynckit.tokenization.records import Source

_SAY_FORMAT = "say it, such as --input-format jsonl"


def list_sources(inputs: Sequence[str], config: TokenizationConfig) -> list[Source]:
    """The sources that ``inputs`` name: files, folders, globs, ``-``, URLs.

    Raises:
        UsageError: there are none, one is named twice, or standard input cannot be what it is said to be.
        InputError: nothing lies there, it cannot be read, or nobody can tell its format.
        DependencyError: a store cannot be reached.
    """
    if not inputs:
        raise UsageError(
            "nothing to read", mend="name files, folders, globs or URLs, or - for standard input"
        )
    found: dict[str, str] = {}
    alone: set[str] = set()
    for name in inputs:
        with faults_named(name):
            files = list(_files_of(name, config))
        if files == [name]:
            key = _key(name)
            if key in alone:
                raise UsageError(
                    "is named twice", where=shown(name), mend="name it once: each file is read once"
                )
            alone.add(key)
        for file in files:
            found.setdefault(_key(file), file)
    return [_source(name, config) for name in found.values()]


def _files_of(name: str, config: TokenizationConfig) -> Iterator[str]:
    if name == STANDARD_INPUT:
        yield name
    elif is_url(name):
        yield from _files_at(name, config)
    elif Path(name).is_dir():
        yield from _files_below(name, config)
    elif Path(name).exists() or not glob.has_magic(name):
        yield _file(name)
    else:
        matches = sorted(glob.glob(name, recursive=True))  # noqa: PTH207
        files = [file for match in matches for file in _matched(match, config, every_depth="**" in name)]
        if not files:
            raise InputError(
                "matches no file", where=name, mend="check the pattern; ** matches folders at any depth"
            )
        yield from files


def _matched(name: str, config: TokenizationConfig, *, every_depth: bool) -> Iterator[str]:
    if not Path(name).is_dir():
        yield _file(name)
    elif not every_depth:  # else its files match by themselves
        yield from _files_below(name, config)


def _file(name: str) -> str:
    path = Path(name)
    if path.is_file():
        return name
    if path.exists():
        raise InputError("is no regular file", where=name, mend="pipe it in, and read -")
    if path.is_symlink():
        raise InputError("is a link that leads nowhere", where=name, mend="mend the link")
    with named_faults(name):
        there = [entry.name for entry in path.parent.iterdir()] if path.parent.is_dir() else []
    near = did_you_mean(path.name, there)
    raise InputError("there is no such file or folder", where=name, mend=near or "check the path")


def _files_below(folder: str, config: TokenizationConfig) -> Iterator[str]:
    paths: list[str] = []
    visited: set[str] = set()
    for place, folders, files in os.walk(folder, followlinks=True, onerror=_refuse):
        folders.sort()
        real = os.path.realpath(place)
        if real in visited:  # a link that leads back up
            folders.clear()
            continue
        visited.add(real)
        paths += [Path(place, file).relative_to(folder).as_posix() for file in files]
    for path in data_files(folder, paths, config.input_format):
        yield _file(str(Path(folder, path)))


def _refuse(error: OSError) -> None:
    with named_faults(str(error.filename)):
        raise error


def _files_at(url: str, config: TokenizationConfig) -> Iterator[str]:
    if remote.is_pattern(url):
        files = remote.matches(url)
        if not files:
            raise InputError("matches no file", where=shown(url), mend="check the pattern")
        yield from files
    elif remote.is_folder(url):
        root = url.rstrip("/")
        for path in data_files(shown(url), remote.files_below(url), config.input_format):
            yield f"{root}/{path}"
    else:
        yield url


def _key(name: str) -> str:
    """The same for the same file; links to files are files of their own, as in snapshots of the Hub."""
    if name == STANDARD_INPUT or is_url(name):
        return name
    folder, last = os.path.split(name)
    return os.path.join(os.path.realpath(folder), last)  # noqa: PTH118


def _source(name: str, config: TokenizationConfig) -> Source:
    _check_name(name)
    kind = kind_by_name(name)
    form = kind.format if config.input_format == "auto" else config.input_format
    _check_format(name, form, kind.compression)
    size, identity = size_and_identity(name)
    source = Source(name, form, kind.compression, size, identity, text_unit=config.text_unit)
    return source if form in ROW_FORMATS else with_beginning(source)


def _check_name(name: str) -> None:
    """Plans, manifests and provenance are UTF-8, so names that are not could not be kept in them."""
    try:
        name.encode()
    except UnicodeEncodeError as error:
        shown_bytes = name.encode("utf-8", "backslashreplace").decode()
        raise InputError("its name is not valid UTF-8", where=shown_bytes, mend="rename it") from error


def _check_format(name: str, form: str, compression: str) -> None:
    if name == STANDARD_INPUT and not form:
        raise UsageError("what standard input holds cannot be told", where="-", mend=_SAY_FORMAT)
    if not form:
        mend = f"{_SAY_FORMAT}, or name it with one of {', '.join(FORMATS)}"
        raise InputError("its name does not tell its format", where=shown(name), mend=mend)
    if form in ROW_FORMATS and name == STANDARD_INPUT:
        mend = "write it to a file first"
        raise UsageError(f"{form.capitalize()} cannot be read from standard input", where="-", mend=mend)
    if form in ROW_FORMATS and compression:
        raise InputError(
            f"{form.capitalize()} inside {compression} cannot be read",
            where=shown(name),
            mend="unpack it first",
        )
