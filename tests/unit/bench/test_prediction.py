"""Predictions: the roofline of every part, and never more than the ceilings allow."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from asynckit.bench.counting import Part, decode_parts
from asynckit.bench.prediction import find_ceilings, predict, seconds
from asynckit.bench.results import Ceilings, Row, Timing
from asynckit.bench.shapes import ModelShape

LLAMA_8B = ModelShape(
    name="llama-8b",
    hidden=4096,
    intermediate=14336,
    layers=32,
    heads=32,
    kv_heads=8,
    head_dim=128,
    vocabulary=128256,
    max_positions=8192,
)
H100 = Ceilings(flops_per_second={"bfloat16": 700e12}, bytes_per_second=3e12)


def timing(median: float) -> Timing:
    """Of that median; the rest is as good as it gets."""
    return Timing(
        median=median,
        low=median,
        high=median,
        p5=median,
        p95=median,
        minimum=median,
        relative_error=0.0,
        repetitions=20,
        calls=1,
        warmup=1,
        outliers=0.0,
        drift=0.0,
        converged=True,
        clock="host",
        cache="cold",
        samples=(median,),
    )


def row(case: str, median: float | None, **fields: object) -> Row:
    """A row of a report."""
    measured = None if median is None else timing(median)
    group = "bandwidth" if case in ("read", "copy", "triad") else case
    return Row(case=case, variant="", group=group, device="cuda", timing=measured, **fields)  # type: ignore[arg-type]


def test_a_part_takes_the_longer_of_arithmetic_and_bytes() -> None:
    """The roofline itself."""
    assert seconds(Part("compute", flops=10.0, bytes=1.0), peak=5.0, bandwidth=1.0) == 2.0
    assert seconds(Part("memory", flops=10.0, bytes=3.0), peak=5.0, bandwidth=1.0) == 3.0


def test_one_sequence_reads_all_weights_for_a_token() -> None:
    """Batch 1 of an 8B model in bfloat16 at 3 TB/s: 15 GB of weights, so about 200 tokens per second."""
    prediction = predict(LLAMA_8B, "bfloat16", H100)[0]
    assert prediction.what == "decode batch=1 context=512"
    assert prediction.bound_by == "memory"
    assert 190 < prediction.predicted < 205
    assert prediction.measured is None


def test_prefill_is_bound_by_compute() -> None:
    """A long prompt uses every weight for many tokens: about 2 x 7 billion operations each."""
    prediction = predict(LLAMA_8B, "bfloat16", H100, [row("prefill", 0.1, tokens=2048.0, parameters=PROMPT)])[
        0
    ]
    assert prediction.what == "prefill tokens=2048"
    assert prediction.bound_by == "compute"
    assert prediction.predicted == pytest.approx(700e12 / (2 * 7e9), rel=0.1)
    assert prediction.measured == pytest.approx(20480)


PROMPT = {"batch": 1, "context": 2048}


def test_what_was_measured_is_predicted() -> None:
    """Every decode and prefill row has its prediction, also one that could not be measured."""
    rows = [
        row("decode", 0.01, tokens=8.0, parameters={"batch": 8, "context": 100}),
        row("prefill", None, tokens=2048.0, parameters=PROMPT),
        row("gemm", 0.01, parameters={"batch": 8, "context": 100}),
    ]
    found = predict(LLAMA_8B, "bfloat16", H100, rows)
    assert [(each.what, each.measured) for each in found] == [
        ("decode batch=8 context=100", 800.0),
        ("prefill tokens=2048", None),
    ]


@given(batch=st.integers(1, 256), context=st.integers(1, 4096))
def test_no_prediction_exceeds_a_ceiling(batch: int, context: int) -> None:
    """At the predicted speed neither arithmetic nor memory would have to be faster than was measured."""
    rows = [row("decode", None, parameters={"batch": batch, "context": context})]
    prediction = predict(LLAMA_8B, "bfloat16", H100, rows)[0]
    step = batch / prediction.predicted
    parts = decode_parts(LLAMA_8B, batch, context, 2)
    assert sum(part.flops for part in parts) / step <= 700e12 * (1 + 1e-9)
    assert sum(part.bytes for part in parts) / step <= 3e12 * (1 + 1e-9)


@given(batch=st.integers(1, 255))
def test_larger_batches_are_never_slower_in_total(batch: int) -> None:
    """More sequences share the reading of the weights."""
    rows = [row("decode", None, parameters={"batch": each, "context": 512}) for each in (batch, batch + 1)]
    smaller, larger = predict(LLAMA_8B, "bfloat16", H100, rows)
    assert larger.predicted > smaller.predicted * (1 - 1e-9)


def test_nothing_is_guessed() -> None:
    """Without a ceiling, or for a mixture of experts, there is no prediction."""
    assert predict(LLAMA_8B, "float16", H100) == ()
    assert (
        predict(LLAMA_8B, "bfloat16", Ceilings(flops_per_second={"bfloat16": 1.0}, bytes_per_second=None))
        == ()
    )
    assert predict(replace(LLAMA_8B, experts=8), "bfloat16", H100) == ()


def test_ceilings_are_the_best_of_each_kind() -> None:
    """The fastest product by dtype, and of the largest arrays the fastest; caches and gaps don't count."""
    rows = [
        row("gemm", 1.0, flops=10.0, parameters={"dtype": "bfloat16"}),
        row("gemm", 1.0, flops=30.0, parameters={"dtype": "bfloat16"}),
        row("gemm", 2.0, flops=10.0, parameters={"dtype": "float32"}),
        row("gemm", None, flops=99.0, parameters={"dtype": "float32"}),
        row("copy", 1.0, bytes=1000.0, parameters={"bytes_each": 2**16}),
        row("copy", 1.0, bytes=100.0, parameters={"bytes_each": 2**30}),
        row("read", 1.0, bytes=120.0, parameters={"bytes_each": 2**30}),
        row("decode", 1.0, flops=1e9, bytes=1e9, parameters={}),
    ]
    found = find_ceilings(rows)
    assert found == Ceilings(flops_per_second={"bfloat16": 30.0, "float32": 5.0}, bytes_per_second=120.0)
    assert find_ceilings([]) == Ceilings(flops_per_second={}, bytes_per_second=None)


def test_what_a_cache_holds_is_no_ceiling() -> None:
    """Where only small arrays were measured, the memory's bandwidth is not known."""
    rows = [row("copy", 1.0, bytes=1000.0, parameters={"bytes_each": 2**16})]
    assert find_ceilings(rows).bytes_per_second is None
