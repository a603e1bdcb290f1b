"""Attention over the block cache, registered with transformers under the name ``asynckit``.

The model runs one packed row of tokens, ``[1, T]``, with the tokens of all sequences side by side. Linear
layers and norms don't care; attention does, and gets a batch that says which rows belong to which sequence.
Each layer writes its new keys and values into the cache first and reads everything back from there.

Shape letters: T tokens in the pass, H query heads, K key/value heads, D head size.
"""

from dataclasses import dataclass
from typing import Any, Protocol

import torch
from transformers import AttentionInterface

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
class Span:
    """Consecutive rows of a pass that belong to one sequence.

    Attributes:
        row: the first one.
        length: how many.
        start: position of the first row in its sequence.
        blocks: the sequence's block ids; those of all positions up to the last row's at least.
    """

    row: int
    length: int
    start: int
    blocks: list[int]

    @property
    def end(self) -> int:
        """Tokens of the sequence in the cache after the pass."""
        return self.start + self.length


class Batch(Protocol):
    """The rows of one pass and the cache behind them."""

    def attend(
        self,
        layer: int,
        query_THD: torch.Tensor,
        key_TKD: torch.Tensor,
        value_TKD: torch.Tensor,
        scale: float,
        window: int | None,
    ) -> torch.Tensor:
        """Store a layer's new keys and values, then attend with every row; returns ``[T, H, D]``.

        Args:
            layer: which layer of the cache.
            query_THD: ``[T, H, D]``.
            key_TKD: ``[T, K, D]``.
            value_TKD: ``[T, K, D]``.
            scale: factor on the scores.
            window: how many latest tokens a row sees, itself included; None for all.
        """


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
        RuntimeError: called without a batch, that is, outside the engine; or with a mask or an argument that
            changes what attention computes and that we don't know.
    """
    if batch is None:
        raise RuntimeError("asynckit's attention was called outside the engine")
    if attention_mask is not None:
        raise RuntimeError("this model makes an attention mask of its own")
    unknown = {name for name, value in others.items() if value is not None and value is not False} - _HARMLESS
    if unknown:
        raise RuntimeError(f"asynckit's attention doesn't know the argument {min(unknown)!r} of this model")
    scale = query.shape[-1] ** -0.5 if scaling is None else scaling
    query_THD, key_TKD, value_TKD = (each[0].transpose(0, 1) for each in (query, key, value))
    layer: int = module.layer_idx  # type: ignore[assignment]
    out_THD = batch.attend(layer, query_THD, key_TKD, value_TKD, scale, sliding_window)
    return out_THD.unsqueeze(0), None


# No mask function is registered beside it, as who sees what follows from the batch. Without one, transformers
# makes no mask at all; with one, it first looks for packed sequences, for which the host waits for the GPU.
AttentionInterface.register(NAME, attend)
