"""A person's ``module:attribute``, imported, and what it raises, told in one line."""

import contextlib
import importlib
import os
import sys
import traceback
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

from asynckit.errors import InputError
from asynckit.near_miss import did_you_mean

_LONGEST_ERROR = 500


def import_object(name: str, import_paths: Sequence[str]) -> Any:
    """What ``module:attribute`` names, from one of the ``import_paths`` or the working folder.

    Raises:
        InputError: it cannot be imported, or can't be called.
    """
    module_name, _, attributes = name.partition(":")
    found: Any = _import_module(module_name, name, import_paths)
    for attribute in attributes.split("."):
        if not hasattr(found, attribute):
            mend = (
                did_you_mean(attribute, vars(found) if hasattr(found, "__dict__") else ()) or "check the name"
            )
            raise InputError(f"{module_name} has no {attributes!r}", where=name, mend=mend)
        found = getattr(found, attribute)
    if not callable(found):
        kind = type(found).__name__
        raise InputError(
            f"{attributes} is of type {kind}, not a function", where=name, mend="name a function or class"
        )
    return found


def describe(error: BaseException, source: str = "") -> str:
    """``TypeName: message (file:line)`` on one line; of the deepest frame in ``source`` if it has any."""
    short = one_line("".join(traceback.format_exception_only(error)))
    frames = traceback.extract_tb(error.__traceback__)
    frame = next(
        (frame for frame in reversed(frames) if frame.filename == source), frames[-1] if frames else None
    )
    place = f" ({frame.filename}:{frame.lineno})" if frame else ""
    return one_line(f"{short}{place}", longest=2 * _LONGEST_ERROR)


def one_line(text: str, longest: int = _LONGEST_ERROR) -> str:
    """The text as a record can hold it: on one line, cut at ``longest`` characters, in UTF-8."""
    line = " ".join(text.split())
    short = line if len(line) <= longest else line[:longest] + " ..."
    return short.encode(errors="replace").decode()  # messages may quote undecodable file names


def _import_module(module: str, name: str, import_paths: Sequence[str]) -> ModuleType:
    if not all(part.isidentifier() for part in module.split(".")):
        stem = module.removesuffix(".py").removeprefix("./").replace("/", ".")
        mend = f"write {stem}:{name.partition(':')[2]}" if module.endswith(".py") else "write module:function"
        raise InputError(f"{module!r} is no module name", where=name, mend=mend)
    folders = _put_on_path(import_paths)
    try:
        with stdout_to_stderr():  # stdout is for the command's own data
            return importlib.import_module(module)
    # Whatever a module raises at import, SystemExit included, is told to the person with its place.
    except (Exception, SystemExit) as error:
        missing = isinstance(error, ModuleNotFoundError) and error.name is not None
        if missing and f"{module}.".startswith(f"{error.name}."):  # type: ignore[union-attr]  # missing says which
            near = did_you_mean(
                module, (file.stem for folder in folders for file in Path(folder).glob("*.py"))
            )
            mend = near or f"looked in {', '.join(folders)} and the installed packages"
            raise InputError(f"there is no module {module!r}", where=name, mend=mend) from None
        raise InputError(
            f"importing {module} failed: {describe(error)}", where=name, mend="mend the module"
        ) from error


@contextlib.contextmanager
def stdout_to_stderr() -> Iterator[None]:
    """Send what is printed to stderr, also by code in C and by commands that are run."""
    try:
        own = os.dup(1)
    except OSError:  # the process was started without a stdout
        with contextlib.redirect_stdout(sys.stderr):
            yield
        return
    try:
        os.dup2(2, 1)
        with contextlib.redirect_stdout(sys.stderr):
            yield
    finally:
        os.dup2(own, 1)
        os.close(own)


def _put_on_path(import_paths: Sequence[str]) -> list[str]:
    """Put the folders, then the working folder, first on ``sys.path``, for good: imports may come late."""
    folders = [str(Path(folder).expanduser().resolve()) for folder in (*import_paths, ".")]
    sys.path[:] = [*dict.fromkeys(folders), *(entry for entry in sys.path if entry not in folders)]
    importlib.invalidate_caches()
    return folders
