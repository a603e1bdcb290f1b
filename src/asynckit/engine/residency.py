"""Which adapters are in memory and which of them have a slot, as pure accounting.

An adapter that a step uses must be loaded (it takes bytes) and have a slot (there are so many). Both are
given to whoever needs them next at the cost of the adapter unused for longest, but never of a busy one.
"""

from collections import OrderedDict
from collections.abc import Collection, Container
from dataclasses import dataclass


@dataclass(frozen=True)
class Change:
    """What must happen before an adapter can be used, in this order.

    Attributes:
        unload: who leaves memory, and its slot if it has one.
        unslot: who loses only its slot.
    """

    unload: tuple[int, ...] = ()
    unslot: int | None = None


class Residency:
    """Adapters by number; knows no tensors.

    Args:
        slots: how many adapters can have a slot at once; None is any number.
        room: bytes that loaded adapters may take together; None is any number.
    """

    def __init__(self, slots: int | None, room: int | None) -> None:
        self._most = slots
        self._room = room
        self._loaded: OrderedDict[int, int] = OrderedDict()  # bytes; unused for longest first
        self._slots: dict[int, int] = {}
        self._free: list[int] = []

    @property
    def loaded(self) -> int:
        """How many adapters are in memory."""
        return len(self._loaded)

    @property
    def used(self) -> int:
        """Bytes that they take."""
        return sum(self._loaded.values())

    @property
    def resident(self) -> Collection[int]:
        """Who has a slot."""
        return self._slots.keys()

    @property
    def members(self) -> Collection[int]:
        """Who is in memory."""
        return self._loaded.keys()

    def is_loaded(self, number: int) -> bool:
        """Whether an adapter is in memory."""
        return number in self._loaded

    def slot(self, number: int) -> int | None:
        """The slot of an adapter, if it has one."""
        return self._slots.get(number)

    def plan(self, number: int, size: int, busy: Container[int]) -> Change | None:
        """What gives an adapter of ``size`` bytes memory and a slot; None while others need them."""
        idle = [other for other in self._loaded if other not in busy and other != number]
        unload = self._room_for(number, size, idle)
        if unload is None:
            return None
        left = [other for other in self._slots if other not in unload]
        if number in self._slots or self._most is None or len(left) < self._most:
            return Change(tuple(unload))
        victim = next((other for other in idle if other in left), None)
        return None if victim is None else Change(tuple(unload), victim)

    def plan_memory(self, number: int, size: int, busy: Container[int]) -> Change | None:
        """As :meth:`plan`, for memory alone."""
        idle = [other for other in self._loaded if other not in busy and other != number]
        unload = self._room_for(number, size, idle)
        return None if unload is None else Change(tuple(unload))

    def _room_for(self, number: int, size: int, idle: list[int]) -> list[int] | None:
        if self._room is None or number in self._loaded:
            return []
        unload, left = [], self._room - self.used
        for other in idle:
            if size <= left:
                break
            unload.append(other)
            left += self._loaded[other]
        return unload if size <= left else None

    def load(self, number: int, size: int) -> None:
        """An adapter is in memory now, or takes so many bytes from now on."""
        self._loaded[number] = size

    def give_slot(self, number: int) -> int:
        """Give a loaded adapter a slot, which must be free; returns it."""
        assert number in self._loaded
        assert number not in self._slots
        slot = self._free.pop() if self._free else len(self._slots)
        assert self._most is None or slot < self._most
        self._slots[number] = slot
        return slot

    def touch(self, number: int) -> None:
        """An adapter is in use now."""
        self._loaded.move_to_end(number)

    def take_slot(self, number: int) -> int | None:
        """Take an adapter's slot away; returns it."""
        slot = self._slots.pop(number, None)
        if slot is not None:
            self._free.append(slot)
        return slot

    def unload(self, number: int) -> None:
        """An adapter without a slot is no longer in memory."""
        assert number not in self._slots
        self._loaded.pop(number, None)
