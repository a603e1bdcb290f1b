"""Attention over the block cache with torch alone: it runs everywhere, and kernels are tried by it.

The cache's layers are ``[blocks, kv_heads, block_size, head_dim]`` here. Sequences that prefill attend one by
one, without padding; those that decode attend together, padded to the longest of them.

Shape letters: T tokens in the pass, B decoding sequences, H query heads, K key/value heads, D head size, L
    padded context.
"""

from collections.abc import Sequence

import torch
from torch.nn.functional import scaled_dot_product_attention

from asynckit.engine.attention import Span
from asynckit.engine.kv_cache import KVCache


class TorchBatch:
    """The rows of one pass.

    Args:
        cache: where keys and values live.
        block_size: tokens per block of it.
        spans: whose rows the pass has, in order.
    """

    def __init__(self, cache: KVCache, block_size: int, spans: Sequence[Span]) -> None:
        self._cache = cache
        device = cache.keys.device
        places = [divmod(p, block_size) for s in spans for p in range(s.start, s.end)]
        owners = [s.blocks for s in spans for _ in range(s.length)]
        blocks = [owned[place[0]] for owned, place in zip(owners, places, strict=True)]
        self._block_T = torch.tensor(blocks, device=device)
        self._offset_T = torch.tensor([offset for _, offset in places], device=device)
        self._prefills = [
            (span, torch.tensor(span.blocks[: -(-span.end // block_size)], device=device))
            for span in spans
            if span.length > 1
        ]
        decodes = [span for span in spans if span.length == 1]
        widest = max((-(-span.end // block_size) for span in decodes), default=0)
        padded = [(span.blocks + span.blocks[:1] * widest)[:widest] for span in decodes]
        self._rows_B = torch.tensor([span.row for span in decodes], dtype=torch.long, device=device)
        self._blocks_BL = torch.tensor(padded, dtype=torch.long, device=device)
        self._context_B = torch.tensor([span.end for span in decodes], dtype=torch.long, device=device)

    def attend(
        self,
        layer: int,
        query_THD: torch.Tensor,
        key_TKD: torch.Tensor,
        value_TKD: torch.Tensor,
        scale: float,
        window: int | None,
    ) -> torch.Tensor:
        """See :class:`asynckit.engine.attention.Batch`."""
        keys, values = self._cache.keys[layer], self._cache.values[layer]
        keys[self._block_T, :, self._offset_T] = key_TKD
        values[self._block_T, :, self._offset_T] = value_TKD
        out_THD = query_THD.new_empty(query_THD.shape)
        for span, blocks in self._prefills:
            rows = slice(span.row, span.row + span.length)
            key_KLD, value_KLD = (each[blocks].transpose(0, 1).flatten(1, 2) for each in (keys, values))
            out_THD[rows] = _prefill(query_THD[rows], key_KLD, value_KLD, span, scale, window)
        if len(self._rows_B):
            out_THD[self._rows_B] = decode(
                query_THD[self._rows_B], keys, values, self._blocks_BL, self._context_B, scale, window
            )
        return out_THD


def _prefill(
    query_THD: torch.Tensor,
    key_KLD: torch.Tensor,
    value_KLD: torch.Tensor,
    span: Span,
    scale: float,
    window: int | None,
) -> torch.Tensor:
    """Causal attention of one sequence's new rows over its whole context; returns ``[T, H, D]``."""
    plain = span.start == 0 and (window is None or window >= span.end)
    mask = None
    if not plain:
        row = torch.arange(span.start, span.end, device=query_THD.device)[:, None]
        column = torch.arange(span.end, device=query_THD.device)
        mask = column <= row if window is None else (column <= row) & (column > row - window)
    out_1HTD = scaled_dot_product_attention(
        query_THD.transpose(0, 1)[None],
        key_KLD[None, :, : span.end],
        value_KLD[None, :, : span.end],
        mask,
        is_causal=plain,
        scale=scale,
        enable_gqa=True,
    )
    return out_1HTD[0].transpose(0, 1)


def decode(
    query_BHD: torch.Tensor,
    keys: torch.Tensor,
    values: torch.Tensor,
    blocks_BL: torch.Tensor,
    context_B: torch.Tensor,
    scale: float,
    window: int | None,
) -> torch.Tensor:
    """Attention of one row per sequence over padded contexts, ``[B, H, D]``.

    Args:
        query_BHD: ``[B, H, D]``.
        keys: a layer of the cache.
        values: likewise.
        blocks_BL: block ids ``[B, L / block_size]``, padded with any valid id.
        context_B: how many tokens each row sees.
        scale: factor on the scores.
        window: how many latest tokens a row sees; None for all.
    """
    key_BKLD = keys[blocks_BL].transpose(1, 2).flatten(2, 3)
    value_BKLD = values[blocks_BL].transpose(1, 2).flatten(2, 3)
    column = torch.arange(key_BKLD.shape[2], device=keys.device)
    context_B1 = context_B[:, None]
    mask_BL = column < context_B1
    if window is not None:
        mask_BL &= column >= context_B1 - window
    out_BH1D = scaled_dot_product_attention(
        query_BHD.unsqueeze(2), key_BKLD, value_BKLD, mask_BL[:, None, None], scale=scale, enable_gqa=True
    )
    return out_BH1D.squeeze(2)
