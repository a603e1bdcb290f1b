"""Attention over the block cache by the C kernel, which lays the cache out as suits it.

A row's result does not depend, bit for bit, on how its sequence is cut into passes or on the other sequences.
"""

from collections.abc import Sequence

import numpy as np
import torch

from asynckit.engine.attention import Span
from asynckit.engine.kv_cache import KVCache
from asynckit.engine.native import Kernels, Pass

# Rows times query heads per key/value head that read the same keys and values together.
_TILE_QUERIES = 16


class NativeBatch:
    """The rows of one pass.

    Args:
        cache: where keys and values live; nothing else may write or read them.
        block_size: tokens per block of it.
        spans: whose rows the pass has, in order.
        kernels: for the cache's element type.
        group: query heads per key/value head.
    """

    def __init__(
        self, cache: KVCache, block_size: int, spans: Sequence[Span], kernels: Kernels, group: int
    ) -> None:
        self._cache = cache
        self._kernels = kernels
        most = max(1, _TILE_QUERIES // group)
        tiles: list[tuple[int, int, int, int]] = []
        table = 0
        for span in spans:
            tiles += [
                (span.row + done, min(most, span.length - done), span.start + done, table)
                for done in range(0, span.length, most)
            ]
            table += len(span.blocks)
        # The kernel reads them by address: they must live as long as the batch.
        self._tiles = np.array(tiles, dtype=np.int64)
        self._tables = np.array([block for span in spans for block in span.blocks], dtype=np.int64)
        self._rows = Pass(
            tiles=self._tiles.ctypes.data,
            tables=self._tables.ctypes.data,
            count=len(tiles),
            kv_heads=cache.shape.kv_heads,
            group=group,
            head_dim=cache.shape.head_dim,
            block_size=block_size,
        )

    def attend(
        self,
        layer: int,
        query_THD: torch.Tensor,
        key_TKD: torch.Tensor,
        value_TKD: torch.Tensor,
        scale: float,
        window: int | None,
        rotation: tuple[torch.Tensor, torch.Tensor] | None = None,
    ) -> torch.Tensor:
        """See :class:`asynckit.engine.attention.Batch`.

        With a ``rotation``, the cosines and sines ``[T, D]`` of each row's angles (Su et al. 2021,
        "RoFormer"), queries and keys are rotated on the way.
        """
        cosine_TD, sine_TD = rotation or (None, None)
        self._rows.cosines = None if cosine_TD is None else cosine_TD.data_ptr()
        self._rows.sines = None if sine_TD is None else sine_TD.data_ptr()
        keys, values = self._cache.keys[layer], self._cache.values[layer]
        return self._kernels.attend(
            self._rows, query_THD, key_TKD, value_TKD, keys, values, scale, window or 0
        )
