"""What the cases time computes what it says."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch.testing import assert_close

from asynckit.bench.cases.attention import attention_cases
from asynckit.bench.cases.bandwidth import bandwidth_cases, readable_size
from asynckit.bench.cases.case import Case
from asynckit.bench.cases.choosing import logprob_cases, sampling_cases
from asynckit.bench.cases.gemm import given_gemm_cases, model_gemm_cases, square_gemm_cases
from asynckit.bench.cases.launches import LAUNCHES, launch_cases
from asynckit.bench.prediction import SIZES
from asynckit.bench.shapes import ModelShape

SHAPE = ModelShape(
    name="small",
    hidden=32,
    intermediate=48,
    layers=2,
    heads=4,
    kv_heads=2,
    head_dim=8,
    vocabulary=100,
    max_positions=64,
)


def function(case: Case) -> Callable[[], Any]:
    """What a case times on a CPU."""
    prepared = case.make("cpu")
    assert prepared.setup is None
    return prepared.function


def test_packed_products_are_the_plain_ones() -> None:
    """The engine's packed layers and torch's plain ones are given the same inputs, and agree."""
    packed = model_gemm_cases(SHAPE, "float32", "cpu", seed=3)
    assert all(case.parameters["packed"] for case in packed)
    for case in packed[:4]:
        sizes = case.parameters
        text = f"{sizes['M']}x{sizes['N']}x{sizes['K']}"
        plain = given_gemm_cases([text], ["float32"], "cpu", seed=3)[0]
        assert not plain.parameters["packed"]
        output = function(case)()
        assert output.shape == (sizes["M"], sizes["N"])
        assert_close(output, function(plain)())


def test_seeds_decide_inputs() -> None:
    """The same seed times the same numbers."""
    outputs = [function(given_gemm_cases(["2x3x4"], ["float32"], "cpu", seed)[0])() for seed in (1, 1, 2)]
    assert torch.equal(outputs[0], outputs[1])
    assert not torch.equal(outputs[0], outputs[2])


def test_huge_products_wait_to_be_asked_for() -> None:
    """On a CPU a product of seconds is not in the default suite; on a GPU all are."""
    large = ModelShape(**{**vars(SHAPE), "hidden": 8192, "vocabulary": 128_000})
    assert {case.default for case in model_gemm_cases(large, "bfloat16", "cpu", 0)} == {True, False}
    assert all(case.default for case in model_gemm_cases(large, "bfloat16", "cuda", 0))
    assert all(case.default for case in square_gemm_cases(["bfloat16"], "cuda", 0))


def test_streams_compute() -> None:
    """A sum, a copy of its own, and b + 3 c."""
    size = SIZES["cpu"][0]
    first = {name: function(bandwidth_cases(name, "cpu")[0])() for name in ("read", "copy", "triad")}
    assert first["read"] == size / 4
    assert torch.equal(first["copy"], torch.ones(size // 4))
    assert torch.equal(first["triad"], torch.full((size // 4,), 4.0))
    assert all(case.cache == "hot" for case in bandwidth_cases("copy", "cuda"))


def test_sizes_are_readable() -> None:
    """Powers of two in the largest unit that is whole."""
    assert [readable_size(2**power) for power in (0, 9, 10, 16, 28, 30)] == [
        *("1B", "512B", "1KiB", "64KiB", "256MiB", "1GiB")
    ]


def test_a_launch_is_a_thousand() -> None:
    """So that milliseconds of a call read as microseconds of a launch."""
    assert function(launch_cases()[0])().item() == LAUNCHES == 1000


def test_attention_is_causal_and_grouped() -> None:
    """Prefill and decode agree with the formula written out."""
    for case in attention_cases(SHAPE, "float32", "cpu", seed=0):
        timed: Any = function(case)
        query, key, value = timed.args
        assert query.shape == (case.parameters["batch"], 4, case.parameters["queries"], 8)
        key, value = key.repeat_interleave(2, 1), value.repeat_interleave(2, 1)
        scores = query @ key.transpose(2, 3) / 8**0.5
        if case.name == "sdpa-prefill":
            scores = scores.masked_fill(torch.ones(scores.shape[2:]).triu(1).bool(), -torch.inf)
        assert_close(timed(), scores.softmax(-1) @ value)


def test_attention_stays_within_the_model() -> None:
    """Lengths that a model can't read are cut, and equal ones are one case."""
    cases = attention_cases(SHAPE, "float32", "cuda", seed=0)
    assert [case.variant for case in cases] == ["T=64 float32", "B=8 L=64 float32", "B=64 L=64 float32"]


def test_three_ways_to_the_same_logprobs() -> None:
    """The naive way, the lean one and the engine's find the same numbers."""
    naive, lean, (engine, _) = (function(case)() for case in logprob_cases(100, "float32", "cpu", seed=0))
    assert_close(naive, lean)
    assert_close(naive[:, 0].double(), torch.tensor(engine, dtype=torch.float64), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_sampling_gives_a_token_per_row(dtype: str) -> None:
    """The engine's sampler at its batch, greedy where it says so."""
    for case in sampling_cases(100, dtype, seed=0):
        timed: Any = function(case)
        tokens = timed().tokens
        assert len(tokens) == case.parameters["batch"] == case.counts.tokens
        if case.variant.startswith("greedy"):
            assert tokens == timed.args[0].argmax(-1).tolist()
