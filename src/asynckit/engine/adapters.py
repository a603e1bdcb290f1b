"""The LoRA adapters of an engine: registered by name, loaded when needed, evicted when room runs out.

Registering checks an adapter's files against the model and keeps a few numbers; its weights are read when the
first request that names it starts to run. Sequences refer to an adapter by a number that no other
registration ever gets, so a name that is registered anew means new weights, new cached prefixes and nothing
mixed. What is unregistered serves the requests that it has and then leaves.
"""

import difflib
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import count
from pathlib import Path

import torch

from asynckit.engine.adapter_files import Delta, open_adapter, read_deltas
from asynckit.engine.config import EngineConfig
from asynckit.engine.lora_layers import LoraLayers
from asynckit.engine.plan import Chunk
from asynckit.engine.request import Request
from asynckit.engine.residency import Residency
from asynckit.errors import InputError, RequestError


@dataclass(frozen=True)
class AdapterStatistics:
    """A snapshot.

    Attributes:
        registered: names that requests can use.
        loaded: adapters in host memory.
        loaded_bytes: what they take.
        resident: those of them that have a slot in the model.
        loads: how often an adapter was read from disk.
        swaps: how often an adapter got a slot.
    """

    registered: int
    loaded: int
    loaded_bytes: int
    resident: int
    loads: int
    swaps: int


@dataclass
class _Adapter:
    """One registration.

    Attributes:
        users: samples that have not ended.
        named: whether requests can still ask for it.
    """

    name: str
    number: int
    folder: Path
    stamp: tuple[int, ...]
    size: int
    users: int = 0
    named: bool = True
    pinned: bool = False


class AdapterStore:
    """Knows every adapter of one engine.

    Args:
        layers: where adapters act in the model.
        config: how many adapters, of which rank, in how much memory.
        dtype: precision of the model.
    """

    def __init__(self, layers: LoraLayers, config: EngineConfig, dtype: torch.dtype) -> None:
        self._layers = layers
        self._config = config
        self._dtype = dtype
        self._numbers = count(1)
        self._adapters: dict[int, _Adapter] = {}
        self._names: dict[str, int] = {}
        self._deltas: dict[int, dict[str, Delta]] = {}
        self._residency = Residency(
            *((config.max_loras, config.lora_bytes) if config.lora_swap else (None, None))
        )
        self._busy: set[int] = set()
        self._waiting = False  # somebody lacks a slot in this step
        self._loads = 0
        self._swaps = 0

    def register(self, name: str, folder: Path) -> None:
        """Let requests use the adapter in ``folder``, a PEFT folder, under ``name``.

        Raises:
            InputError: the name is taken, or the adapter is broken, unsuitable or too large.
        """
        if not name or name in self._names:
            reason = (
                "an adapter of this name is registered" if name else "an adapter's name must not be empty"
            )
            raise InputError(reason, where=f"adapter {name!r}", mend="unregister it or choose another name")
        file = open_adapter(folder, self._layers.sizes, self._config.max_lora_rank)
        adapter = _Adapter(name, next(self._numbers), folder, file.stamp, file.size * self._dtype.itemsize)
        self._check_room(adapter.size, [a for a in self._adapters.values() if a.pinned], adapter)
        self._adapters[adapter.number] = adapter
        if not self._config.lora_swap:
            try:
                self._bring(adapter)
            except InputError:
                del self._adapters[adapter.number]
                raise
        self._names[name] = adapter.number

    def unregister(self, name: str) -> None:
        """Refuse new requests for an adapter from now on.

        Requests that have not ended keep it, and its memory is freed when the last of them ends.

        Raises:
            InputError: no adapter of this name is registered.
        """
        adapter = self._named(name)
        del self._names[name]
        adapter.named = adapter.pinned = False
        if not adapter.users:
            self._remove(adapter)

    def pin(self, name: str) -> None:
        """Load an adapter and keep it loaded until it is unpinned or unregistered.

        Raises:
            InputError: there is no such adapter, or no room for it, now or beside those that are not pinned.
        """
        adapter = self._named(name)
        if adapter.pinned:
            return
        if self._config.lora_swap:
            self._check_pins([adapter, *(a for a in self._adapters.values() if a.pinned)])
            busy = {
                n for n in self._residency.resident if self._adapters[n].users or self._adapters[n].pinned
            }
            if not self._make_room(adapter, busy):
                raise InputError(
                    "requests that run now need all the room there is",
                    where=f"adapter {name!r}",
                    mend="try again when some have ended",
                )
            self._bring(adapter)
        adapter.pinned = True

    def unpin(self, name: str) -> None:
        """Let a pinned adapter be evicted again.

        Raises:
            InputError: no adapter of this name is registered.
        """
        self._named(name).pinned = False

    def names(self) -> tuple[str, ...]:
        """What requests can ask for."""
        return tuple(self._names)

    def statistics(self) -> AdapterStatistics:
        """Where things stand now."""
        return AdapterStatistics(
            registered=len(self._names),
            loaded=self._residency.loaded,
            loaded_bytes=self._residency.used,
            resident=len(self._residency.resident),
            loads=self._loads,
            swaps=self._swaps,
        )

    def hold(self, request: Request) -> int:
        """Keep the adapter that a new request names for its samples; returns its number.

        Raises:
            RequestError: no adapter of this name is registered.
        """
        name = request.adapter
        assert name is not None
        if name not in self._names:
            near = difflib.get_close_matches(name, self._names, n=1)
            raise RequestError(
                f"no adapter {name!r} is registered",
                where=f"request {request.id!r}",
                mend=f"did you mean {near[0]!r}?" if near else "register it first",
            )
        number = self._names[name]
        self._adapters[number].users += request.n
        return number

    def release(self, number: int) -> None:
        """One of the samples has ended."""
        adapter = self._adapters[number]
        adapter.users -= 1
        if not adapter.users and not adapter.named:
            self._remove(adapter)

    def begin_step(self, running: Iterable[int]) -> None:
        """Say which adapters the running samples use, before others ask to start."""
        self._busy = set(running)
        for number in self._busy:
            self._residency.touch(number)
        self._busy.update(number for number in self._residency.resident if self._adapters[number].pinned)
        self._waiting = False

    def start(self, number: int) -> bool:
        """Make an adapter ready for a sample to start in this step.

        Returns:
            Whether it is. If not, its room is needed by samples that run, and nobody who comes later gets an
            adapter in this step, so that room is not handed on past who waits for it.

        Raises:
            InputError: its files have changed or can't be read any more.
        """
        adapter = self._adapters[number]
        if self._waiting or not self._make_room(adapter, self._busy):
            self._waiting = True
            return False
        self._bring(adapter)
        self._busy.add(number)
        return True

    @contextmanager
    def applied(self, chunks: Sequence[Chunk]) -> Iterator[None]:
        """Run a pass over ``chunks`` inside, with each sequence's adapter in effect."""
        slots: list[int | None] = []
        if self._config.lora_compute and any(chunk.sequence.adapter for chunk in chunks):
            for chunk in chunks:
                number = chunk.sequence.adapter
                slot = None if number is None else self._residency.slot(number)
                assert number is None or slot is not None
                slots += [slot] * chunk.length
        with self._layers.applied(slots):
            yield

    def _named(self, name: str) -> _Adapter:
        if name not in self._names:
            raise InputError("no adapter of this name is registered", where=f"adapter {name!r}")
        return self._adapters[self._names[name]]

    def _make_room(self, adapter: _Adapter, busy: set[int]) -> bool:
        change = self._residency.plan(adapter.number, adapter.size, busy)
        if change is None:
            return False
        for number in change.unload:
            self._unload(number)
        if change.unslot is not None:
            self._take_slot(change.unslot)
        return True

    def _bring(self, adapter: _Adapter) -> None:
        """Load the adapter and give it a slot, as far as it has not got them."""
        number, residency = adapter.number, self._residency
        if not residency.is_loaded(number):
            self._deltas[number] = self._read(adapter)
            residency.load(number, adapter.size)
            self._loads += 1
        if residency.slot(number) is None:
            self._layers.put(residency.give_slot(number), self._deltas[number])
            self._swaps += 1
        residency.touch(number)

    def _read(self, adapter: _Adapter) -> dict[str, Delta]:
        file = open_adapter(adapter.folder, self._layers.sizes, self._config.max_lora_rank)
        if file.stamp != adapter.stamp:
            raise InputError(
                "the adapter's files have changed since it was registered",
                where=str(adapter.folder),
                mend="unregister it and register it again",
            )
        return read_deltas(file, self._dtype)

    def _remove(self, adapter: _Adapter) -> None:
        self._unload(adapter.number)
        del self._adapters[adapter.number]

    def _unload(self, number: int) -> None:
        self._take_slot(number)
        self._residency.unload(number)
        self._deltas.pop(number, None)

    def _take_slot(self, number: int) -> None:
        slot = self._residency.take_slot(number)
        if slot is not None:
            self._layers.drop(slot)

    def _check_pins(self, pinned: list[_Adapter]) -> None:
        """Pinned adapters must leave room for any other, or its requests would wait for ever."""
        if len(pinned) >= self._config.max_loras:
            raise InputError(
                f"{len(pinned)} pinned adapters leave no slot for others",
                where=f"adapter {pinned[0].name!r}",
                mend="unpin one or raise engine.max_loras",
            )
        others = [adapter for adapter in self._adapters.values() if adapter not in pinned]
        largest = max((adapter.size for adapter in others), default=0)
        self._check_room(largest, pinned, pinned[0])

    def _check_room(self, size: int, pinned: list[_Adapter], concerned: _Adapter) -> None:
        needed = size + sum(adapter.size for adapter in pinned)
        if self._config.lora_swap and needed > self._config.lora_bytes:
            raise InputError(
                f"{needed} bytes would have to be loaded together, and there is room for "
                f"{self._config.lora_bytes}",
                where=f"adapter {concerned.name!r}",
                mend=f"set engine.lora_bytes={needed}",
            )
