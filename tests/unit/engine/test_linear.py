"""Fused and packed layers compute what the layers they replace compute."""

from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM

from asynckit.engine.linear import FusedLinear, FusedPart, PackedLinear, optimize
from asynckit.engine.native import load_kernels
from asynckit.engine.weights import WeightSlots


@pytest.mark.parametrize("rows", [1, 7, 64, 200])
@pytest.mark.parametrize("biased", [False, True])
def test_packed_equals_linear(rows: int, biased: bool) -> None:
    """For single rows and full batches, with and without a bias."""
    generator = torch.Generator().manual_seed(0)
    weight, x = (torch.randn(size, 96, generator=generator).bfloat16() for size in (48, rows))
    bias = torch.randn(48, generator=generator).bfloat16() if biased else None
    expected = torch.nn.functional.linear(x, weight, bias).float()
    with torch.inference_mode():
        assert torch.allclose(PackedLinear(weight, bias)(x).float(), expected, rtol=2**-6, atol=0.1)


def test_parts_asked_out_of_turn_still_answer_right() -> None:
    """The kept result belongs to one input; another input gets its own."""
    linear = torch.nn.Linear(8, 12, bias=False)
    fused = FusedLinear(linear, [4, 8])
    first, second = FusedPart(fused, 0), FusedPart(fused, 1)
    a, b = torch.randn(3, 8), torch.randn(3, 8)
    first(a)
    assert torch.equal(second(b), linear(b)[:, 4:])
    assert torch.equal(first(b), linear(b)[:, :4])
    assert torch.equal(second(a), linear(a)[:, 4:])


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_an_optimized_model_gives_the_same_logits(tiny_llama: Path, dtype: torch.dtype) -> None:
    """Everything replaced at once, against the model's own code."""
    ids = torch.arange(4, 60)[None]
    plain = AutoModelForCausalLM.from_pretrained(tiny_llama, dtype=dtype)
    fast = AutoModelForCausalLM.from_pretrained(tiny_llama, dtype=dtype)
    optimize(fast, load_kernels(dtype, None), WeightSlots(fast))
    with torch.inference_mode():
        expected, found = plain(ids).logits.float(), fast(ids).logits.float()
    tolerance = 1e-4 if dtype is torch.float32 else 0.05
    assert (expected.log_softmax(-1) - found.log_softmax(-1)).abs().max() < tolerance * expected.abs().max()
    assert any(isinstance(module, FusedPart) for module in fast.modules())
