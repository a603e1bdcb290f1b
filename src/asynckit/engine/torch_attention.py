"""Attention over the block cache with torch alone: it runs everywhere, and kernels are tried by it.

The cache's layers are ``[blocks, kv_heads, block_size, head_dim]`` here. Sequences that prefill attend one by
one, without padding; those that decode attend together, padded to the longest of them. The query heads that
share a key/value head attend like rows of one head: no key is repeated, and torch's fused kernels for GPUs,
which take either a mask or grouped heads, can be used.

Shape letters: T tokens in the pass, B decoding sequences, H query heads, K key/value heads, G query heads per
    key/value head, D head size, L padded context.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch.nn.functional import scaled_dot_product_attention

from asynckit.engine.attention import Span
from asynckit.engine.kv_cache import KVCache
from asynckit.engine.staging import integers


@dataclass(frozen=True)
class Decodes:
    """Rows that are the only one of their sequence.

    Attributes:
        row_B: which of the pass's rows; None for all of them, in order.
        context_B: how many tokens each row sees.
        blocks_BL: block ids ``[B, L / block_size]``; what lies past the context must be finite there.
    """

    row_B: torch.Tensor | None
    context_B: torch.Tensor
    blocks_BL: torch.Tensor


class TorchBatch:
    """The rows of one pass.

    Args:
        cache: where keys and values live.
        block_T: in which block each row's keys and values go.
        offset_T: at which place inside it.
        prefills: sequences with several rows, each with the ids of the blocks up to its end.
        decodes: the other sequences; None if there are none.
    """

    def __init__(
        self,
        cache: KVCache,
        block_T: torch.Tensor,
        offset_T: torch.Tensor,
        prefills: Sequence[tuple[Span, torch.Tensor]],
        decodes: Decodes | None,
    ) -> None:
        self._cache = cache
        self._block_T, self._offset_T = block_T, offset_T
        self._prefills = prefills
        self._decodes = decodes
        self._masks: dict[int | None, torch.Tensor] = {}  # of the decodes, by window

    @classmethod
    def of(cls, cache: KVCache, block_size: int, spans: Sequence[Span]) -> "TorchBatch":
        """A batch of any sequences; ``spans`` say whose rows the pass has, in order."""
        places = [divmod(p, block_size) for s in spans for p in range(s.start, s.end)]
        owners = [s.blocks for s in spans for _ in range(s.length)]
        blocks = [owned[place[0]] for owned, place in zip(owners, places, strict=True)]
        prefills = [span for span in spans if span.length > 1]
        single = [span for span in spans if span.length == 1]
        widest = max((-(-span.end // block_size) for span in single), default=0)
        block_T, offset_T, row_B, context_B, table, *prefilled = integers(
            cache.keys.device,
            blocks,
            [offset for _, offset in places],
            [span.row for span in single],
            [span.end for span in single],
            # A row that is not finite must not reach others, so each is padded with a block of its own.
            [block for span in single for block in (span.blocks + span.blocks[:1] * widest)[:widest]],
            *(span.blocks[: -(-span.end // block_size)] for span in prefills),
        )
        decodes = (
            Decodes(row_B if prefills else None, context_B, table.view(len(single), -1)) if single else None
        )
        return cls(cache, block_T, offset_T, list(zip(prefills, prefilled, strict=True)), decodes)

    @classmethod
    def decoding(
        cls, cache: KVCache, block_size: int, position_B: torch.Tensor, blocks_BL: torch.Tensor
    ) -> "TorchBatch":
        """A batch in which every sequence decodes, made from tensors alone.

        Args:
            cache: where keys and values live.
            block_size: tokens per block of it.
            position_B: of each row in its sequence.
            blocks_BL: as in :class:`Decodes`.
        """
        block_B = blocks_BL.gather(1, (position_B // block_size)[:, None]).squeeze(1)
        return cls(cache, block_B, position_B % block_size, (), Decodes(None, position_B + 1, blocks_BL))

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
        decodes = self._decodes
        if decodes and decodes.row_B is None:
            return self._decode(decodes, query_THD, keys, values, scale, window)
        out_THD = query_THD.new_empty(query_THD.shape)
        for span, blocks in self._prefills:
            rows = slice(span.row, span.row + span.length)
            key_KLD, value_KLD = (
                each[blocks].transpose(0, 1).flatten(1, 2)[:, : span.end] for each in (keys, values)
            )
            out_THD[rows] = _prefill(query_THD[rows], key_KLD, value_KLD, span, scale, window)
        if decodes:
            query_BHD = query_THD[decodes.row_B]
            out_THD[decodes.row_B] = self._decode(decodes, query_BHD, keys, values, scale, window)
        return out_THD

    def _decode(
        self,
        decodes: Decodes,
        query_BHD: torch.Tensor,
        keys: torch.Tensor,
        values: torch.Tensor,
        scale: float,
        window: int | None,
    ) -> torch.Tensor:
        """Attention of one row per sequence over padded contexts; returns ``[B, H, D]``."""
        key_BKLD, value_BKLD = (
            each[decodes.blocks_BL].transpose(1, 2).flatten(2, 3) for each in (keys, values)
        )
        if window not in self._masks:  # the same for most layers
            self._masks[window] = _decode_mask(decodes.context_B, key_BKLD.shape[2], window)
        query_BKGD = query_BHD.reshape(len(query_BHD), keys.shape[1], -1, query_BHD.shape[-1])
        mask_B11L = self._masks[window][:, None, None]
        out_BKGD = scaled_dot_product_attention(query_BKGD, key_BKLD, value_BKLD, mask_B11L, scale=scale)
        return out_BKGD.flatten(1, 2)


def _decode_mask(context_B: torch.Tensor, longest: int, window: int | None) -> torch.Tensor:
    """Which tokens each row sees, ``[B, L]``."""
    column = torch.arange(longest, device=context_B.device)
    mask_BL = column < context_B[:, None]
    return mask_BL if window is None else mask_BL & (column >= context_B[:, None] - window)


def _prefill(
    query_THD: torch.Tensor,
    key_KLD: torch.Tensor,
    value_KLD: torch.Tensor,
    span: Span,
    scale: float,
    window: int | None,
) -> torch.Tensor:
    """Causal attention of one sequence's new rows over its whole context; returns ``[T, H, D]``."""
    if span.start == 0 and (window is None or window >= span.end):
        out_1HTD = scaled_dot_product_attention(
            query_THD.transpose(0, 1)[None],
            key_KLD[None],
            value_KLD[None],
            is_causal=True,
            scale=scale,
            enable_gqa=True,
        )
        return out_1HTD[0].transpose(0, 1)
    query_KGTD = query_THD.unflatten(1, (len(key_KLD), -1)).permute(1, 2, 0, 3)  # type: ignore[no-untyped-call]
    group = query_KGTD.shape[1]
    mask_RL = _prefill_mask(span, window, query_THD.device).repeat(group, 1)  # R: group times rows
    out_1KRD = scaled_dot_product_attention(
        query_KGTD.flatten(1, 2)[None], key_KLD[None], value_KLD[None], mask_RL, scale=scale
    )
    out_KGTD = out_1KRD[0].unflatten(1, (group, -1))  # type: ignore[no-untyped-call]
    return out_KGTD.permute(2, 0, 1, 3).flatten(1, 2)  # type: ignore[no-any-return]


def _prefill_mask(span: Span, window: int | None, device: torch.device) -> torch.Tensor:
    """Which tokens each row sees, ``[T, L]``."""
    row = torch.arange(span.start, span.end, device=device)[:, None]
    column = torch.arange(span.end, device=device)
    return column <= row if window is None else (column <= row) & (column > row - window)
