"""Where a value comes from."""

from dataclasses import dataclass
from typing import Any, Literal

Kind = Literal["default", "file", "environment", "argument", "flag"]


@dataclass(frozen=True)
class Origin:
    """One value that a key was given, and by what.

    Attributes:
        kind: the layer.
        where: the place in that layer: ``conf.yaml:3:8``, ``ASYNCKIT_ROLLOUT__N``,
            ``argument 'rollout.n=8'``, ``-n`` or ``default``.
        value: what was given there, in the declared type; interpolations (``${rollout.n}``) as written.
    """

    kind: Kind
    where: str
    value: Any
