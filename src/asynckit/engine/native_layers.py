"""Attention layers with everything between their two products in one call of the C kernel.

The model's own code splits queries, keys and values, turns them by their rotary angles, stores keys and
values, and attends: some twenty small operations per layer. The kernel does all of it at once. An attention
layer is changed only where a trial shows that it computes just that: the layer's own code runs on a batch
that records what it is asked, and says by that what its scale and its window are.
"""

from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from asynckit.engine.kv_cache import CacheShape
from asynckit.engine.linear import FusedPart
from asynckit.engine.native_attention import NativeBatch

_ROWS = 4  # of the trial
_MAGNITUDES = (1.0, 30.0, 1000.0)  # of its input: some models clip what is large
_TOLERANCE = {torch.bfloat16: 2**-6, torch.float32: 1e-5}


@dataclass
class _Recorder:
    """A batch that attends to nothing and notes what it was given."""

    attended_THD: torch.Tensor
    seen: tuple[torch.Tensor, torch.Tensor, torch.Tensor] | None = None
    scale: float = 1.0
    window: int | None = None

    def attend(
        self,
        layer: int,  # noqa: ARG002 - part of a batch's interface
        query_THD: torch.Tensor,
        key_TKD: torch.Tensor,
        value_TKD: torch.Tensor,
        scale: float,
        window: int | None,
    ) -> torch.Tensor:
        """See :class:`asynckit.engine.attention.Batch`."""
        self.seen, self.scale, self.window = (query_THD, key_TKD, value_TKD), scale, window
        return self.attended_THD


class _Forward:
    """Replaces the ``forward`` of an attention layer.

    Args:
        layer: its ``q_proj``, ``k_proj`` and ``v_proj`` are fused.
        shape: of the cache.
        scale: factor on the scores.
        window: how many latest tokens a row sees; None for all.
    """

    def __init__(self, layer: nn.Module, shape: CacheShape, scale: float, window: int | None) -> None:
        self._own = layer.forward
        self._layer: Any = layer
        self._kv_heads, self._head_dim = shape.kv_heads, shape.head_dim
        self._scale, self._window = scale, window

    def __call__(
        self,
        hidden_states: torch.Tensor,
        position_embeddings: tuple[torch.Tensor, torch.Tensor] | None = None,
        batch: Any = None,
        **others: Any,
    ) -> tuple[torch.Tensor, Any]:
        # Some models rotate only a part of each head.
        whole = position_embeddings is not None and position_embeddings[0].shape[-1] == self._head_dim
        if not isinstance(batch, NativeBatch) or position_embeddings is None or not whole:
            return self._own(  # type: ignore[no-any-return]
                hidden_states=hidden_states, position_embeddings=position_embeddings, batch=batch, **others
            )
        query_THD, key_TKD, value_TKD = self.project(hidden_states)
        cosine_TD, sine_TD = (each[0].contiguous() for each in position_embeddings)
        out_THD = batch.attend(
            self._layer.layer_idx,
            *(query_THD, key_TKD, value_TKD, self._scale, self._window),
            (cosine_TD, sine_TD),
        )
        return self.finish(out_THD), None

    def project(self, hidden_states: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Queries, keys and values of ``[1, T, hidden]``, not rotated yet."""
        whole_TAD = self._layer.q_proj.fused.linear(hidden_states).view(
            hidden_states.shape[1], -1, self._head_dim
        )
        heads = whole_TAD.shape[1] - 2 * self._kv_heads
        query_THD, key_TKD = whole_TAD[:, :heads], whole_TAD[:, heads : heads + self._kv_heads]
        if hasattr(self._layer, "q_norm"):
            query_THD, key_TKD = self._layer.q_norm(query_THD), self._layer.k_norm(key_TKD)
        return query_THD, key_TKD, whole_TAD[:, heads + self._kv_heads :]

    def finish(self, out_THD: torch.Tensor) -> torch.Tensor:
        """What the layer makes of the attended values; ``[1, T, hidden]``."""
        return self._layer.o_proj(out_THD.view(1, len(out_THD), -1))  # type: ignore[no-any-return]


@torch.inference_mode()
def speed_up_attention(model: nn.Module, shape: CacheShape, dtype: torch.dtype) -> int:
    """Change the attention layers of an optimized CPU model; returns how many.

    Layers stay where they are, as weights are updated and adapters hooked in by their names; only their
    forward changes.
    """
    changed = 0
    for layer in model.modules():
        if isinstance(getattr(layer, "q_proj", None), FusedPart) and hasattr(layer, "o_proj"):
            fast = _try(layer, shape, dtype)
            if fast:
                layer.forward = fast
                changed += 1
    return changed


def _try(layer: Any, shape: CacheShape, dtype: torch.dtype) -> _Forward | None:
    """The faster forward of a layer, if it computes what the layer computes."""
    fused, size = layer.q_proj.fused, shape.head_dim
    heads = fused.sizes[0] // size
    if fused.sizes != [heads * size, shape.kv_heads * size, shape.kv_heads * size]:
        return None
    angle_TD = torch.linspace(0, 6, _ROWS * size // 2).view(_ROWS, -1).repeat(1, 2)
    cosine, sine = (each[None].to(dtype) for each in (angle_TD.cos(), angle_TD.sin()))
    attended_THD = torch.linspace(-2, 2, _ROWS * heads * size).view(_ROWS, heads, size).to(dtype)
    fast = None
    for magnitude in _MAGNITUDES:
        hidden = torch.linspace(-1, 1, _ROWS * fused.linear.in_features).sin().view(1, _ROWS, -1) * magnitude
        recorder = _Recorder(attended_THD)
        try:
            expected, _ = layer(
                hidden_states=hidden.to(dtype),
                position_embeddings=(cosine, sine),
                attention_mask=None,
                past_key_values=None,
                batch=recorder,
            )
            fast = _Forward(layer, shape, recorder.scale, recorder.window)
            query_THD, key_TKD, value_TKD = fast.project(hidden.to(dtype))
            found = (_rotated(query_THD, cosine, sine), _rotated(key_TKD, cosine, sine), value_TKD)
            pairs = [*zip(recorder.seen or (), found, strict=True), (expected, fast.finish(attended_THD))]
        except Exception:  # noqa: BLE001 - of another kind, which shows in many ways; it keeps its own code
            return None
        if not all(_close(*pair, _TOLERANCE[dtype]) for pair in pairs):
            return None
    return fast


def _rotated(x_THD: torch.Tensor, cosine_1TD: torch.Tensor, sine_1TD: torch.Tensor) -> torch.Tensor:
    """What the kernel makes of queries and keys, float32."""
    low, high = x_THD.float().chunk(2, -1)
    turned = torch.cat((-high, low), -1)
    return x_THD.float() * cosine_1TD[0, :, None].float() + turned * sine_1TD[0, :, None].float()


def _close(expected: torch.Tensor, found: torch.Tensor, tolerance: float) -> bool:
    largest = expected.float().abs().max().item()
    return torch.allclose(found.float(), expected.float(), rtol=0, atol=tolerance * largest)
