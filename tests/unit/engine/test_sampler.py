"""The sampler: right distributions, right logprobs, randomness that depends on its counters alone."""

import math
from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from asynckit.engine.config import SamplingParams
from asynckit.engine.sample_state import SampleState
from asynckit.engine.sampler import Draw, sample, score
from asynckit.engine.truncation import draw_truncated

VOCABULARY = 600  # more than two chunks of the two-level search, the last one padded
LARGE = 49_152  # large enough that torch would split a single row over threads


def draws(params: SamplingParams, count: int) -> list[Draw]:
    return [Draw(params, 0, position) for position in range(count)]


def noise(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def test_greedy_takes_the_likeliest_and_reports_temperature_one() -> None:
    """Greedy is argmax, with the logprob of the plain softmax."""
    logits = noise(5, VOCABULARY)
    sampled = sample(logits, draws(SamplingParams(temperature=0.0), 5))
    assert sampled.tokens == logits.argmax(-1).tolist()
    assert sampled.logprobs == pytest.approx(logits.log_softmax(-1).amax(-1).tolist(), abs=1e-6)


@pytest.mark.parametrize("temperature", [0.3, 1.0, 1.7])
def test_logprobs_are_those_of_the_model_whatever_changes_the_choice(temperature: float) -> None:
    """What a learner recomputes: softmax(logits / temperature), whatever cuts, penalties and bias do."""
    logits = noise(8, VOCABULARY, seed=1)
    params = SamplingParams(
        temperature=temperature,
        top_k=7,
        top_p=0.8,
        min_p=0.01,
        seed=3,
        repetition_penalty=1.3,
        logit_bias={"5": 4.0},
    )
    state = SampleState(params, range(0, 600, 7), (), None)
    sampled = sample(logits, [replace(draw, state=state) for draw in draws(params, 8)])
    expected = (logits / temperature).log_softmax(-1)[torch.arange(8), torch.tensor(sampled.tokens)]
    assert sampled.logprobs == pytest.approx(expected.tolist(), abs=1e-5)


def test_samples_follow_the_distribution() -> None:
    """Many draws from one row come out in the row's proportions (chi-squared over the likeliest tokens)."""
    logits = noise(VOCABULARY, seed=2) * 2
    count = 20_000
    tokens = sample(logits.expand(count, -1), draws(SamplingParams(seed=11), count)).tokens
    assert chi_squared(tokens, logits.softmax(-1).double()) < 45.3


def test_cut_samples_follow_the_cut_distribution() -> None:
    """The same for what top-k, top-p and min-p leave, renormalized."""
    logits = noise(VOCABULARY, seed=2) * 2
    count = 20_000
    params = SamplingParams(seed=12, top_k=60, top_p=0.9)
    tokens = sample(logits.expand(count, -1), draws(params, count)).tokens
    kept = kept_by_definition(logits, params)
    probability = torch.zeros(VOCABULARY, dtype=torch.double)
    probability[kept] = logits.softmax(-1).double()[kept]
    assert set(tokens) <= set(kept)
    assert chi_squared(tokens, probability / probability.sum()) < 45.3


def chi_squared(tokens: list[int], probability: torch.Tensor) -> float:
    """Over the 20 likeliest tokens; its 99.9 % quantile is 45.3."""
    top = probability.topk(20).indices
    observed = torch.bincount(torch.tensor(tokens), minlength=VOCABULARY)[top].double()
    expected = probability[top] * len(tokens)
    return float(((observed - expected) ** 2 / expected).sum())


def kept_by_definition(logits: torch.Tensor, params: SamplingParams) -> list[int]:
    """Top-k, then top-p of what is left, then min-p, by a full stable sort."""
    order = logits.sort(descending=True, stable=True).indices[: params.top_k or None]
    weight = (logits[order] - logits[order[0]]).exp().double()
    before = weight.cumsum(0) - weight
    stays = (before < params.top_p * weight.sum()) | (params.top_p == 1)
    stays &= weight >= params.min_p
    stays[0] = True
    return order[stays].tolist()


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
    assert set(sample(logits, draws(params, 2000)).tokens) == allowed


@settings(max_examples=40, deadline=None)
@given(
    st.integers(0, 2**31),
    st.sampled_from([0.02, 0.5, 3.0]),
    st.sampled_from([0, 1, 5, 256, 257, 3000, 9000, 10**12]),
    st.sampled_from([1.0, 0.999, 0.9, 0.3]),
    st.sampled_from([0.0, 1e-4, 0.1]),
    st.booleans(),
)
def test_cuts_without_a_full_sort_keep_what_a_full_sort_keeps(
    seed: int, spread: float, top_k: int, top_p: float, min_p: float, coarse: bool
) -> None:
    """Flat and peaked rows, many equal logits: the ends of the range of draws are the first and last kept."""
    logits = noise(10_000, seed=seed) * spread
    logits = logits.bfloat16().float() if coarse else logits
    params = SamplingParams(top_k=top_k, top_p=top_p, min_p=min_p)
    kept = kept_by_definition(logits, params)
    ends = torch.tensor([0.0, 1 - 2**-53], dtype=torch.float64)
    total = (logits - logits.max()).exp().double().sum()
    tokens = draw_truncated(logits.expand(2, -1), total.expand(2), [params, params], ends)
    assert tokens.tolist() == [kept[0], kept[-1]]


MIXED = [
    SamplingParams(),
    SamplingParams(temperature=0.0),
    SamplingParams(temperature=0.7, top_k=5),
    SamplingParams(temperature=2.0, top_p=0.9),
    SamplingParams(top_p=0.999, min_p=1e-6),
    SamplingParams(temperature=0.2),
    SamplingParams(top_logprobs=20),
    SamplingParams(temperature=0.0, repetition_penalty=1.5),
    SamplingParams(presence_penalty=0.5, frequency_penalty=1.0, top_logprobs=3),
    SamplingParams(logit_bias={"7": 9.0, "30000": -50.0}, top_k=300),
    SamplingParams(allowed_token_ids=(3, 5, 40_000), temperature=3.0),
    SamplingParams(min_tokens=5),
]


def mixed_draws() -> list[Draw]:
    result = []
    for index, params in enumerate(MIXED):
        state = SampleState(params, range(index, 2000, 3), (0, 2), None) if params.adjusts else None
        for token in (7, 9, 7) if state else ():
            assert state
            state.push(token)
        result.append(Draw(replace(params, seed=index), index, 10 + index, state))
    return result


@pytest.mark.parametrize(
    "order", [list(range(12)), list(range(11, -1, -1)), [5, 0, 9, 10], [8, 7], [6, 3, 4]]
)
def test_a_row_does_not_depend_on_its_neighbours(order: list[int]) -> None:
    """Token, logprob and top logprobs are the same bit for bit alone and in any batch, with every feature."""
    logits = (noise(len(MIXED), LARGE, seed=4) * 2).bfloat16()
    mixed = mixed_draws()
    together = list(zip(*sample(logits[order], [mixed[i] for i in order]), strict=True))
    alone = [next(zip(*sample(logits[i : i + 1], [mixed[i]]), strict=True)) for i in order]
    assert together == alone


def test_a_broken_row_yields_nan_and_leaves_the_others_alone() -> None:
    """NaN logits are reported, not sampled from in silence, also where cuts and penalties look at them."""
    logits = noise(len(MIXED), LARGE, seed=5)
    healthy = sample(logits, mixed_draws())
    for broken in (0, 1, 2, 4, 7, 8, 10, 11):
        spoilt = logits.clone()
        spoilt[broken, 7] = float("nan")
        sampled = sample(spoilt, mixed_draws())
        assert math.isnan(sampled.logprobs[broken])
        assert 0 <= sampled.tokens[broken] < LARGE
        others = [i for i in range(len(MIXED)) if i != broken]
        assert [sampled.tokens[i] for i in others] == [healthy.tokens[i] for i in others]


@settings(max_examples=300, deadline=None)
@given(st.integers(1, 700), st.integers(0, 2**31), st.floats(0.01, 50), st.sampled_from([0, 1, 90, 400]))
def test_tokens_are_always_inside_the_vocabulary_and_possible(
    size: int, seed: int, spread: float, top_k: int
) -> None:
    """No rounding leads to a token outside the vocabulary or to one of weight zero."""
    logits = noise(4, size, seed=seed) * spread
    sampled = sample(logits, draws(SamplingParams(seed=seed, top_k=top_k), 4))
    assert all(0 <= token < size for token in sampled.tokens)
    assert all(logprob > -104 for logprob in sampled.logprobs)  # exp(-104) is below float32's smallest number


def test_top_logprobs_are_the_likeliest_of_the_raw_softmax() -> None:
    """As many as asked for, in order, at the temperature, ties by token id; none for rows that don't ask."""
    logits = noise(2, VOCABULARY, seed=6)
    logits[0, [50, 20]] = 9.0
    (asked,) = draws(SamplingParams(temperature=0.5, top_logprobs=4), 1)
    tops = sample(logits, [asked, Draw(SamplingParams(), 0, 0)]).top_logprobs
    expected = (logits[0] / 0.5).log_softmax(-1).topk(4)
    assert [token for token, _ in tops[0]] == [20, 50, *expected.indices[2:].tolist()]
    assert [logprob for _, logprob in tops[0]] == pytest.approx(expected.values.tolist(), abs=1e-5)
    assert tops[1] == ()


def test_a_vocabulary_smaller_than_the_top_logprobs_gives_what_there_is() -> None:
    """Three tokens have three logprobs."""
    (top,) = sample(noise(1, 3), draws(SamplingParams(top_logprobs=20), 1)).top_logprobs
    assert sorted(token for token, _ in top) == [0, 1, 2]


def test_given_tokens_are_scored_by_the_same_softmax() -> None:
    """Prompt logprobs follow the definition of sampled ones."""
    logits = noise(3, VOCABULARY, seed=7)
    logprobs, tops = score(logits, [4, 5, 599], SamplingParams(temperature=2.0), 1)
    reference = (logits / 2.0).log_softmax(-1)
    assert logprobs == pytest.approx(reference[[0, 1, 2], [4, 5, 599]].tolist(), abs=1e-5)
    assert [top[0][0] for top in tops] == reference.argmax(-1).tolist()
