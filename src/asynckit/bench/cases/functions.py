"""Anybody's function, and the set-up hook that makes its inputs.

``--case module:function`` times ``function()``. ``--case module:function@hook`` times what the function does
with the inputs that ``hook`` of the same module makes anew for each call, outside the time: a tuple of
positional arguments, a dict of keyword arguments, None for none, or the only argument. A hook with a
parameter ``device`` is told it, ``cuda`` or ``cpu``.
"""

import inspect
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from asynckit.bench.cases.case import Case, Prepared
from asynckit.errors import InputError
from asynckit.user_code import import_object

_LAZY = (inspect.iscoroutinefunction, inspect.isgeneratorfunction, inspect.isasyncgenfunction)


def names_function(pattern: str) -> bool:
    """Whether a ``--case`` names a function rather than cases of the suite."""
    return ":" in pattern.split("@", maxsplit=1)[0]


def function_case(pattern: str) -> Case:
    """The case of ``module:function`` or ``module:function@hook``.

    Raises:
        InputError: one of them cannot be imported, is no function that can be timed, or needs other arguments
            than it gets.
    """
    name, marked, hook_name = pattern.partition("@")
    if marked and not hook_name:
        raise InputError("names no set-up hook after @", where=pattern, mend="write module:function@hook")
    function = _import(name)
    if marked:
        hook = _import(hook_name if ":" in hook_name else f"{name.partition(':')[0]}:{hook_name}")
        known = {"device": ""} if _asks_for_device(hook) else {}
        _check_call(hook, hook_name, known, "a hook takes nothing, or the device")
    else:
        hook = None
        _check_call(function, name, {}, "give a set-up hook that makes them: module:function@hook")
    return Case(
        name=name,
        variant=f"@{hook_name}" if marked else "",
        group="function",
        make=partial(_make, function, hook),
        parameters={"function": pattern},
    )


def _import(name: str) -> Callable[..., Any]:
    found: Callable[..., Any] = import_object(name, ())
    if any(is_of_kind(found) for is_of_kind in _LAZY):
        mend = "time a function that runs it to its end"
        raise InputError("is async or a generator: calling it does not run it", where=name, mend=mend)
    return found


def _check_call(function: Callable[..., Any], name: str, known: Mapping[str, str], mend: str) -> None:
    try:
        inspect.signature(function).bind(**known)
    except TypeError as error:
        raise InputError(f"can't be called: {error}", where=name, mend=mend) from error
    except ValueError:  # a function in C, which says nothing about its arguments
        return


def _asks_for_device(hook: Callable[..., Any]) -> bool:
    try:
        return "device" in inspect.signature(hook).parameters
    except ValueError:  # as above
        return False


def _make(function: Callable[..., Any], hook: Callable[..., Any] | None, device: str) -> Prepared:
    if hook is None:
        return Prepared(function)
    prepare = partial(hook, device=device) if _asks_for_device(hook) else hook
    first = prepare()
    if first is None:
        return Prepared(function, partial(_no_arguments, prepare))
    if isinstance(first, dict):
        return Prepared(lambda named: function(**named), prepare)
    return Prepared(function, prepare)


def _no_arguments(prepare: Callable[[], Any]) -> tuple[()]:
    prepare()
    return ()
