"""Timings one can trust: of GPU kernels, of what serving is made of, and of anybody's function.

``from asynckit.bench import measure`` is all that a script needs; nothing is imported before it is asked for.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from asynckit.bench.timing import measure

__all__ = ["measure"]


def __getattr__(name: str) -> Any:
    if name in __all__:
        from asynckit.bench import timing

        return getattr(timing, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
