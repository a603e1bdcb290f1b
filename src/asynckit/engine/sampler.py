"""From logits to tokens and their logprobs, vectorised over the batch.

Randomness is counter-based, see :mod:`asynckit.engine.counter`: the uniform number behind a token is a
function of (request seed, sample index, position) alone.

Shape letters: B rows (one per sampling sequence), V vocabulary.
"""

from collections.abc import Sequence as SequenceOf
from dataclasses import dataclass

import torch

from asynckit.engine.config import SamplingParams
from asynckit.engine.counter import uniform

_CHUNK = 256  # columns summed at a time when the cumulative distribution is searched


@dataclass(frozen=True)
class Draw:
    """One row to sample: its parameters and the counters of its randomness."""

    sampling: SamplingParams
    sample_index: int
    position: int


def sample(logits_BV: torch.Tensor, draws: SequenceOf[Draw]) -> tuple[list[int], list[float]]:
    """Choose one token per row.

    Args:
        logits_BV: raw logits, any float dtype.
        draws: one per row.

    Returns:
        Token ids, and their log-probabilities under softmax(logits / temperature) before any cut (temperature
        1 for greedy rows). A row whose logits hold NaN or +inf yields the logprob NaN.
    """
    logits_BV = logits_BV.float()
    temperature_B = torch.tensor([d.sampling.temperature or 1.0 for d in draws], device=logits_BV.device)
    scaled_BV = logits_BV / temperature_B[:, None] if (temperature_B != 1.0).any() else logits_BV
    token_B = logits_BV.argmax(-1)
    random = [i for i, d in enumerate(draws) if d.sampling.temperature > 0]
    if random:
        rows = torch.tensor(random, device=logits_BV.device)
        token_B[rows] = _draw(scaled_BV[rows], [draws[i] for i in random])
    chosen_B = scaled_BV.gather(1, token_B[:, None]).squeeze(1)
    logprob_B = chosen_B - scaled_BV.logsumexp(-1)
    return token_B.tolist(), logprob_B.tolist()


def _draw(scaled_BV: torch.Tensor, draws: list[Draw]) -> torch.Tensor:
    """Draw from softmax(scaled) cut by top-k, top-p and min-p; returns ``[B]`` token ids."""
    weight_BV = torch.exp(scaled_BV - scaled_BV.amax(-1, keepdim=True))
    cut = [i for i, d in enumerate(draws) if d.sampling.top_k or d.sampling.top_p < 1 or d.sampling.min_p]
    if cut:
        rows = torch.tensor(cut, device=weight_BV.device)
        weight_BV[rows] = _cut(weight_BV[rows], [draws[i].sampling for i in cut])
    uniform_B = torch.tensor(
        [uniform(d.sampling.seed, d.sample_index, d.position) for d in draws],
        dtype=torch.float64,
        device=weight_BV.device,
    )
    return _invert(weight_BV, uniform_B)


def _cut(weight_BV: torch.Tensor, params: list[SamplingParams]) -> torch.Tensor:
    """Zero the weights outside top-k, then top-p of what is left, then min-p: the order of transformers."""
    device, vocabulary = weight_BV.device, weight_BV.shape[1]
    sorted_BV, order_BV = weight_BV.sort(dim=-1, descending=True, stable=True)
    rank_V = torch.arange(vocabulary, device=device)
    top_k_B = torch.tensor([p.top_k or vocabulary for p in params], device=device)
    sorted_BV = sorted_BV.masked_fill(rank_V >= top_k_B[:, None], 0)
    share_BV = sorted_BV.double()
    share_BV /= share_BV.sum(-1, keepdim=True)
    top_p_B = torch.tensor([p.top_p for p in params], dtype=torch.float64, device=device)
    before_BV = share_BV.cumsum(-1) - share_BV
    min_p_B = torch.tensor([p.min_p for p in params], dtype=torch.float64, device=device)
    drop_BV = (before_BV >= top_p_B[:, None]) | (share_BV < min_p_B[:, None] * share_BV[:, :1])
    drop_BV[:, 0] = False
    return torch.zeros_like(weight_BV).scatter_(1, order_BV, sorted_BV.masked_fill(drop_BV, 0))


def _invert(weight_BV: torch.Tensor, uniform_B: torch.Tensor) -> torch.Tensor:
    """The first token whose cumulative weight exceeds ``uniform`` times the total.

    Two levels (sums of 256 columns, then inside the chosen 256) read the weights once and add few numbers in
    a row.
    """
    rows, vocabulary = weight_BV.shape
    weight_BV = torch.nn.functional.pad(weight_BV, (0, -vocabulary % _CHUNK))
    chunk_BCS = weight_BV.view(rows, -1, _CHUNK)
    upper_BC = chunk_BCS.sum(-1).double().cumsum(-1)
    total_B1 = upper_BC[:, -1:]
    # Rounding must not lift the target to the total itself: no token would exceed it.
    target_B1 = torch.minimum(
        uniform_B[:, None] * total_B1, torch.nextafter(total_B1, torch.zeros_like(total_B1))
    )
    chunk_B = (
        (upper_BC <= target_B1).sum(-1).clamp(max=upper_BC.shape[1] - 1)
    )  # the clamp matters for NaN rows only
    index = torch.arange(rows, device=weight_BV.device)
    inside_BS = chunk_BCS[index, chunk_B].double()
    below_B1 = (upper_BC[index, chunk_B] - chunk_BCS[index, chunk_B].sum(-1).double())[:, None]
    cumulative_BS = inside_BS.cumsum(-1)
    offset_B = (cumulative_BS <= target_B1 - below_B1).sum(-1)
    # The two ways of summing a chunk may differ by rounding: step back to its last token with any weight.
    last_B = (_CHUNK - 1) - (inside_BS > 0).flip(-1).int().argmax(-1)
    return (chunk_B * _CHUNK + torch.minimum(offset_B, last_B)).clamp(max=vocabulary - 1)
