"""``scaled_dot_product_attention`` at a model's sizes: one layer of a prefill and of a decode step."""

from functools import partial
from typing import Any

from asynckit.bench.cases.case import Case, Prepared
from asynckit.bench.counting import decode_attention, prefill_attention
from asynckit.bench.prediction import ITEMSIZE
from asynckit.bench.shapes import ModelShape

_PREFILL = {"cpu": (512, 2048), "cuda": (2048, 8192)}
_DECODE = (8, 64)
_CONTEXT = {"cpu": 512, "cuda": 2048}


def attention_cases(shape: ModelShape, dtype: str, device: str, seed: int) -> list[Case]:
    """Prompts and contexts of usual lengths, as far as the model reads."""
    lengths = sorted({min(length, shape.max_positions) for length in _PREFILL[device]})
    context = min(_CONTEXT[device], shape.max_positions)
    return [
        *(_prefill(shape, length, dtype, seed) for length in lengths),
        *(_decode(shape, batch, context, dtype, seed) for batch in _DECODE),
    ]


def _prefill(shape: ModelShape, tokens: int, dtype: str, seed: int) -> Case:
    return Case(
        name="sdpa-prefill",
        variant=f"T={tokens} {dtype}",
        group="attention",
        make=partial(_make, shape, 1, tokens, tokens, dtype, seed),
        counts=prefill_attention(shape, tokens, ITEMSIZE[dtype]),
        parameters={**_heads(shape), "batch": 1, "queries": tokens, "context": tokens, "dtype": dtype},
    )


def _decode(shape: ModelShape, batch: int, context: int, dtype: str, seed: int) -> Case:
    return Case(
        name="sdpa-decode",
        variant=f"B={batch} L={context} {dtype}",
        group="attention",
        make=partial(_make, shape, batch, 1, context, dtype, seed),
        counts=decode_attention(shape, batch, context, ITEMSIZE[dtype]),
        parameters={**_heads(shape), "batch": batch, "queries": 1, "context": context, "dtype": dtype},
    )


def _heads(shape: ModelShape) -> dict[str, Any]:
    return {"heads": shape.heads, "kv_heads": shape.kv_heads, "head_dim": shape.head_dim}


def _make(
    shape: ModelShape, batch: int, queries: int, context: int, dtype: str, seed: int, device: str
) -> Prepared:
    import torch

    generator = torch.Generator(device).manual_seed(seed)
    sizes = ((shape.heads, queries), (shape.kv_heads, context), (shape.kv_heads, context))
    query, key, value = (
        torch.randn(
            *(batch, heads, tokens, shape.head_dim),
            generator=generator,
            device=device,
            dtype=getattr(torch, dtype),
        )
        for heads, tokens in sizes
    )
    attend = torch.nn.functional.scaled_dot_product_attention
    shared = shape.heads != shape.kv_heads
    return Prepared(partial(attend, query, key, value, is_causal=queries > 1, enable_gqa=shared))
