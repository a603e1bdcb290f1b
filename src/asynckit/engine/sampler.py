"""From logits to tokens and their logprobs, vectorised over the batch.

Randomness is counter-based, see :mod:`asynckit.engine.counter`: the uniform number behind a token is a
function of (request seed, sample index, position) alone. No row's token or logprob depends on what else is in
the batch, bit for bit: sums run over a row in pieces of fixed size, never over all of it at once, which torch
would split by threads when the batch has one row.

Rows that ask for nothing but a temperature take the short way; the work of every other feature is done on the
rows that ask for it.

Shape letters: B rows (one per sampling sequence), R some of them, V vocabulary, K candidates, C and S chunks
    of the vocabulary and their columns.
"""

from collections.abc import Sequence as SequenceOf
from dataclasses import dataclass
from typing import NamedTuple

import torch

from asynckit.engine.config import SamplingParams
from asynckit.engine.counter import uniform
from asynckit.engine.penalties import adjust
from asynckit.engine.request import Likeliest
from asynckit.engine.sample_state import SampleState
from asynckit.engine.truncation import draw_truncated, likeliest

MOST_TOP_LOGPROBS = 20
_CHUNK = 256  # columns summed at a time


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


@dataclass(frozen=True)
class _Softmax:
    """A softmax taken apart: ``exp(scaled - peak) / total``.

    Attributes:
        scaled_BV: logits over temperature, float32.
        peak_B: their maxima.
        chunk_BCS: ``exp(scaled - peak)``, padded with zeros to whole chunks.
        upper_BC: cumulative sums of the chunks, float64.
    """

    scaled_BV: torch.Tensor
    peak_B: torch.Tensor
    chunk_BCS: torch.Tensor
    upper_BC: torch.Tensor

    @classmethod
    def of(cls, scaled_BV: torch.Tensor) -> "_Softmax":
        rows, vocabulary = scaled_BV.shape
        peak_B = scaled_BV.amax(-1)
        weight_BV = (scaled_BV - peak_B[:, None]).exp_()
        if vocabulary % _CHUNK:
            weight_BV = torch.nn.functional.pad(weight_BV, (0, -vocabulary % _CHUNK))
        chunk_BCS = weight_BV.view(rows, -1, _CHUNK)
        return cls(scaled_BV, peak_B, chunk_BCS, chunk_BCS.sum(-1).double().cumsum(-1))

    def rows(self, rows: list[int]) -> "_Softmax":
        """The same for some rows."""
        if len(rows) == len(self.peak_B):
            return self
        index = torch.tensor(rows, device=self.peak_B.device)
        parts = (self.scaled_BV, self.peak_B, self.chunk_BCS, self.upper_BC)
        return _Softmax(*(part[index] for part in parts))

    def logprobs(self, token_BK: torch.Tensor) -> torch.Tensor:
        """Log-probabilities ``[B, K]`` of token ids ``[B, K]``, float64."""
        log_total_B = self.upper_BC[:, -1].log() + self.peak_B
        return self.scaled_BV.gather(1, token_BK).double() - log_total_B[:, None]


def sample(logits_BV: torch.Tensor, draws: SequenceOf[Draw]) -> Sampled:
    """Choose one token per row.

    Args:
        logits_BV: raw logits, any float dtype.
        draws: one per row.
    """
    logits_BV = logits_BV.float()
    softmax = _Softmax.of(_at_temperature(logits_BV, [draw.sampling for draw in draws]))
    adjusted = [row for row, draw in enumerate(draws) if draw.state]
    plain = [row for row, draw in enumerate(draws) if not draw.state]
    token_B = torch.empty(len(draws), dtype=torch.long, device=logits_BV.device)
    if plain:
        token_B[plain] = _choose(softmax.rows(plain), [draws[row] for row in plain])
    if adjusted:
        token_B[adjusted] = _choose_adjusted(logits_BV[adjusted], [draws[row] for row in adjusted])
    logprob_B = softmax.logprobs(token_B.clamp(min=0)[:, None]).squeeze(1)
    tops = _top_logprobs(softmax, [draw.sampling.top_logprobs for draw in draws])
    return Sampled(token_B.tolist(), logprob_B.tolist(), tops)


def score(
    logits_TV: torch.Tensor, token_T: SequenceOf[int], sampling: SamplingParams, top: int
) -> tuple[list[float], list[Likeliest]]:
    """Logprobs of given tokens, and the ``top`` likeliest instead of each, as :func:`sample` reports them."""
    softmax = _Softmax.of(_at_temperature(logits_TV.float(), [sampling] * len(token_T)))
    tokens = torch.tensor(token_T, dtype=torch.long, device=logits_TV.device)
    logprobs: list[float] = softmax.logprobs(tokens[:, None]).squeeze(1).tolist()
    return logprobs, _top_logprobs(softmax, [top] * len(token_T))


def _at_temperature(logits_BV: torch.Tensor, params: SequenceOf[SamplingParams]) -> torch.Tensor:
    temperatures = [each.temperature or 1.0 for each in params]
    if all(temperature == 1 for temperature in temperatures):
        return logits_BV
    return logits_BV / torch.tensor(temperatures, device=logits_BV.device)[:, None]


def _choose_adjusted(logits_RV: torch.Tensor, draws: list[Draw]) -> torch.Tensor:
    """Choose from logits (a copy of its own) after bias, penalties and bans; -1 where nothing is left."""
    adjust(logits_RV, [draw.state for draw in draws if draw.state])
    softmax = _Softmax.of(_at_temperature(logits_RV, [draw.sampling for draw in draws]))
    return _choose(softmax, draws).masked_fill(softmax.peak_B == -torch.inf, -1)


def _choose(softmax: _Softmax, draws: list[Draw]) -> torch.Tensor:
    """Token ids ``[B]``: the likeliest for greedy rows, drawn for the others."""
    token_B = torch.empty(len(draws), dtype=torch.long, device=softmax.peak_B.device)
    greedy = [row for row, draw in enumerate(draws) if draw.sampling.temperature == 0]
    cut = [row for row, draw in enumerate(draws) if draw.sampling.temperature and draw.sampling.cuts]
    free = [row for row, draw in enumerate(draws) if draw.sampling.temperature and not draw.sampling.cuts]
    if greedy:
        token_B[greedy] = softmax.rows(greedy).scaled_BV.argmax(-1)
    if cut:
        part, params = softmax.rows(cut), [draws[row].sampling for row in cut]
        token_B[cut] = draw_truncated(
            part.scaled_BV, part.upper_BC[:, -1], params, _uniform(draws, cut, token_B.device)
        )
    if free:
        token_B[free] = _invert(softmax.rows(free), _uniform(draws, free, token_B.device))
    return token_B


def _uniform(draws: list[Draw], rows: list[int], device: torch.device) -> torch.Tensor:
    numbers = [
        uniform(draw.sampling.seed, draw.sample_index, draw.position) for draw in (draws[row] for row in rows)
    ]
    return torch.tensor(numbers, dtype=torch.float64, device=device)


def _invert(softmax: _Softmax, uniform_B: torch.Tensor) -> torch.Tensor:
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
    index = torch.arange(len(chunk_B), device=chunk_B.device)
    chunk_BS = softmax.chunk_BCS[index, chunk_B]
    inside_BS = chunk_BS.double()
    below_B1 = (upper_BC[index, chunk_B] - chunk_BS.sum(-1).double())[:, None]
    offset_B = (inside_BS.cumsum(-1) <= target_B1 - below_B1).sum(-1)
    # The two ways of summing a chunk may differ by rounding: step back to its last token with any weight.
    last_B = (_CHUNK - 1) - (inside_BS > 0).flip(-1).int().argmax(-1)
    token_B = chunk_B * _CHUNK + torch.minimum(offset_B, last_B)
    return token_B.clamp(max=softmax.scaled_BV.shape[1] - 1)


def _top_logprobs(softmax: _Softmax, wanted: list[int]) -> list[Likeliest]:
    rows = [row for row, count in enumerate(wanted) if count]
    tops: list[Likeliest] = [()] * len(wanted)
    if not rows:
        return tops
    part = softmax.rows(rows)
    _, token_RK = likeliest(part.scaled_BV, MOST_TOP_LOGPROBS)
    pairs = zip(rows, token_RK.tolist(), part.logprobs(token_RK).tolist(), strict=True)
    for row, tokens, logprobs in pairs:
        tops[row] = tuple(zip(tokens, logprobs, strict=True))[: wanted[row]]
    return tops
