"""The tensors behind the blocks: keys and values of every layer."""

import math
from dataclasses import dataclass

import numpy as np
import torch

from asynckit.engine.staging import index


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
    """The tensors: per layer keys and values of shape ``[blocks, kv_heads, block_size, head_dim]``.

    Inside a block and head the order of the numbers is the attention's own business.
    """

    def __init__(
        self, shape: CacheShape, blocks: int, block_size: int, dtype: torch.dtype, device: torch.device
    ) -> None:
        self.shape = shape
        size = (shape.layers, blocks, shape.kv_heads, block_size, shape.head_dim)
        self.keys = _zeros(size, dtype, device)
        self.values = _zeros(size, dtype, device)

    def clear(self, blocks: list[int]) -> None:
        """Write zeros over blocks."""
        if blocks:
            where = index(blocks, self.keys.device)
            self.keys.index_fill_(1, where, 0)
            self.values.index_fill_(1, where, 0)

    def copy(self, source: int, target: int) -> None:
        """Copy one block over all layers (the copy in copy on write)."""
        self.keys[:, target] = self.keys[:, source]
        self.values[:, target] = self.values[:, source]


def _zeros(size: tuple[int, ...], dtype: torch.dtype, device: torch.device) -> torch.Tensor:
    """Zeros that take no memory on the CPU until they are written (torch.zeros writes them all at once)."""
    if device.type != "cpu":
        return torch.zeros(size, dtype=dtype, device=device)
    raw = np.zeros(math.prod(size) * dtype.itemsize, dtype=np.uint8)
    return torch.from_numpy(raw).view(dtype).view(size)
