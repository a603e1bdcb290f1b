"""What adjusts logits before a choice: each feature's definition, and the counts behind the penalties."""

from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from asynckit.engine.config import EngineConfig, SamplingParams
from asynckit.engine.engine import Engine
from asynckit.engine.penalties import adjust
from asynckit.engine.request import Finish, Request, TokenEvent
from asynckit.engine.sample_state import SampleState, TokenCounts
from asynckit.engine.sampler import Draw, sample
from asynckit.models.config import ModelConfig
from asynckit.models.resolve import resolve_model

VOCABULARY = 50
IDS = st.lists(st.integers(0, VOCABULARY - 1), max_size=60)


def state(
    params: SamplingParams, prompt: list[int], response: list[int], ending: tuple[int, ...] = ()
) -> SampleState:
    made = SampleState(params, prompt, ending, None)
    for token in response:
        made.push(token)
    return made


def rows(count: int) -> torch.Tensor:
    return torch.randn(count, VOCABULARY, generator=torch.Generator().manual_seed(0)) * 3


@given(IDS, IDS)
def test_counts_are_those_of_the_response(prompt: list[int], response: list[int]) -> None:
    """Tokens of the prompt alone count 0; the arrays grow as needed."""
    counts = TokenCounts(prompt)
    for token in response:
        counts.push(token)
    expected = dict.fromkeys(prompt, 0) | Counter(response)
    assert dict(zip(counts.ids.tolist(), counts.counts.tolist(), strict=True)) == expected


@given(IDS, IDS)
def test_repetition_penalty_is_that_of_transformers(prompt: list[int], response: list[int]) -> None:
    """Over the prompt and the response, as its RepetitionPenaltyLogitsProcessor does it."""
    from transformers import RepetitionPenaltyLogitsProcessor

    logits, history = rows(1), torch.tensor([prompt + response], dtype=torch.long)
    adjusted = adjust(logits.clone(), [state(SamplingParams(repetition_penalty=1.7), prompt, response)])
    expected = RepetitionPenaltyLogitsProcessor(1.7)(history, logits.clone())
    torch.testing.assert_close(adjusted, expected)


@given(IDS, IDS)
def test_presence_and_frequency_penalties_are_those_of_openai(prompt: list[int], response: list[int]) -> None:
    """Taken off a logit: count * frequency + (count > 0) * presence, over the response only."""
    params = SamplingParams(presence_penalty=0.5, frequency_penalty=-0.25)
    logits = rows(1)
    expected = logits.clone()
    for token, count in Counter(response).items():
        expected[0, token] -= count * -0.25 + 0.5
    torch.testing.assert_close(adjust(logits, [state(params, prompt, response)]), expected)


def test_bias_comes_before_the_penalties() -> None:
    """The order of vLLM and transformers."""
    params = SamplingParams(logit_bias={"3": 10.0, "4": -1.5}, repetition_penalty=2.0)
    logits = torch.zeros(1, VOCABULARY)
    adjusted = adjust(logits, [state(params, [3], [])])
    assert adjusted[0, 3:6].tolist() == [5.0, -1.5, 0.0]


def test_only_allowed_tokens_are_left() -> None:
    """All others become impossible; the allowed keep their logits, bias included."""
    params = SamplingParams(allowed_token_ids=(3, 9), logit_bias={"9": 1.0, "10": 100.0})
    logits = rows(1)
    adjusted = adjust(logits.clone(), [state(params, [], [])])
    assert torch.isfinite(adjusted[0]).nonzero().flatten().tolist() == [3, 9]
    assert adjusted[0, 9] == logits[0, 9] + 1


def test_what_would_end_a_sample_is_barred_until_min_tokens() -> None:
    """Two tokens must be there before an ending token may come."""
    params = SamplingParams(min_tokens=2)
    barred = [
        torch.isinf(adjust(rows(1), [state(params, [], response, (0, 7))])[0]).nonzero().flatten().tolist()
        for response in ([], [1], [1, 2])
    ]
    assert barred == [[0, 7], [0, 7], []]


def test_a_state_is_active_only_while_it_changes_something() -> None:
    """After min_tokens a sample goes back to the short way."""
    assert state(SamplingParams(min_tokens=1), [], []).active
    assert not state(SamplingParams(min_tokens=1), [], [5]).active
    assert state(SamplingParams(min_tokens=1, presence_penalty=1.0), [], [5]).active


def test_rows_are_adjusted_each_by_its_own_state() -> None:
    """A batch of different features gives what each row gives alone."""
    states = [
        state(SamplingParams(repetition_penalty=1.2), [1, 2], [3]),
        state(SamplingParams(logit_bias={"1": 1.0}), [], []),
        state(SamplingParams(allowed_token_ids=(1, 2), presence_penalty=1.0), [1], [2, 2]),
        state(SamplingParams(min_tokens=9, frequency_penalty=2.0), [], [4, 4, 5], (0,)),
    ]
    together = adjust(rows(4), states)
    alone = torch.cat([adjust(rows(4)[[i]], [each]) for i, each in enumerate(states)])
    assert torch.equal(together, alone)


@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_a_row_without_any_possible_token_is_reported(temperature: float) -> None:
    """It yields -1 rather than a token that its request forbids."""
    params = SamplingParams(temperature=temperature, allowed_token_ids=(0,), min_tokens=1)
    blocked = Draw(params, 0, 0, state(params, [], [], (0,)))
    assert sample(rows(2), [blocked, Draw(SamplingParams(temperature=0.0), 0, 0)]).tokens == [
        -1,
        int(rows(2)[1].argmax()),
    ]


@pytest.fixture(scope="module")
def engine(tiny_llama: Path) -> Engine:
    config = ModelConfig(name=str(tiny_llama))
    small = EngineConfig(dtype="float32", device="cpu", max_running=8, block_size=16, kv_cache_tokens=2048)
    return Engine.load(small, config, resolve_model(config))


def run(engine: Engine, params: SamplingParams, n: int = 1) -> list[list[TokenEvent]]:
    engine.add(Request("r", (5, 6, 7), params, n))
    events: list[list[TokenEvent]] = [[] for _ in range(n)]
    while engine.has_work():
        for event in engine.step():
            events[event.sample_index].append(event)
    return events


def test_no_kind_of_stop_ends_a_sample_before_min_tokens(engine: Engine) -> None:
    """Every letter is a stop string and half the vocabulary stops: exactly min_tokens tokens come out."""
    letters = tuple("abcdefghijklmnopqrstuvwxyz 0123456789")
    by_string = SamplingParams(stop=letters, min_tokens=30, max_tokens=200, seed=1)
    by_token = SamplingParams(stop_token_ids=tuple(range(0, 300, 2)), min_tokens=30, max_tokens=200, seed=2)
    for params in (by_string, by_token):
        for events in run(engine, params, n=4):
            tokens = [event.token_id for event in events]
            assert events[-1].finish is Finish.STOP
            assert len(tokens) >= 30
            assert not set(tokens[:30]) & set(params.stop_token_ids)


def test_penalties_follow_the_response_as_it_grows(engine: Engine) -> None:
    """With the strongest penalty per occurrence and 3 tokens allowed, no token falls far behind."""
    free = SamplingParams(temperature=0.0, max_tokens=30, ignore_eos=True, allowed_token_ids=(10, 11, 12))
    (events,) = run(engine, replace(free, frequency_penalty=2.0))
    counts = Counter(event.token_id for event in events)
    (plain,) = run(engine, free)
    assert set(counts) == {10, 11, 12}
    assert max(counts.values()) < max(Counter(event.token_id for event in plain).values())


def test_top_logprobs_come_with_each_token(engine: Engine) -> None:
    """Greedy takes the first of them, and its logprob is the reported one."""
    (events,) = run(engine, SamplingParams(temperature=0.0, max_tokens=5, top_logprobs=2, ignore_eos=True))
    for event in events:
        assert len(event.top_logprobs) == 2
        assert event.top_logprobs[0] == (event.token_id, event.logprob)
