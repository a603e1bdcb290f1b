"""From logits to tokens and their logprobs, vectorised over the batch.

Randomness is counter-based, see :mod:`asynckit.engine.counter`: the uniform number behind a token is a
function of (request seed, sample index, position) alone. No row's token or logprob depends on what else is in
the batch, bit for bit, see :mod:`asynckit.engine.softmax`.

Rows that ask for nothing but a temperature take the short way; the work of every other feature is done on the
rows that ask for it.

Shape letters: B rows (one per sampling sequence), R some of them, V vocabulary, K candidates.
"""

from collections.abc import Sequence as SequenceOf
from dataclasses import dataclass
from typing import NamedTuple

import torch

from asynckit.engine.config import SamplingParams
from asynckit.engine.counter import uniform
from asynckit.engine.native import CHUNK, Kernels
from asynckit.engine.penalties import adjust
from asynckit.engine.request import Likeliest
from asynckit.engine.sample_state import SampleState
from asynckit.engine.softmax import Softmax
from asynckit.engine.staging import index, to_device
from asynckit.engine.truncation import draw_truncated, likeliest

MOST_TOP_LOGPROBS = 20


@dataclass(frozen=True)
class Draw:
    """One row to sample: its parameters, the counters of its randomness, and what adjusts its logits."""

    sampling: SamplingParams
    sample_index: int
    position: int
    state: SampleState | None = None


class Sampled(NamedTuple):
    """What was chosen, one entry per row.

    Attributes:
        tokens: token ids; -1 where no token was possible.
        logprobs: under softmax(logits / temperature) of the logits as the model gave them, before penalties,
            bias, grammar and cuts; temperature 1 for greedy rows. NaN where the logits hold NaN or +inf.
        top_logprobs: the likeliest tokens under the same softmax, as many as the row asked for.
    """

    tokens: list[int]
    logprobs: list[float]
    top_logprobs: list[Likeliest]


def sample(logits_BV: torch.Tensor, draws: SequenceOf[Draw], kernels: Kernels | None = None) -> Sampled:
    """Choose one token per row.

    Args:
        logits_BV: raw logits, any float dtype.
        draws: one per row.
        kernels: C kernels, where the logits are on a CPU that has them.
    """
    softmax = Softmax.of(logits_BV, [draw.sampling.temperature for draw in draws], kernels)
    adjusted = [row for row, draw in enumerate(draws) if draw.state]
    plain = [row for row, draw in enumerate(draws) if not draw.state]
    parts: list[tuple[list[int], torch.Tensor]] = []
    if plain:
        parts.append((plain, _choose(softmax.rows(plain), [draws[row] for row in plain])))
    if adjusted:
        logits_RV = logits_BV[index(adjusted, logits_BV.device)].float()
        parts.append((adjusted, _choose_adjusted(logits_RV, [draws[row] for row in adjusted], kernels)))
    token_B = _joined(parts)
    logprob_B = softmax.logprobs(token_B.clamp(min=0)[:, None]).squeeze(1)
    tops = _top_logprobs(softmax, [draw.sampling.top_logprobs for draw in draws])
    return Sampled(token_B.tolist(), logprob_B.tolist(), tops)


def score(
    logits_TV: torch.Tensor,
    token_T: SequenceOf[int],
    sampling: SamplingParams,
    top: int,
    kernels: Kernels | None = None,
) -> tuple[list[float], list[Likeliest]]:
    """Logprobs of given tokens, and the ``top`` likeliest instead of each, as :func:`sample` reports them."""
    softmax = Softmax.of(logits_TV, [sampling.temperature] * len(token_T), kernels)
    logprobs: list[float] = softmax.logprobs(index(token_T, logits_TV.device)[:, None]).squeeze(1).tolist()
    return logprobs, _top_logprobs(softmax, [top] * len(token_T))


def _choose_adjusted(logits_RV: torch.Tensor, draws: list[Draw], kernels: Kernels | None) -> torch.Tensor:
    """Choose from logits (a copy of its own) after bias, penalties and bans; -1 where nothing is left."""
    adjust(logits_RV, [draw.state for draw in draws if draw.state])
    softmax = Softmax.of(logits_RV, [draw.sampling.temperature for draw in draws], kernels)
    return _choose(softmax, draws).masked_fill(softmax.peak_B == -torch.inf, -1)


def _choose(softmax: Softmax, draws: list[Draw]) -> torch.Tensor:
    """Token ids ``[B]``: the likeliest for greedy rows, drawn for the others."""
    device = softmax.peak_B.device
    parts: list[tuple[list[int], torch.Tensor]] = []
    greedy = [row for row, draw in enumerate(draws) if draw.sampling.temperature == 0]
    cut = [row for row, draw in enumerate(draws) if draw.sampling.temperature and draw.sampling.cuts]
    free = [row for row, draw in enumerate(draws) if draw.sampling.temperature and not draw.sampling.cuts]
    if greedy:
        parts.append((greedy, softmax.rows(greedy).best_B))
    if cut:
        part, params = softmax.rows(cut), [draws[row].sampling for row in cut]
        uniform_R = _uniform(draws, cut, device)
        parts.append((cut, draw_truncated(part.scaled(), part.totals(), params, uniform_R)))
    if free:
        parts.append((free, _invert(softmax.rows(free), _uniform(draws, free, device))))
    return _joined(parts)


def _joined(parts: list[tuple[list[int], torch.Tensor]]) -> torch.Tensor:
    """The tokens of all rows ``[B]`` from those of some rows each, which together are all."""
    if len(parts) == 1:
        return parts[0][1]
    device = parts[0][1].device
    token_B = torch.empty(sum(len(rows) for rows, _ in parts), dtype=torch.long, device=device)
    for rows, token_R in parts:
        token_B[index(rows, device)] = token_R
    return token_B


def _uniform(draws: list[Draw], rows: list[int], device: torch.device) -> torch.Tensor:
    numbers = [
        uniform(draw.sampling.seed, draw.sample_index, draw.position) for draw in (draws[row] for row in rows)
    ]
    return to_device(torch.tensor(numbers, dtype=torch.float64), device)


def _invert(softmax: Softmax, uniform_B: torch.Tensor) -> torch.Tensor:
    """The first token, by id, whose cumulative weight exceeds ``uniform`` times the total.

    Two levels (chunks, then inside the chosen chunk) read few numbers in a row.
    """
    upper_BC = softmax.upper_BC
    total_B1 = upper_BC[:, -1:]
    # Rounding must not lift the target to the total itself: no token would exceed it.
    target_B1 = torch.minimum(
        uniform_B[:, None] * total_B1, torch.nextafter(total_B1, torch.zeros_like(total_B1))
    )
    # The clamps matter for NaN rows only.
    chunk_B = (upper_BC <= target_B1).sum(-1).clamp(max=upper_BC.shape[1] - 1)
    row_B = torch.arange(len(chunk_B), device=chunk_B.device)
    chunk_BS = softmax.chunk(chunk_B)
    inside_BS = chunk_BS.double()
    below_B1 = (upper_BC[row_B, chunk_B] - chunk_BS.sum(-1).double())[:, None]
    offset_B = (inside_BS.cumsum(-1) <= target_B1 - below_B1).sum(-1)
    # The two ways of summing a chunk may differ by rounding: step back to its last token with any weight.
    last_B = (CHUNK - 1) - (inside_BS > 0).flip(-1).int().argmax(-1)
    token_B = chunk_B * CHUNK + torch.minimum(offset_B, last_B)
    return token_B.clamp(max=softmax.logits_BV.shape[1] - 1)


def _top_logprobs(softmax: Softmax, wanted: list[int]) -> list[Likeliest]:
    rows = [row for row, count in enumerate(wanted) if count]
    tops: list[Likeliest] = [()] * len(wanted)
    if not rows:
        return tops
    part = softmax.rows(rows)
    _, token_RK = likeliest(part.scaled(), MOST_TOP_LOGPROBS)
    pairs = zip(rows, token_RK.tolist(), part.logprobs(token_RK).tolist(), strict=True)
    for row, tokens, logprobs in pairs:
        tops[row] = tuple(zip(tokens, logprobs, strict=True))[: wanted[row]]
    return tops
