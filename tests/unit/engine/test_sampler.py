"""The sampler: right distributions, right logprobs, randomness that depends on its counters alone."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from asynckit.engine.config import SamplingParams
from asynckit.engine.sampler import Draw, sample

VOCABULARY = 600  # more than two chunks of the two-level search, the last one padded


def draws(params: SamplingParams, count: int) -> list[Draw]:
    return [Draw(params, 0, position) for position in range(count)]


def test_greedy_takes_the_likeliest_and_reports_temperature_one() -> None:
    """Greedy is argmax, with the logprob of the plain softmax."""
    logits = torch.randn(5, VOCABULARY, generator=torch.Generator().manual_seed(0))
    tokens, logprobs = sample(logits, draws(SamplingParams(temperature=0.0), 5))
    assert tokens == logits.argmax(-1).tolist()
    assert logprobs == pytest.approx(logits.log_softmax(-1).amax(-1).tolist(), abs=1e-6)


@pytest.mark.parametrize("temperature", [0.3, 1.0, 1.7])
def test_logprobs_are_taken_before_the_cuts(temperature: float) -> None:
    """What a learner recomputes: softmax(logits / temperature), whatever top-k, top-p and min-p do."""
    logits = torch.randn(8, VOCABULARY, generator=torch.Generator().manual_seed(1))
    params = SamplingParams(temperature=temperature, top_k=7, top_p=0.8, min_p=0.01, seed=3)
    tokens, logprobs = sample(logits, draws(params, 8))
    expected = (logits / temperature).log_softmax(-1)[torch.arange(8), torch.tensor(tokens)]
    assert logprobs == pytest.approx(expected.tolist(), abs=1e-5)


def test_samples_follow_the_distribution() -> None:
    """Many draws from one row come out in the row's proportions (chi-squared over the likeliest tokens)."""
    logits = torch.randn(VOCABULARY, generator=torch.Generator().manual_seed(2)) * 2
    count = 20_000
    tokens, _ = sample(logits.expand(count, -1), draws(SamplingParams(seed=11), count))
    probability = logits.softmax(-1).double()
    top = probability.topk(20).indices
    observed = torch.bincount(torch.tensor(tokens), minlength=VOCABULARY)[top].double()
    expected = probability[top] * count
    chi_squared = ((observed - expected) ** 2 / expected).sum().item()
    assert chi_squared < 45.3  # 99.9 % quantile for 20 degrees of freedom


@pytest.mark.parametrize(
    ("params", "allowed"),
    [
        (SamplingParams(top_k=2), {0, 1}),
        (SamplingParams(top_p=0.5), {0}),
        (SamplingParams(top_p=0.75), {0, 1}),
        (SamplingParams(min_p=0.3), {0, 1}),
        (SamplingParams(top_k=3, top_p=0.95), {0, 1, 2}),
        (SamplingParams(), {0, 1, 2, 3}),
    ],
)
def test_cuts_keep_exactly_their_tokens(params: SamplingParams, allowed: set[int]) -> None:
    """Each cut keeps what its definition says; probabilities are 0.5, 0.25, 0.125, 0.125."""
    logits = torch.log(torch.tensor([0.5, 0.25, 0.125, 0.125])).expand(2000, -1)
    tokens, _ = sample(logits, draws(params, 2000))
    assert set(tokens) == allowed


def test_a_row_does_not_depend_on_its_neighbours() -> None:
    """A sample is the same alone and in a batch of others with other parameters."""
    logits = torch.randn(6, VOCABULARY, generator=torch.Generator().manual_seed(4))
    mixed = [
        Draw(SamplingParams(temperature=t, top_k=k, seed=s), s, 10 + s)
        for s, (t, k) in enumerate([(1.0, 0), (0.0, 0), (0.7, 5), (2.0, 50), (1.0, 1), (0.2, 0)])
    ]
    together, _ = sample(logits, mixed)
    alone = [sample(logits[i : i + 1], [mixed[i]])[0][0] for i in range(6)]
    assert together == alone


def test_a_broken_row_yields_nan_and_leaves_the_others_alone() -> None:
    """NaN logits are reported, not sampled from in silence."""
    logits = torch.randn(3, VOCABULARY, generator=torch.Generator().manual_seed(5))
    healthy, _ = sample(logits, draws(SamplingParams(), 3))
    logits[1, 7] = float("nan")
    tokens, logprobs = sample(logits, draws(SamplingParams(), 3))
    assert math.isnan(logprobs[1])
    assert (tokens[0], tokens[2]) == (healthy[0], healthy[2])


@settings(max_examples=300)
@given(st.integers(1, 700), st.integers(0, 2**31), st.floats(0.01, 50))
def test_tokens_are_always_inside_the_vocabulary_and_possible(size: int, seed: int, spread: float) -> None:
    """No rounding leads to a token outside the vocabulary or to one of weight zero."""
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(4, size, generator=generator) * spread
    tokens, logprobs = sample(logits, draws(SamplingParams(seed=seed), 4))
    assert all(0 <= token < size for token in tokens)
    assert all(logprob > -104 for logprob in logprobs)  # exp(-104) is below float32's smallest number
