"""Which blocks of the KV cache belong to whom, as pure accounting.

The cache is a pool of blocks of ``block_size`` tokens. A sequence owns a list of block ids; position ``p`` of
it lives in block ``blocks[p // block_size]`` at offset ``p % block_size``. Blocks carry reference counts, so
the samples of one prompt share its blocks; a block that more than one sequence holds is never written:
whoever wants to write takes a copy (copy on write). The scheme is vLLM's paged attention (Kwon et al. 2023,
arXiv:2309.06180).
"""

from collections.abc import Iterable


class BlockPool:
    """Reference counts of ``size`` blocks. Knows no tensors."""

    def __init__(self, size: int, block_size: int) -> None:
        assert size > 0
        assert block_size > 0
        self.size = size
        self.block_size = block_size
        self._references = [0] * size
        self._free = list(range(size - 1, -1, -1))

    @property
    def free(self) -> int:
        """How many blocks nobody holds."""
        return len(self._free)

    def blocks_for(self, tokens: int) -> int:
        """How many blocks hold ``tokens`` tokens."""
        return -(-tokens // self.block_size)

    def take(self) -> int:
        """Hand out a free block with one reference."""
        block = self._free.pop()
        assert self._references[block] == 0
        self._references[block] = 1
        return block

    def share(self, blocks: Iterable[int]) -> None:
        """Add one reference to each of ``blocks``."""
        for block in blocks:
            assert self._references[block] > 0
            self._references[block] += 1

    def release(self, blocks: Iterable[int]) -> None:
        """Drop one reference of each of ``blocks``; those that nobody holds any more become free."""
        for block in blocks:
            self._references[block] -= 1
            assert self._references[block] >= 0
            if self._references[block] == 0:
                self._free.append(block)

    def shared(self, block: int) -> bool:
        """Whether more than one sequence holds ``block``, so that it must not be written."""
        return self._references[block] > 1
