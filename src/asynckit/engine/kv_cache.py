"""The KV cache: which blocks belong to whom (pure accounting), and the tensors behind them.

The cache is a pool of blocks of ``block_size`` tokens. A sequence owns a list of block ids; position ``p`` of it lives
in block ``blocks[p // block_size]`` at offset ``p % block_size``. Blocks carry reference counts, so the samples of one
prompt share its blocks; a block that more than one sequence holds is never written: whoever wants to write takes a copy
(copy on write). The scheme is vLLM's paged attention (Kwon et al. 2023, arXiv:2309.06180).
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch


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


@dataclass(frozen=True)
class CacheShape:
    """Sizes of the cache tensors.

    Attributes:
        layers: attention layers.
        kv_heads: key/value heads per layer.
        head_dim: size of one head.
    """

    layers: int
    kv_heads: int
    head_dim: int

    def bytes_per_token(self, element_size: int) -> int:
        """Bytes that one token's keys and values take over all layers."""
        return 2 * self.layers * self.kv_heads * self.head_dim * element_size


class KVCache:
    """The tensors: per layer keys and values of shape ``[blocks, kv_heads, block_size, head_dim]``."""

    def __init__(
        self, shape: CacheShape, blocks: int, block_size: int, dtype: "torch.dtype", device: "torch.device"
    ) -> None:
        import torch

        # Untouched pages of a CPU allocation cost no memory, so a cache may be larger than what is in use.
        size = (shape.layers, blocks, shape.kv_heads, block_size, shape.head_dim)
        self.keys = torch.empty(size, dtype=dtype, device=device)
        self.values = torch.empty(size, dtype=dtype, device=device)

    def copy(self, source: int, target: int) -> None:
        """Copy one block over all layers (the copy in copy on write)."""
        self.keys[:, target] = self.keys[:, source]
        self.values[:, target] = self.values[:, source]
