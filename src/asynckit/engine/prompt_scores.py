"""Logprobs of a prompt's own tokens, collected chunk by chunk as the prompt is prefilled."""

import torch

from asynckit.engine.native import Kernels
from asynckit.engine.plan import Chunk
from asynckit.engine.request import TokenScore
from asynckit.engine.sampler import score


def logit_rows(chunk: Chunk) -> int:
    """How many of a chunk's rows need logits, counted from its end: all, the last one, or none."""
    return chunk.length if chunk.sequence.needs_all_rows else int(chunk.samples)


def record_prompt_scores(chunk: Chunk, logits_TV: torch.Tensor, kernels: Kernels | None = None) -> None:
    """Score the prompt tokens that the rows of a chunk predict, for its sequence and its siblings.

    Args:
        chunk: of a sequence that needs all rows.
        logits_TV: one row per token of the chunk.
        kernels: C kernels, where the logits are on a CPU that has them.
    """
    sequence, first = chunk.sequence, chunk.start + 1
    sampling, prompt = sequence.request.sampling, sequence.request.prompt_ids
    tokens = prompt[first : first + chunk.length]  # one fewer than rows where the prompt ends
    scores = sequence.prompt_scores or [None]
    del scores[first:]  # computed again after a preemption
    assert len(scores) == min(first, len(prompt))
    if tokens:
        top = sampling.prompt_logprobs or 0
        logprobs, tops = score(logits_TV[: len(tokens)], tokens, sampling, top, kernels)
        scores += [TokenScore(*each) for each in zip(tokens, logprobs, tops, strict=True)]
    for each in (sequence, *chunk.siblings):
        each.prompt_scores = scores
