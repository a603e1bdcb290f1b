"""The LoRA adapters of an engine: registered by name, loaded when needed, evicted when room runs out.

Registering checks an adapter's files against the model and keeps a few numbers; its weights are read when the
first request that names it starts to run. Sequences refer to an adapter by a number that no other
registration ever gets, so a name that is registered anew means new weights, new cached prefixes and nothing
mixed. What is unregistered serves the requests that it has and then leaves.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch

from asynckit.engine.adapter_files import LayerSize
from asynckit.engine.adapter_memory import Adapter, AdapterMemory
from asynckit.engine.adapter_names import AdapterNames
from asynckit.engine.config import EngineConfig
from asynckit.engine.lora_layers import LoraLayers
from asynckit.engine.plan import Chunk
from asynckit.engine.request import Request
from asynckit.errors import InputError


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
        prefetched: how many of the loads found the file read ahead.
    """

    registered: int
    loaded: int
    loaded_bytes: int
    resident: int
    loads: int
    swaps: int
    prefetched: int = 0


class AdapterStore:
    """Knows every adapter of one engine.

    Args:
        layers: where adapters act in the model.
        config: how many adapters, of which rank, in how much memory.
        dtype: precision of the model.
    """

    def __init__(self, layers: LoraLayers, config: EngineConfig, dtype: torch.dtype) -> None:
        self._config = config
        self._layers = layers
        self._memory = AdapterMemory(layers, config, dtype)
        self._adapters: dict[int, Adapter] = {}
        self._names = AdapterNames()
        self._busy: set[int] = set()
        self._soon: set[int] = set()  # prefetched since the last step began
        self._waiting = False  # somebody lacks room in this step

    def register(self, name: str, folder: Path) -> None:
        """Let requests use the adapter in ``folder``, a PEFT folder, under ``name``.

        Raises:
            InputError: the name is taken, or the adapter is broken, unsuitable or too large.
        """
        adapter = self._memory.open(name, self._names.reserve(name), folder)
        self._check_room(adapter.size, [a for a in self._adapters.values() if a.pinned], adapter)
        if not self._config.lora_swap:
            self._memory.bring(adapter)
        self._adapters[adapter.number] = adapter
        self._names.put(name, adapter.number)

    def unregister(self, name: str) -> None:
        """Refuse new requests for an adapter from now on.

        Requests that have not ended keep it, and its memory is freed when the last of them ends.

        Raises:
            InputError: no adapter of this name is registered.
        """
        adapter = self._named(name)
        self._names.remove(name)
        adapter.named = adapter.pinned = False
        if not adapter.users:
            self._forget(adapter)

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
            resident = [self._adapters[number] for number in self._memory.residency.resident]
            if not self._memory.make_room(adapter, {a.number for a in resident if a.users or a.pinned}):
                raise InputError(
                    "requests that run now need all the room there is",
                    where=f"adapter {name!r}",
                    mend="try again when some have ended",
                )
            self._memory.bring(adapter)
        adapter.pinned = True

    def unpin(self, name: str) -> None:
        """Let a pinned adapter be evicted again.

        Raises:
            InputError: no adapter of this name is registered.
        """
        self._named(name).pinned = False

    def prefetch(self, name: str) -> None:
        """Begin to read an adapter that will be needed soon, beside the steps that run meanwhile.

        This is a hint that never fails and holds nobody up. Nothing is read that is loaded or on its way, or
        that lacks room: what requests in the engine use or wait for stays, and so does what has been named
        since the last step began. So name all that wait before every step, the next ones first. An unknown
        name does nothing, as its requests are refused. What can't be read is tried again, and refused with
        the reason, when a request needs it.
        """
        if not self._config.lora_swap or name not in self._names:
            return
        adapter, residency = self._named(name), self._memory.residency
        self._soon.add(adapter.number)
        if residency.is_loaded(adapter.number):
            residency.touch(adapter.number)  # soon to be used counts as used
        else:
            members = [self._adapters[number] for number in residency.members]
            self._memory.prefetch(adapter, self._soon.union(a.number for a in members if a.users or a.pinned))

    def close(self) -> None:
        """Free every adapter; none can be used any more."""
        self._memory.close()
        self._names.clear()

    @property
    def layers(self) -> Mapping[str, LayerSize]:
        """The model's layers that adapters can change, by name."""
        return self._layers.sizes

    def names(self) -> tuple[str, ...]:
        """What requests can ask for."""
        return tuple(self._names)

    def statistics(self) -> AdapterStatistics:
        """Where things stand now."""
        return AdapterStatistics(
            registered=len(self._names),
            loaded=self._memory.loaded,
            loaded_bytes=self._memory.residency.used,
            resident=len(self._memory.residency.resident),
            loads=self._memory.loads,
            swaps=self._memory.swaps,
            prefetched=self._memory.prefetched,
        )

    def hold(self, request: Request) -> int:
        """Keep the adapter that a new request names for its samples; returns its number.

        Raises:
            RequestError: no adapter of this name is registered.
        """
        number = self._names.requested(request)
        self._adapters[number].users += request.n
        return number

    def release(self, number: int) -> None:
        """One of the samples has ended."""
        adapter = self._adapters[number]
        adapter.users -= 1
        if not adapter.users and not adapter.named:
            self._forget(adapter)

    def begin_step(self, running: Iterable[int]) -> None:
        """Say which adapters the running samples use, before others ask to start."""
        self._busy = set(running)
        for number in self._busy:
            self._memory.residency.touch(number)
        self._busy.update(
            number for number in self._memory.residency.resident if self._adapters[number].pinned
        )
        self._soon.clear()
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
        if self._waiting or not self._memory.make_room(adapter, self._busy):
            self._waiting = True
            return False
        self._memory.bring(adapter)
        self._busy.add(number)
        return True

    @contextmanager
    def applied(self, chunks: Sequence[Chunk]) -> Iterator[None]:
        """Run a pass over ``chunks`` inside, with each sequence's adapter in effect."""
        slots: list[int | None] = []
        if self._config.lora_compute and any(chunk.sequence.adapter for chunk in chunks):
            for chunk in chunks:
                number = chunk.sequence.adapter
                slot = None if number is None else self._memory.residency.slot(number)
                assert number is None or slot is not None
                slots += [slot] * chunk.length
        with self._layers.applied(slots):
            yield

    def _forget(self, adapter: Adapter) -> None:
        self._memory.remove(adapter.number)
        del self._adapters[adapter.number]

    def _named(self, name: str) -> Adapter:
        return self._adapters[self._names.number(name)]

    def _check_pins(self, pinned: list[Adapter]) -> None:
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

    def _check_room(self, size: int, pinned: list[Adapter], concerned: Adapter) -> None:
        needed = size + sum(adapter.size for adapter in pinned)
        if self._config.lora_swap and needed > self._config.lora_bytes:
            raise InputError(
                f"{needed} bytes would have to be loaded together, and there is room for "
                f"{self._config.lora_bytes}",
                where=f"adapter {concerned.name!r}",
                mend=f"set engine.lora_bytes={needed}",
            )
