"""What a person's function or class declares, read without calling it."""

import inspect
from collections.abc import Callable, Collection, Mapping
from typing import Any

from asynckit.errors import InputError

VARIABLE = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)


def signature_of(function: Callable[..., Any], name: str) -> inspect.Signature:
    """The signature of a function, or of a class's constructor.

    Raises:
        InputError: it can't be read, as that of some functions in C.
    """
    try:
        return inspect.signature(function)
    except (TypeError, ValueError) as error:
        raise InputError(
            f"its parameters cannot be read: {error}",
            where=name,
            mend="wrap it in a def or class",
        ) from None


def scoring_method(kind: type, name: str) -> str:
    """``score`` or else ``__call__``, whichever the class has.

    ``score`` comes first, because base classes such as ``torch.nn.Module`` bring a ``__call__``.

    Raises:
        InputError: it has neither.
    """
    for method in ("score", "__call__"):
        # Not getattr(): every class has a __call__, which instantiates it.
        if any(method in vars(base) for base in kind.__mro__):
            return method
    raise InputError(
        f"the class {kind.__name__} has neither score nor __call__", where=name, mend="define one of them"
    )


def method_signature(kind: type, method: str, name: str) -> inspect.Signature:
    """The signature of a method as its instances show it, without ``self``.

    Raises:
        InputError: it can't be read, or is no method.
    """
    plain = inspect.getattr_static(kind, method)
    if not callable(getattr(kind, method)):
        raise InputError(f"{kind.__name__}.{method} is no method", where=name, mend="write a def")
    signature = signature_of(getattr(kind, method), name)
    if isinstance(plain, staticmethod | classmethod):
        return signature
    first = next(iter(signature.parameters.values()), None)
    if first is None or first.kind is inspect.Parameter.KEYWORD_ONLY:
        raise InputError(f"{kind.__name__}.{method} does not take self", where=name, mend="add self")
    rest = list(signature.parameters.values())
    return signature.replace(parameters=rest if first.kind in VARIABLE else rest[1:])


def accepted(
    function: Callable[..., Any], settings: Mapping[str, Any], offered: Collection[str], name: str
) -> tuple[dict[str, Any], frozenset[str]]:
    """The settings that a function or constructor is given, and the names of all that it would take.

    Args:
        function: the function, or a class for its constructor.
        settings: what there is.
        offered: names that a call brings, which are no settings.
        name: of the function, for errors.

    Raises:
        InputError: a constructor requires a setting that is not there.
    """
    parameters = signature_of(function, name).parameters.values()
    names = {
        p.name for p in parameters if p.kind not in (*VARIABLE, inspect.Parameter.POSITIONAL_ONLY)
    }.difference(offered)
    if any(p.kind is inspect.Parameter.VAR_KEYWORD for p in parameters):
        names |= settings.keys() - set(offered)
    given = {key: value for key, value in settings.items() if key in names}
    if inspect.isclass(function):
        _require(parameters, given, name)
    return given, frozenset(names)


def required_of(parameters: Collection[inspect.Parameter], given: Collection[str]) -> list[str]:
    """The parameters that have no default and are not given."""
    bare = (p for p in parameters if p.kind not in VARIABLE and p.default is inspect.Parameter.empty)
    return [p.name for p in bare if p.name not in given]


def _require(parameters: Collection[inspect.Parameter], given: Mapping[str, Any], name: str) -> None:
    if required := required_of(parameters, given):
        raise InputError(
            f"its constructor requires {', '.join(required)}",
            where=name,
            mend=f"set reward.args.{required[0]}, or give it a default",
        )
