"""Brings the weights of adapters into host memory and into the model's slots, and takes them out again."""

from collections.abc import Container
from dataclasses import dataclass
from pathlib import Path

import torch

from asynckit.engine.adapter_files import Delta, open_adapter, read_deltas
from asynckit.engine.config import EngineConfig
from asynckit.engine.lora_layers import LoraLayers
from asynckit.engine.residency import Residency
from asynckit.errors import InputError


@dataclass(eq=False)
class Adapter:
    """One registration of an adapter.

    Attributes:
        name: what requests call it.
        number: what sequences call it; no other registration ever gets it.
        folder: where it is on disk.
        stamp: of its files when it was registered.
        size: bytes that it takes in memory.
        users: samples that have not ended.
        named: whether requests can still ask for it.
        pinned: whether it must stay loaded.
    """

    name: str
    number: int
    folder: Path
    stamp: tuple[int, ...]
    size: int
    users: int = 0
    named: bool = True
    pinned: bool = False


class AdapterMemory:
    """The loaded adapters of one model.

    Args:
        layers: where adapters act in the model.
        config: how many adapters, in how much memory.
        dtype: precision of the model.

    Attributes:
        residency: who is loaded and who has a slot.
        loads: how often an adapter was read from disk.
        swaps: how often an adapter got a slot.
    """

    def __init__(self, layers: LoraLayers, config: EngineConfig, dtype: torch.dtype) -> None:
        limits = (config.max_loras, config.lora_bytes) if config.lora_swap else (None, None)
        self.residency = Residency(*limits)
        self.loads = 0
        self.swaps = 0
        self._layers = layers
        self._max_rank = config.max_lora_rank
        self._dtype = dtype
        self._deltas: dict[int, dict[str, Delta]] = {}

    def open(self, name: str, number: int, folder: Path) -> Adapter:
        """Check an adapter's files without reading its weights.

        Raises:
            InputError: it is broken or doesn't suit the model.
        """
        file = open_adapter(folder, self._layers.sizes, self._max_rank)
        return Adapter(name, number, folder, file.stamp, file.size * self._dtype.itemsize)

    def make_room(self, adapter: Adapter, busy: Container[int]) -> bool:
        """Evict others, but none of ``busy``, so that the adapter fits; false when that is not enough."""
        change = self.residency.plan(adapter.number, adapter.size, busy)
        if change is None:
            return False
        for number in change.unload:
            self.remove(number)
        if change.unslot is not None:
            self._take_slot(change.unslot)
        return True

    def bring(self, adapter: Adapter) -> None:
        """Load the adapter and give it a slot, as far as it has not got them; there must be room.

        Raises:
            InputError: its files have changed or can't be read any more.
        """
        number, residency = adapter.number, self.residency
        if not residency.is_loaded(number):
            self._deltas[number] = self._read(adapter)
            residency.load(number, adapter.size)
            self.loads += 1
        if residency.slot(number) is None:
            moved = self._layers.moved(self._deltas[number])  # may fail, so it comes before anything changes
            self._layers.put(residency.give_slot(number), moved)
            self.swaps += 1
        residency.touch(number)

    def remove(self, number: int) -> None:
        """Free what an adapter has, if anything."""
        self._take_slot(number)
        self.residency.unload(number)
        self._deltas.pop(number, None)

    def _take_slot(self, number: int) -> None:
        slot = self.residency.take_slot(number)
        if slot is not None:
            self._layers.drop(slot)

    def _read(self, adapter: Adapter) -> dict[str, Delta]:
        file = open_adapter(adapter.folder, self._layers.sizes, self._max_rank)
        if file.stamp != adapter.stamp:
            raise InputError(
                "the adapter's files have changed since it was registered",
                where=str(adapter.folder),
                mend="unregister it and register it again",
            )
        return read_deltas(file, self._dtype)
