"""Which blocks of the KV cache belong to whom, as pure accounting.

The cache is a pool of blocks of ``block_size`` tokens. A sequence owns a list of block ids; position ``p`` of
it lives in block ``blocks[p // block_size]`` at offset ``p % block_size``. Blocks carry reference counts, so
the samples of one prompt share its blocks; a block that more than one sequence holds is never written:
whoever wants to write takes a copy (copy on write). The scheme is vLLM's paged attention (Kwon et al. 2023,
arXiv:2309.06180).

A block that nobody holds is free, but one with known content (see :mod:`asynckit.engine.prefix_cache`) is
handed out only when no empty one is left, and until then can be found and shared again.
"""

from collections.abc import Iterable, Sequence

from asynckit.engine.prefix_cache import Key, PrefixCache


class BlockPool:
    """Reference counts of ``size`` blocks. Knows no tensors."""

    def __init__(self, size: int, block_size: int) -> None:
        assert size > 0
        assert block_size > 0
        self.size = size
        self.block_size = block_size
        self.cache = PrefixCache()
        self._references = [0] * size
        self._empty = list(range(size - 1, -1, -1))

    @property
    def free(self) -> int:
        """How many blocks nobody holds, those with known content included."""
        return len(self._empty) + self.cache.idle

    @property
    def empty(self) -> int:
        """How many blocks nobody holds and nobody could find again."""
        return len(self._empty)

    def blocks_for(self, tokens: int) -> int:
        """How many blocks hold ``tokens`` tokens."""
        return -(-tokens // self.block_size)

    def take(self) -> int:
        """Hand out a free block with one reference; its content is forgotten."""
        block = self._empty.pop() if self._empty else self.cache.evict()
        assert self._references[block] == 0
        self._references[block] = 1
        return block

    def share(self, blocks: Iterable[int]) -> None:
        """Add one reference to each of ``blocks``, which must be held or known by content."""
        for block in blocks:
            if self._references[block] == 0:
                self.cache.revive(block)
            self._references[block] += 1

    def release(self, blocks: Sequence[int]) -> None:
        """Drop one reference of each of a sequence's blocks; those that nobody holds any more become free."""
        # From the back, because a chain is found from its front: its tail is the first to be evicted.
        for block in reversed(blocks):
            self._references[block] -= 1
            assert self._references[block] >= 0
            if self._references[block] == 0 and not self.cache.park(block):
                self._empty.append(block)

    def shared(self, block: int) -> bool:
        """Whether more than one sequence holds ``block``, so that it must not be written."""
        return self._references[block] > 1

    def count_idle(self, blocks: Iterable[int]) -> int:
        """How many of ``blocks`` nobody holds."""
        return sum(self._references[block] == 0 for block in blocks)

    def offer(self, key: Key, block: int) -> None:
        """Let a full, computed block be found by its content."""
        assert self._references[block] > 0
        self.cache.offer(key, block)

    def forget(self, blocks: Iterable[int]) -> None:
        """Let nobody find ``blocks`` any more; whoever holds them keeps them."""
        self._empty.extend(block for block in blocks if self.cache.forget(block))

    def forget_all(self) -> None:
        """Let no block be found any more; whoever holds one keeps it."""
        self._empty.extend(self.cache.clear())
