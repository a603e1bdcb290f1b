"""Attention over the block cache, registered with transformers under the name ``asynckit``.

The model runs one packed row of tokens, ``[1, T]``, with the tokens of all sequences side by side. Linear
layers and norms don't care; attention does, and gets a :class:`Batch` that says which rows belong to which
sequence. Each layer writes its new keys and values into the cache first and reads everything back from there.

Shape letters: T tokens in the pass, B decoding sequences, H query heads, K key/value heads, D head size, L
    padded context.
"""

from dataclasses import dataclass
from typing import Any

import torch
from torch.nn.functional import scaled_dot_product_attention
from transformers import AttentionInterface, AttentionMaskInterface

from asynckit.engine.kv_cache import KVCache
from asynckit.engine.native import Kernels

NAME = "asynckit"
# Arguments that say nothing new: positions and causality follow from the batch, the rest is bookkeeping.
_HARMLESS = frozenset(
    {
        "dropout",
        "position_ids",
        "position_embeddings",
        "cache_position",
        "use_cache",
        "is_causal",
        "output_attentions",
    }
)


@dataclass(frozen=True)
class Segment:
    """Consecutive rows of one sequence that prefills.

    Attributes:
        row: first row in the pass.
        length: number of rows.
        blocks: the sequence's block ids, enough for ``context`` tokens.
        context: tokens in the cache after this pass, these rows included.
    """

    row: int
    length: int
    blocks: torch.Tensor
    context: int


@dataclass(frozen=True)
class Batch:
    """Everything attention needs to know about one forward pass.

    Attributes:
        cache: where keys and values live.
        block_T, offset_T: block id and offset in it that each row is written to.
        segments: the prefilling sequences.
        decode_rows_B: rows of the decoding sequences (one each).
        decode_blocks_BL: their block ids, padded with any valid id.
        decode_context_B: their lengths, the new token included.
        kernels: C kernels for this device and dtype; None computes with torch.
    """

    cache: KVCache
    block_T: torch.Tensor
    offset_T: torch.Tensor
    segments: tuple[Segment, ...]
    decode_rows_B: torch.Tensor
    decode_blocks_BL: torch.Tensor
    decode_context_B: torch.Tensor
    kernels: Kernels | None = None


def attend(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    *,
    batch: Batch | None = None,
    scaling: float | None = None,
    sliding_window: int | None = None,
    **others: Any,
) -> tuple[torch.Tensor, None]:
    """Attention of one layer over the cache (the signature is transformers').

    Args:
        module: the attention layer; its ``layer_idx`` selects the layer of the cache.
        query: ``[1, H, T, D]``.
        key: ``[1, K, T, D]``.
        value: ``[1, K, T, D]``.
        attention_mask: must be None; the batch says who sees what.
        batch: the pass at hand.
        scaling: factor on the scores; 1/sqrt(D) by default.
        sliding_window: how many latest tokens a row sees, itself included; all by default.
        others: what transformers passes to every attention function; anything that would change the result
            is refused.

    Returns:
        ``[1, T, H, D]`` and None for the weights.

    Raises:
        RuntimeError: called without a batch, that is, outside the engine; or with an argument that changes
            what attention computes and that we don't know.
    """
    if batch is None:
        raise RuntimeError("asynckit's attention was called outside the engine")
    assert attention_mask is None
    unknown = {name for name, value in others.items() if value is not None and value is not False} - _HARMLESS
    if unknown:
        raise RuntimeError(f"asynckit's attention doesn't know the argument {min(unknown)!r} of this model")
    layer = module.layer_idx
    keys, values = batch.cache.keys[layer], batch.cache.values[layer]  # type: ignore[index]
    _store(keys, values, key[0], value[0], batch)
    out_THD = query.new_empty(query.shape[2], query.shape[1], query.shape[3])
    for segment in batch.segments:
        rows = slice(segment.row, segment.row + segment.length)
        out_HTD = _prefill(query[0, :, rows], keys, values, segment, scaling, sliding_window)
        out_THD[rows] = out_HTD.transpose(0, 1)
    if len(batch.decode_rows_B):
        _decode(out_THD, query[0], keys, values, batch, scaling, sliding_window)
    return out_THD.unsqueeze(0), None


def _store(
    keys: torch.Tensor, values: torch.Tensor, key_KTD: torch.Tensor, value_KTD: torch.Tensor, batch: Batch
) -> None:
    """Write the new rows into the cache."""
    if batch.kernels:
        batch.kernels.store(keys, values, key_KTD, value_KTD, batch.block_T, batch.offset_T)
    else:
        keys[batch.block_T, :, batch.offset_T] = key_KTD.transpose(0, 1)
        values[batch.block_T, :, batch.offset_T] = value_KTD.transpose(0, 1)


def _prefill(
    query_HTD: torch.Tensor,
    keys: torch.Tensor,
    values: torch.Tensor,
    segment: Segment,
    scaling: float | None,
    window: int | None,
) -> torch.Tensor:
    """Causal attention of one sequence's new rows over its whole context; returns ``[H, T, D]``."""
    key_KLD = keys[segment.blocks].transpose(0, 1).flatten(1, 2)[:, : segment.context]
    value_KLD = values[segment.blocks].transpose(0, 1).flatten(1, 2)[:, : segment.context]
    plain = segment.length == segment.context and (window is None or window >= segment.context)
    mask = None
    if not plain:
        row = torch.arange(segment.context - segment.length, segment.context, device=query_HTD.device)[
            :, None
        ]
        column = torch.arange(segment.context, device=query_HTD.device)
        mask = column <= row if window is None else (column <= row) & (column > row - window)
    return scaled_dot_product_attention(
        query_HTD[None], key_KLD[None], value_KLD[None], mask, is_causal=plain, scale=scaling, enable_gqa=True
    )[0]


def _decode(
    out_THD: torch.Tensor,
    query_HTD: torch.Tensor,
    keys: torch.Tensor,
    values: torch.Tensor,
    batch: Batch,
    scaling: float | None,
    window: int | None,
) -> None:
    """Attention of one new row per sequence; writes those rows of ``out_THD``."""
    rows_B, blocks_BL, context_B = batch.decode_rows_B, batch.decode_blocks_BL, batch.decode_context_B
    scale = query_HTD.shape[-1] ** -0.5 if scaling is None else scaling
    if batch.kernels:
        batch.kernels.decode(
            out_THD, query_HTD, keys, values, rows_B, blocks_BL, context_B, scale, window or 0
        )
    else:
        query_BHD = query_HTD[:, rows_B].transpose(0, 1)
        out_THD[rows_B] = decode_with_torch(query_BHD, keys, values, blocks_BL, context_B, scale, window)


def decode_with_torch(
    query_BHD: torch.Tensor,
    keys: torch.Tensor,
    values: torch.Tensor,
    blocks_BL: torch.Tensor,
    context_B: torch.Tensor,
    scale: float,
    window: int | None,
) -> torch.Tensor:
    """Attention over padded contexts, ``[B, H, D]``: what the kernels are checked by, and runs everywhere."""
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


AttentionInterface.register(NAME, attend)
# No dense mask is built: who sees what follows from the batch.
AttentionMaskInterface.register(NAME, lambda *_, **__: None)
