"""A person's function, named ``module:function``: imported, checked, and called with what it declares."""

import asyncio
import contextlib
import importlib
import inspect
import sys
import traceback
from collections.abc import Awaitable, Callable, Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

from asynckit.errors import InputError
from asynckit.rollout.near_miss import did_you_mean

# A ``**kwargs`` is given what verl would put there: functions written for verl may pass it on.
VERL_NAMES = ("data_source", "solution_str", "ground_truth", "extra_info")
_LONGEST_ERROR = 500


class UserFunction:
    """One function and the event loop for it, in case it is ``async def``.

    The loop lives as long as this object: clients that a function caches (HTTP sessions) belong to the
    loop they were made in. One thread uses it at a time, and that thread runs no event loop of its own.
    """

    def __init__(self, name: str, offered: Sequence[str], import_paths: Sequence[str] = ()) -> None:
        """Import ``module:function``.

        Args:
            name: ``module:function``; the function may be an attribute of an attribute.
            offered: names of the arguments that calls will bring.
            import_paths: folders to import from, before the working folder.

        Raises:
            InputError: it cannot be imported, is no function, or requires other arguments.
        """
        self.name = name
        self._function = _import_function(name, import_paths)
        self._declared = _declared(self._function, name, offered)
        self._runner = asyncio.Runner()
        code = getattr(inspect.unwrap(self._function), "__code__", None)
        self.source: str = code.co_filename if code else ""

    def call(self, arguments: Mapping[str, Any]) -> Any:
        """Call it with the arguments it declares, wait for it if it is async, and return what it returns."""
        result = self._function(**{name: arguments[name] for name in self._declared})
        return self._runner.run(_wait_for(result)) if inspect.isawaitable(result) else result

    def close(self) -> None:
        """Close the event loop."""
        self._runner.close()


def describe(error: BaseException, source: str = "") -> str:
    """``TypeName: message (file:line)`` on one line; of the deepest frame in ``source`` if it has any."""
    text = " ".join("".join(traceback.format_exception_only(error)).split())
    short = text if len(text) <= _LONGEST_ERROR else text[:_LONGEST_ERROR] + " ..."
    frames = traceback.extract_tb(error.__traceback__)
    frame = next(
        (frame for frame in reversed(frames) if frame.filename == source), frames[-1] if frames else None
    )
    place = f" ({frame.filename}:{frame.lineno})" if frame else ""
    # Messages may quote undecodable file names; records are UTF-8.
    return f"{short}{place}".encode(errors="replace").decode()


async def _wait_for(awaitable: Awaitable[Any]) -> Any:
    return await awaitable


def _import_function(name: str, import_paths: Sequence[str]) -> Callable[..., Any]:
    module_name, _, attributes = name.partition(":")
    found: Any = _import_module(module_name, name, import_paths)
    for attribute in attributes.split("."):
        if not hasattr(found, attribute):
            mend = (
                did_you_mean(attribute, vars(found) if hasattr(found, "__dict__") else ()) or "check the name"
            )
            raise InputError(f"{module_name} has no {attributes!r}", where=name, mend=mend)
        found = getattr(found, attribute)
    if not callable(found) or inspect.isclass(found):
        kind = "a class" if inspect.isclass(found) else f"of type {type(found).__name__}"
        raise InputError(f"{attributes} is {kind}, not a function", where=name, mend="name a function")
    return found  # type: ignore[no-any-return]  # callable() has just said so


def _import_module(module: str, name: str, import_paths: Sequence[str]) -> ModuleType:
    if not all(part.isidentifier() for part in module.split(".")):
        stem = module.removesuffix(".py").removeprefix("./").replace("/", ".")
        mend = f"write {stem}:{name.partition(':')[2]}" if module.endswith(".py") else "write module:function"
        raise InputError(f"{module!r} is no module name", where=name, mend=mend)
    folders = _put_on_path(import_paths)
    try:
        with contextlib.redirect_stdout(sys.stderr):  # stdout is for the command's own data
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


def _put_on_path(import_paths: Sequence[str]) -> list[str]:
    """Put the folders, then the working folder, first on ``sys.path``, for good: imports may come late."""
    folders = [str(Path(folder).expanduser().resolve()) for folder in (*import_paths, ".")]
    sys.path[:] = [*dict.fromkeys(folders), *(entry for entry in sys.path if entry not in folders)]
    importlib.invalidate_caches()
    return folders


def _declared(function: Callable[..., Any], name: str, offered: Sequence[str]) -> tuple[str, ...]:
    try:
        parameters = inspect.signature(function).parameters.values()
    except (TypeError, ValueError) as error:
        raise InputError(
            f"its parameters cannot be read: {error}", where=name, mend="wrap it in a def"
        ) from None
    variable = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    named = [parameter for parameter in parameters if parameter.kind not in variable]
    givable = [p.name for p in named if p.name in offered and p.kind is not inspect.Parameter.POSITIONAL_ONLY]
    required = [p.name for p in named if p.default is inspect.Parameter.empty and p.name not in givable]
    if required:
        mend = f"a reward function may declare {', '.join(offered)}, by keyword; give others a default"
        raise InputError(
            f"it requires {', '.join(required)}, which asynckit cannot give", where=name, mend=mend
        )
    if any(parameter.kind is inspect.Parameter.VAR_KEYWORD for parameter in parameters):
        givable += [other for other in VERL_NAMES if other not in givable]
    return tuple(givable)
