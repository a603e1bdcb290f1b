"""A person's ``module:function`` or ``module:Class``: imported, checked, and called with what it declares."""

import asyncio
import copy
import inspect
import sys
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from types import MappingProxyType
from typing import Any

from asynckit.errors import InputError
from asynckit.rollout.scoring.user_signature import (
    VARIABLE,
    accepted,
    method_signature,
    scoring_method,
    signature_of,
)
from asynckit.user_code import describe, import_object

# A ``**kwargs`` is given what verl would put there: functions written for verl may pass it on.
VERL_NAMES = ("data_source", "solution_str", "ground_truth", "extra_info")


class UserFunction:
    """One function or one class's instance, and the event loop for it, in case it is ``async def``.

    The loop lives as long as this object: clients that a function caches (HTTP sessions) belong to the
    loop they were made in. One thread uses it at a time, and that thread runs no event loop of its own.

    Attributes:
        name: what it was imported by.
        source: the file it is in; empty where there is none.
        settings: the names of the settings that it takes.
    """

    def __init__(
        self,
        name: str,
        offered: Sequence[str],
        import_paths: Sequence[str] = (),
        settings: Mapping[str, Any] = MappingProxyType({}),
    ) -> None:
        """Import ``module:function`` or ``module:Class``; the class is checked, and instantiated by ``open``.

        Args:
            name: ``module:function`` or ``module:Class``; either may be an attribute of an attribute.
            offered: names of the arguments that calls will bring.
            import_paths: folders to import from, before the working folder.
            settings: given to the class's constructor, or with every call to the function, where declared.

        Raises:
            InputError: it cannot be imported, cannot be called, or requires other arguments.
        """
        self.name = name
        found = import_object(name, import_paths)
        self._class = found if inspect.isclass(found) else None
        self._method = scoring_method(found, name) if self._class else ""
        self._settings, self.settings = accepted(found, settings, () if self._class else offered, name)
        signature = method_signature(found, self._method, name) if self._class else signature_of(found, name)
        self._declared = _declared(signature, name, offered, () if self._class else self._settings)
        self._instance: Any = None
        self._function: Callable[..., Any] | None = None if self._class else found
        self._runner = asyncio.Runner()
        self.source = _source_of(found)

    def open(self) -> None:
        """Instantiate the class; nothing for a function.

        Raises:
            InputError: the constructor raised, ``SystemExit`` included.
        """
        if self._class is None:
            return
        try:
            self._instance = self._class(**self._settings)
        except KeyboardInterrupt:
            raise
        except BaseException as error:
            reason = describe(error, self.source)
            raise InputError(
                f"making an instance failed: {reason}", where=self.name, mend="mend the class, or reward.args"
            ) from error
        self._function = getattr(self._instance, self._method)

    def call(self, arguments: Mapping[str, Any]) -> Any:
        """Call it with the arguments it declares, wait for it if it is async, and return what it returns."""
        assert self._function, "open() comes first"
        given = {name: arguments[name] for name in self._declared}
        if self._class is None:
            given |= copy.deepcopy(self._settings)  # functions do change what they are given
        return self._wait(self._function(**given))

    def close(self) -> None:
        """Call the instance's ``close()`` if it has one, sync or async, and close the event loop."""
        try:
            if callable(close := getattr(self._instance, "close", None)):
                self._wait(close())
        finally:
            self._runner.close()

    def _wait(self, result: Any) -> Any:
        return self._runner.run(_wait_for(result)) if inspect.isawaitable(result) else result


async def _wait_for(awaitable: Awaitable[Any]) -> Any:
    return await awaitable


def _source_of(found: Any) -> str:
    if inspect.isclass(found):
        return getattr(sys.modules.get(found.__module__), "__file__", None) or ""
    code = getattr(inspect.unwrap(found), "__code__", None)
    return code.co_filename if code else ""


def _declared(
    signature: inspect.Signature, name: str, offered: Sequence[str], given: Collection[str]
) -> tuple[str, ...]:
    """The offered arguments that a call gets; those ``given`` otherwise may be required too."""
    parameters = signature.parameters.values()
    named = [parameter for parameter in parameters if parameter.kind not in VARIABLE]
    givable = [p.name for p in named if p.name in offered and p.kind is not inspect.Parameter.POSITIONAL_ONLY]
    known = {*givable, *given}
    required = [p.name for p in named if p.default is inspect.Parameter.empty and p.name not in known]
    if required:
        mend = f"a reward may declare {', '.join(offered)}, by keyword; give others a default"
        raise InputError(
            f"it requires {', '.join(required)}, which asynckit cannot give", where=name, mend=mend
        )
    if any(parameter.kind is inspect.Parameter.VAR_KEYWORD for parameter in parameters):
        givable += [other for other in VERL_NAMES if other not in givable]
    return tuple(givable)
