"""Prompt logprobs: complete and right however the prompt is cut into chunks, and again after a preemption."""

from itertools import pairwise

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from asynckit.engine.config import SamplingParams
from asynckit.engine.plan import Chunk
from asynckit.engine.prompt_scores import logit_rows, record_prompt_scores
from asynckit.engine.request import Request, Sequence

PROMPT = (3, 1, 4, 1, 5, 9, 2)
LOGITS = torch.randn(len(PROMPT), 12, generator=torch.Generator().manual_seed(0))


def sequence(prompt_logprobs: int | None = 2, index: int = 0) -> Sequence:
    params = SamplingParams(temperature=0.5, prompt_logprobs=prompt_logprobs)
    return Sequence(Request("r", PROMPT, params), index, list(PROMPT))


def prefill(target: Sequence, start: int, end: int, siblings: tuple[Sequence, ...] = ()) -> None:
    chunk = Chunk(target, start, end - start, end == len(PROMPT), siblings)
    assert logit_rows(chunk) == end - start
    record_prompt_scores(chunk, LOGITS[start:end])


@given(st.sets(st.integers(1, len(PROMPT) - 1)), st.integers(0, len(PROMPT)))
def test_chunks_give_what_one_pass_gives(cuts: set[int], preempted_at: int) -> None:
    """Whatever the chunks, and whatever was already there when the prefill starts over."""
    target = sequence()
    if preempted_at:
        prefill(target, 0, preempted_at)
    bounds = [0, *sorted(cuts), len(PROMPT)]
    for start, end in pairwise(bounds):
        prefill(target, start, end)
    expected = (LOGITS / 0.5).log_softmax(-1)
    first, *scores = target.prompt_scores
    assert first is None
    assert [score.token_id for score in scores if score] == list(PROMPT[1:])
    assert [score.logprob for score in scores if score] == pytest.approx(
        expected[range(len(PROMPT) - 1), PROMPT[1:]].tolist(), abs=1e-5
    )
    assert all(score and len(score.top_logprobs) == 2 for score in scores)


def test_siblings_get_the_scores_too() -> None:
    """All samples of a request report the same prompt."""
    leader, sibling = sequence(), sequence(index=1)
    prefill(leader, 0, len(PROMPT), (sibling,))
    assert sibling.prompt_scores == leader.prompt_scores
    assert len(sibling.prompt_scores) == len(PROMPT)


def test_zero_asks_for_the_tokens_own_logprobs_only() -> None:
    """No likeliest tokens beside them."""
    target = sequence(0)
    prefill(target, 0, len(PROMPT))
    assert [score.top_logprobs for score in target.prompt_scores if score] == [()] * (len(PROMPT) - 1)


def test_other_requests_need_their_last_row_only() -> None:
    """Logits of a whole prompt are large: only who asks pays for them."""
    assert logit_rows(Chunk(sequence(None), 0, 5, samples=False)) == 0
    assert logit_rows(Chunk(sequence(None), 5, 2, samples=True)) == 1
