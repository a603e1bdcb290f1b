"""Attention layers are made faster where that computes the same, and left alone elsewhere."""

from typing import Any

import pytest
import torch
import transformers
from tiny_models import QWEN2_SLIDING, SMALL

from asynckit.engine.attention import NAME, Span
from asynckit.engine.kv_cache import KVCache
from asynckit.engine.linear import optimize
from asynckit.engine.model import cache_shape
from asynckit.engine.native import load_kernels
from asynckit.engine.native_attention import NativeBatch
from asynckit.engine.native_layers import speed_up_attention
from asynckit.engine.torch_attention import TorchBatch
from asynckit.engine.weights import WeightSlots

SHAPE = {**SMALL, "vocab_size": 99, "num_hidden_layers": 3, "initializer_range": 0.02}
FAMILIES: dict[str, tuple[int, dict[str, Any]]] = {
    "LlamaConfig": (3, {"attention_bias": True}),
    "Qwen2Config": (3, QWEN2_SLIDING),
    "Qwen3Config": (3, {}),
    "MistralConfig": (3, {"sliding_window": 16}),
    "Gemma3TextConfig": (3, {"sliding_window": 16, "query_pre_attn_scalar": 50}),
    # It clips what its projections make, which shows in large numbers only.
    "OlmoConfig": (0, {"clip_qkv": 3.0}),
    # Its last layer knows no positions.
    "SmolLM3Config": (2, {"no_rope_layers": [1, 1, 0]}),
    # Their projections or their rotations are of another kind.
    "Phi3Config": (0, {}),
    "CohereConfig": (0, {}),
}


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=["float32", "bfloat16"])
@pytest.mark.parametrize("family", FAMILIES)
def test_layers_that_compute_the_same_are_changed(family: str, dtype: torch.dtype) -> None:
    """Scale, window, norms and biases are the model's own; others keep their own code and still run."""
    kernels = load_kernels(dtype, None)
    if kernels is None:
        pytest.skip("no C compiler on this machine")
    count, settings = FAMILIES[family]
    torch.manual_seed(0)
    config = getattr(transformers, family)(**{**SHAPE, **settings})
    model = transformers.AutoModelForCausalLM.from_config(
        config, attn_implementation=NAME, dtype=dtype
    ).eval()
    optimize(model, kernels, WeightSlots(model))
    shape, spans = cache_shape(config), [Span(0, 40, 0, [3, 1, 2])]
    inputs = {
        "input_ids": torch.arange(40)[None],
        "position_ids": torch.arange(40)[None],
        "use_cache": False,
    }

    def cache() -> KVCache:
        return KVCache(shape, 4, 16, dtype, torch.device("cpu"))

    with torch.inference_mode():
        expected = model(**inputs, batch=TorchBatch.of(cache(), 16, spans)).logits
        assert speed_up_attention(model, shape, dtype) == count
        found = model(**inputs, batch=NativeBatch(cache(), 16, spans, kernels, 2)).logits
        again = model(**inputs, batch=TorchBatch.of(cache(), 16, spans)).logits
    error = (found - expected).float().norm() / expected.float().norm()
    assert error < (0.03 if dtype is torch.bfloat16 else 1e-5)
    assert torch.equal(again, expected), "another kind of batch still meets the layer's own code"
