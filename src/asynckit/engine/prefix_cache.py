"""Which blocks hold which tokens: blocks found again by their content.

A full block is addressed by a key: a salt (what else decides about keys and values, such as the adapter) and
a chain hash, which covers the tokens of the block and, through its parent's hash, all tokens before it. The
hash is cryptographic, so equal hashes mean equal tokens. A block that nobody holds any more stays *idle*
until the pool needs it; the one idle for longest goes first (LRU). The scheme is vLLM's automatic prefix
caching.
"""

from array import array
from collections import OrderedDict
from collections.abc import Hashable, Iterable, Sequence
from hashlib import blake2b

Key = tuple[Hashable, bytes]


def extend_hashes(hashes: list[bytes], tokens: Sequence[int], block_size: int) -> None:
    """Append the chain hashes (16 bytes each) of the full blocks of ``tokens`` that ``hashes`` lacks."""
    done, full = len(hashes), len(tokens) // block_size
    if done == full:
        return
    parent = hashes[-1] if hashes else b""
    packed = array("I", tokens[done * block_size : full * block_size])
    raw, width = packed.tobytes(), block_size * packed.itemsize
    for start in range(0, len(raw), width):
        parent = blake2b(parent + raw[start : start + width], digest_size=16).digest()
        hashes.append(parent)


class PrefixCache:
    """Blocks by content, and the idle ones among them in the order in which they will go."""

    def __init__(self) -> None:
        self._blocks: dict[Key, int] = {}
        self._keys: dict[int, Key] = {}
        self._idle: OrderedDict[int, None] = OrderedDict()  # longest idle first

    @property
    def idle(self) -> int:
        """How many blocks are kept for their content alone."""
        return len(self._idle)

    def prefix(self, salt: Hashable, hashes: Iterable[bytes]) -> list[int]:
        """The blocks of the longest known beginning of a chain."""
        found: list[int] = []
        for digest in hashes:
            block = self._blocks.get((salt, digest))
            if block is None:
                break
            found.append(block)
        return found

    def offer(self, key: Key, block: int) -> None:
        """Make a full, computed block findable, unless another one with this content already is."""
        assert block not in self._keys
        if key not in self._blocks:
            self._blocks[key] = block
            self._keys[block] = key

    def park(self, block: int) -> bool:
        """Keep a block that lost its last holder, if its content is known here; says whether it is kept."""
        if block not in self._keys:
            return False
        self._idle[block] = None
        return True

    def revive(self, block: int) -> None:
        """An idle block is held again."""
        del self._idle[block]

    def evict(self) -> int:
        """Forget the block that has been idle for longest, and return it."""
        block, _ = self._idle.popitem(last=False)
        del self._blocks[self._keys.pop(block)]
        return block

    def forget(self, block: int) -> bool:
        """Make ``block`` unfindable, if it is known at all; says whether it was idle."""
        key = self._keys.pop(block, None)
        if key is None:
            return False
        del self._blocks[key]
        was_idle = block in self._idle
        self._idle.pop(block, None)
        return was_idle

    def clear(self) -> list[int]:
        """Forget everything; returns the blocks that were idle."""
        idle = list(self._idle)
        self._blocks.clear()
        self._keys.clear()
        self._idle.clear()
        return idle
