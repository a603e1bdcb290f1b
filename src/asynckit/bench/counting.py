"""Floating-point operations and bytes, counted from sizes by the formulas in each docstring.

A multiply-add is two operations. Bytes are those that must cross the memory bus when no cache helps between
two calls: every input read once, every output written once. What a kernel moves beyond that is its own
doing, and shows as a lower GB/s.
"""

from dataclasses import dataclass

from asynckit.bench.shapes import ModelShape, Product, products


@dataclass(frozen=True)
class Counts:
    """Of one call; None where a number would say nothing."""

    flops: float | None = None
    bytes: float | None = None
    tokens: float | None = None


@dataclass(frozen=True)
class Part:
    """Part of a pass through a model: what it computes and what it moves.

    Attributes:
        name: of a product, or ``attention``.
        flops: of all layers.
        bytes: likewise.
    """

    name: str
    flops: float
    bytes: float


def gemm(rows: int, product: Product, itemsize: int) -> Counts:
    """``[M, K] @ [K, N]``: 2·M·N·K operations; M·K + K·N + M·N numbers."""
    inputs, outputs = product.inputs, product.outputs
    numbers = rows * inputs + product.weights + rows * outputs
    return Counts(flops=2.0 * rows * product.weights, bytes=float(itemsize * numbers))


def read(size: int) -> Counts:
    """An array of ``size`` bytes, read: its bytes."""
    return Counts(bytes=float(size))


def copy(size: int) -> Counts:
    """An array of ``size`` bytes, read and written: 2 times its bytes."""
    return Counts(bytes=2.0 * size)


def triad(size: int, itemsize: int) -> Counts:
    """``a = b + s * c`` (McCalpin's STREAM): 3 arrays of ``size`` bytes; 2 operations per number."""
    return Counts(flops=2.0 * size / itemsize, bytes=3.0 * size)


def prefill_attention(shape: ModelShape, tokens: int, itemsize: int) -> Counts:
    """Causal attention of one sequence over itself, one layer.

    Row t sees t tokens, so 4·H·D·T·(T + 1)/2 operations (scores and weighted sum; the softmax is not
    counted). Queries and outputs have H heads, keys and values theirs: T·D·(2·H + 2·K) numbers.
    """
    flops = 2.0 * shape.heads * shape.head_dim * tokens * (tokens + 1)
    numbers = tokens * shape.head_dim * 2 * (shape.heads + shape.kv_heads)
    return Counts(flops=flops, bytes=float(itemsize * numbers))


def decode_attention(shape: ModelShape, batch: int, context: int, itemsize: int) -> Counts:
    """One new token of each of B sequences over L tokens, one layer: 4·B·H·D·L operations.

    Keys and values of the context, queries and outputs: B·D·(2·H + 2·K·L) numbers.
    """
    flops = 4.0 * batch * shape.heads * shape.head_dim * context
    numbers = batch * shape.head_dim * 2 * (shape.heads + shape.kv_heads * context)
    return Counts(flops=flops, bytes=float(itemsize * numbers))


def sampling(rows: int, vocabulary: int, itemsize: int) -> Counts:
    """One token per row: every logit read once, B·V numbers."""
    return Counts(bytes=float(rows * vocabulary * itemsize), tokens=rows)


def weight_update(total: int) -> Counts:
    """So many bytes of weights, read once and written once."""
    return Counts(bytes=2.0 * total)


def all_reduce(size: int, devices: int) -> Counts:
    """``size`` bytes on each of n devices: 2·(n - 1)/n of them pass each link (NCCL's bus bandwidth)."""
    return Counts(bytes=2.0 * (devices - 1) / devices * size)


def decode_parts(shape: ModelShape, batch: int, context: int, itemsize: int) -> tuple[Part, ...]:
    """A decode step of the whole model: each of B sequences adds one token to L."""
    attention = decode_attention(shape, batch, context, itemsize)
    return (*_products(shape, batch, batch, itemsize), _layers("attention", attention, shape.layers))


def prefill_parts(shape: ModelShape, tokens: int, itemsize: int) -> tuple[Part, ...]:
    """The prefill of one prompt; only its last row gets logits."""
    attention = prefill_attention(shape, tokens, itemsize)
    return (*_products(shape, tokens, 1, itemsize), _layers("attention", attention, shape.layers))


def total(parts: tuple[Part, ...], tokens: float) -> Counts:
    """All parts together."""
    return Counts(sum(part.flops for part in parts), sum(part.bytes for part in parts), tokens)


def _products(shape: ModelShape, rows: int, logit_rows: int, itemsize: int) -> tuple[Part, ...]:
    return tuple(
        _layers(each.name, gemm(logit_rows if each.name == "lm_head" else rows, each, itemsize), each.count)
        for each in products(shape)
    )


def _layers(name: str, one: Counts, count: int) -> Part:
    assert one.flops is not None
    assert one.bytes is not None
    return Part(name, one.flops * count, one.bytes * count)
