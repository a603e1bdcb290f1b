"""Operations and bytes, counted by hand and by what tensors hold."""

import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.utils.flop_counter import FlopCounterMode

from asynckit.bench import counting
from asynckit.bench.counting import Counts
from asynckit.bench.shapes import ModelShape, Product

# Two layers, so small that every number below can be checked on paper.
SHAPE = ModelShape(
    name="paper",
    hidden=4,
    intermediate=6,
    layers=2,
    heads=2,
    kv_heads=1,
    head_dim=2,
    vocabulary=10,
    max_positions=64,
)


def test_gemm_by_hand() -> None:
    """[3, 4] times [4, 5] in float32: 60 multiply-adds, and 12 + 20 + 15 numbers of 4 bytes."""
    assert counting.gemm(3, Product("given", 4, 5), 4) == Counts(flops=120.0, bytes=188.0)


@given(st.integers(1, 9), st.integers(1, 9), st.integers(1, 9))
def test_gemm_as_torch_counts_it(rows: int, inputs: int, outputs: int) -> None:
    """Torch's own counter sees the same operations."""
    with FlopCounterMode(display=False) as counter:
        torch.nn.functional.linear(torch.ones(rows, inputs), torch.ones(outputs, inputs))
    assert counting.gemm(rows, Product("given", inputs, outputs), 4).flops == counter.get_total_flops()


def test_streams_by_hand() -> None:
    """A read moves its array once, a copy twice, a triad three arrays with two operations per number."""
    assert counting.read(64) == Counts(bytes=64.0)
    assert counting.copy(64) == Counts(bytes=128.0)
    assert counting.triad(64, 4) == Counts(flops=32.0, bytes=192.0)


def test_attention_by_hand() -> None:
    """Causal rows see 1 + 2 + 3 tokens; a decoding one sees all of its context."""
    # 2 heads x 6 pairs x (2 + 2 multiply-adds), and 3 tokens x 2 numbers x (2 queries, 2 outputs, key, value)
    assert counting.prefill_attention(SHAPE, 3, 2) == Counts(flops=96.0, bytes=72.0)
    # 5 sequences x 2 heads x 7 tokens x 4 multiply-adds; 5 x 2 numbers x (4 + 2 x 7)
    assert counting.decode_attention(SHAPE, 5, 7, 2) == Counts(flops=560.0, bytes=360.0)


def test_sampling_and_transfers_by_hand() -> None:
    """Every logit is read once; of an all-reduce 2 (n - 1) / n pass each link."""
    assert counting.sampling(3, 10, 2) == Counts(bytes=60.0, tokens=3)
    assert counting.weight_update(100) == Counts(bytes=200.0)
    assert counting.all_reduce(100, 4) == Counts(bytes=150.0)


def test_decode_step_by_hand() -> None:
    """Products of both layers, attention of both, one row of logits per sequence."""
    parts = {part.name: part for part in counting.decode_parts(SHAPE, batch=5, context=7, itemsize=2)}
    weights = {"qkv": 4 * 8, "o": 4 * 4, "gate_up": 4 * 12, "down": 6 * 4}
    assert {name: parts[name].flops for name in weights} == {
        name: 2 * 2 * 5 * count for name, count in weights.items()
    }
    assert parts["lm_head"].flops == 2 * 5 * 40
    assert parts["lm_head"].bytes == 2 * (5 * 4 + 40 + 5 * 10)
    assert parts["attention"].flops == 2 * 560
    assert parts["attention"].bytes == 2 * 360


def test_prefill_makes_one_row_of_logits() -> None:
    """However long the prompt, only its last row goes through the output layer."""
    parts = {part.name: part for part in counting.prefill_parts(SHAPE, tokens=9, itemsize=2)}
    assert parts["lm_head"].flops == 2 * 40
    assert parts["down"].flops == 2 * 2 * 9 * 24


@given(st.integers(1, 50), st.integers(1, 50))
def test_totals_are_sums(batch: int, context: int) -> None:
    """Nothing is lost between parts and their total."""
    parts = counting.decode_parts(SHAPE, batch, context, 2)
    whole = counting.total(parts, batch)
    assert whole.flops == sum(part.flops for part in parts)
    assert whole.bytes == sum(part.bytes for part in parts)
    assert whole.tokens == batch
