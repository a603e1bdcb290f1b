"""Brings the weights of adapters into host memory and into the model's slots, and takes them out again."""

from collections.abc import Container
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch

from asynckit.engine.adapter_files import (
    AdapterFile,
    Delta,
    check_stamp,
    open_adapter,
    read_content,
    read_deltas,
)
from asynckit.engine.adapter_reads import AdapterReads, Read
from asynckit.engine.config import EngineConfig
from asynckit.engine.lora_layers import LoraLayers
from asynckit.engine.residency import Residency


@dataclass(eq=False)
class Adapter:
    """One registration of an adapter.

    Attributes:
        name: what requests call it.
        number: what sequences call it; no other registration ever gets it.
        folder: where it is on disk.
        stamp: of its files when it was registered.
        size: bytes that it takes in memory.
        file_size: bytes of its weights on disk.
        users: samples that have not ended.
        named: whether requests can still ask for it.
        pinned: whether it must stay loaded.
    """

    name: str
    number: int
    folder: Path
    stamp: tuple[int, ...]
    size: int
    file_size: int
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
        prefetched: how many of the loads found the file read ahead.
    """

    def __init__(self, layers: LoraLayers, config: EngineConfig, dtype: torch.dtype) -> None:
        limits = (config.max_loras, config.lora_bytes) if config.lora_swap else (None, None)
        self.residency = Residency(*limits)
        self.loads = 0
        self.swaps = 0
        self.prefetched = 0
        self._layers = layers
        self._max_rank = config.max_lora_rank
        self._dtype = dtype
        self._deltas: dict[int, dict[str, Delta]] = {}
        self._reads = AdapterReads()

    @property
    def loaded(self) -> int:
        """How many adapters can be used; others may be on their way and take room already."""
        return len(self._deltas)

    def open(self, name: str, number: int, folder: Path) -> Adapter:
        """Check an adapter's files without reading its weights.

        Raises:
            InputError: it is broken or doesn't suit the model.
        """
        file = open_adapter(folder, self._layers.sizes, self._max_rank)
        size = file.size * self._dtype.itemsize
        return Adapter(name, number, folder, file.stamp, size, file.file_size)

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

    def prefetch(self, adapter: Adapter, busy: Container[int]) -> None:
        """Begin to read the adapter's file, if there is room or others, but none of ``busy``, can leave."""
        size = max(adapter.size, adapter.file_size)  # the file is held until it is used
        change = self.residency.plan_memory(adapter.number, size, busy)
        if change is None:
            return
        for number in change.unload:
            self.remove(number)
        self.residency.load(adapter.number, size)
        self._reads.begin(adapter.number, partial(self._read_ahead, adapter))

    def bring(self, adapter: Adapter) -> None:
        """Load the adapter and give it a slot, as far as it has not got them; there must be room.

        Raises:
            InputError: its files have changed or can't be read any more.
        """
        number, residency = adapter.number, self.residency
        if number not in self._deltas:
            try:
                self._deltas[number] = self._load(adapter)
            except BaseException:
                residency.unload(number)  # it may have taken room ahead
                raise
            residency.load(number, adapter.size)
            self.loads += 1
        if residency.slot(number) is None:
            moved = self._layers.moved(self._deltas[number])  # may fail, so it comes before anything changes
            self._layers.put(residency.give_slot(number), moved)
            self.swaps += 1
        residency.touch(number)

    def remove(self, number: int) -> None:
        """Free what an adapter has, if anything."""
        self._reads.drop(number)
        self._take_slot(number)
        self.residency.unload(number)
        self._deltas.pop(number, None)

    def close(self) -> None:
        """Free all adapters and end the thread that reads."""
        for number in [*self.residency.members]:
            self.remove(number)
        self._reads.close()

    def _take_slot(self, number: int) -> None:
        slot = self.residency.take_slot(number)
        if slot is not None:
            self._layers.drop(slot)

    def _load(self, adapter: Adapter) -> dict[str, Delta]:
        read = self._reads.take(adapter.number)
        if read is None:
            return read_deltas(self._reopened(adapter), self._dtype)
        self.prefetched += 1
        return read_deltas(read.file, self._dtype, read.content)

    def _read_ahead(self, adapter: Adapter) -> Read:
        """Runs in the thread that reads, so it touches nothing that changes."""
        file = self._reopened(adapter)
        return Read(file, read_content(file))

    def _reopened(self, adapter: Adapter) -> AdapterFile:
        file = open_adapter(adapter.folder, self._layers.sizes, self._max_rank)
        check_stamp(adapter.folder, adapter.stamp)
        return file
