"""The adapters of a simulated engine: names that keep prefixes apart."""

from pathlib import Path

from asynckit.engine.adapter_names import AdapterNames
from asynckit.engine.request import Request


class SimulatedAdapters:
    """Adapters without weights: their folders are never read, and there is always room for them."""

    def __init__(self) -> None:
        self._names = AdapterNames()

    def register(self, name: str, folder: Path) -> None:
        """Let requests use an adapter under ``name``; ``folder`` need not exist.

        Raises:
            InputError: the name is taken or empty.
        """
        del folder
        self._names.put(name, self._names.reserve(name))

    def unregister(self, name: str) -> None:
        """Refuse new requests for an adapter from now on.

        Raises:
            InputError: no adapter of this name is registered.
        """
        self._names.number(name)
        self._names.remove(name)

    def pin(self, name: str) -> None:
        """Nothing is ever evicted here.

        Raises:
            InputError: no adapter of this name is registered.
        """
        self._names.number(name)

    def unpin(self, name: str) -> None:
        """As :meth:`pin`."""
        self._names.number(name)

    def prefetch(self, name: str) -> None:
        """Nothing is ever loaded here."""

    def names(self) -> tuple[str, ...]:
        """What requests can ask for."""
        return tuple(self._names)

    def requested(self, request: Request) -> int | None:
        """The number of the adapter that a request names, if it names one.

        Raises:
            RequestError: no adapter of this name is registered.
        """
        return None if request.adapter is None else self._names.requested(request)
