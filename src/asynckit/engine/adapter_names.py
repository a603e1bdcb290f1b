"""The names that requests call adapters by, and the numbers that stand for them.

No two registrations ever get the same number, so a name that is registered anew means a new adapter: nothing
that was kept for the old one, cached prefixes above all, is taken for the new one's.
"""

import difflib
from collections.abc import Iterator
from itertools import count

from asynckit.engine.request import Request
from asynckit.errors import InputError, RequestError


class AdapterNames:
    """The names in use."""

    def __init__(self) -> None:
        self._numbers: dict[str, int] = {}
        self._count = count(1)

    def __iter__(self) -> Iterator[str]:
        return iter(self._numbers)

    def __contains__(self, name: object) -> bool:
        return name in self._numbers

    def __len__(self) -> int:
        return len(self._numbers)

    def reserve(self, name: str) -> int:
        """A number for ``name``, which :meth:`put` makes valid.

        Raises:
            InputError: the name is taken, empty or no string.
        """
        where = f"adapter {name!r}"
        if not isinstance(name, str) or not name:
            raise InputError(
                "an adapter's name must be a string and not be empty", where=where, mend="choose another name"
            )
        if name in self._numbers:
            raise InputError(
                "an adapter of this name is registered",
                where=where,
                mend="unregister it or choose another name",
            )
        return next(self._count)

    def put(self, name: str, number: int) -> None:
        """Let requests use ``name`` from now on."""
        self._numbers[name] = number

    def remove(self, name: str) -> None:
        """Let no new request use ``name``, which must be in use."""
        del self._numbers[name]

    def clear(self) -> None:
        """Remove every name."""
        self._numbers.clear()

    def number(self, name: str) -> int:
        """The number of ``name``.

        Raises:
            InputError: no adapter of this name is registered.
        """
        if not isinstance(name, str) or name not in self._numbers:  # what is no string may have no hash
            raise InputError("no adapter of this name is registered", where=f"adapter {name!r}")
        return self._numbers[name]

    def requested(self, request: Request) -> int:
        """The number of the adapter that ``request`` names.

        Raises:
            RequestError: no adapter of this name is registered.
        """
        name = request.adapter
        assert name is not None
        if name not in self._numbers:
            near = difflib.get_close_matches(name, self._numbers, n=1)
            raise RequestError(
                f"no adapter {name!r} is registered",
                where=f"request {request.id!r}",
                mend=f"did you mean {near[0]!r}?" if near else "register it first",
            )
        return self._numbers[name]
