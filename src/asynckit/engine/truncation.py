"""Top-k, top-p and min-p without sorting the vocabulary.

All three keep a beginning of the tokens sorted by falling likelihood, and that beginning is nearly always
short. So the likeliest few hundred are taken out, and where the beginning ends inside them the row is done;
else more are taken, in the end all. The result is the one of a full sort: equal logits go by token id.

Shape letters: R rows, V vocabulary, K candidates.
"""

from collections.abc import Sequence

import torch

from asynckit.engine.config import SamplingParams
from asynckit.engine.staging import to_device

_CANDIDATES = (256, 8192)  # how many are tried before the whole vocabulary


def likeliest(value_RV: torch.Tensor, count: int) -> tuple[torch.Tensor, torch.Tensor]:
    """The ``count`` largest values of each row and their columns, ``[R, K]`` each, in order.

    Equal values go by column. Which of those equal to the last one are among them is left open, but depends
    on the row alone.
    """
    if count >= value_RV.shape[1]:
        return value_RV.sort(dim=-1, descending=True, stable=True)
    value_RK, column_RK = value_RV.topk(count, sorted=False)
    order_RK = _sort_key(value_RK, column_RK).argsort(dim=-1, descending=True)
    return value_RK.gather(1, order_RK), column_RK.gather(1, order_RK)


def _sort_key(value: torch.Tensor, column: torch.Tensor) -> torch.Tensor:
    """Integers in the order of float32 values, equal ones by falling column: faster than two sorts."""
    bits = (value + 0.0).view(torch.int32).long()  # adding zero makes -0.0 equal to 0.0
    return (torch.where(bits < 0, bits ^ 0x7FFFFFFF, bits) << 32) - column


def draw_truncated(
    scaled_RV: torch.Tensor, total_R: torch.Tensor, params: Sequence[SamplingParams], uniform_R: torch.Tensor
) -> torch.Tensor:
    """Draw from softmax(scaled) cut to top-k, then top-p of what is left, then min-p (transformers' order).

    Args:
        scaled_RV: logits over temperature, float32.
        total_R: per row the sum of ``exp(scaled - max)``, float64.
        params: the cuts of each row.
        uniform_R: one number in [0, 1) per row, float64.

    Returns:
        Token ids ``[R]``; any id for a row with NaN.
    """
    vocabulary = scaled_RV.shape[1]
    cuts = [(min(p.top_k or vocabulary, vocabulary), p.top_p, p.min_p) for p in params]
    cuts_R3 = to_device(torch.tensor(cuts, dtype=torch.float64), scaled_RV.device)
    token_R = torch.zeros(len(params), dtype=torch.long, device=scaled_RV.device)
    left = torch.arange(len(params), device=scaled_RV.device)
    for count in (*(c for c in _CANDIDATES if c < vocabulary), vocabulary):
        value_RK, id_RK = likeliest(scaled_RV[left], count)
        cumulative_RK, kept_R, settled_R = _truncate(value_RK, total_R[left], cuts_R3[left], vocabulary)
        place_R1 = _pick(cumulative_RK, kept_R, uniform_R[left])[:, None]
        token_R[left] = id_RK.gather(1, place_R1).squeeze(1)
        left = left[~settled_R]
        if not len(left):
            break
    return token_R


def _truncate(
    value_RK: torch.Tensor, total_R: torch.Tensor, cuts_R3: torch.Tensor, vocabulary: int
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """How many of the sorted candidates stay.

    Returns:
        The candidates' cumulative weights ``[R, K]`` (float64), how many stay ``[R]`` (at least one), and for
        which rows ``[R]`` the candidates were enough to know.
    """
    count = value_RK.shape[1]
    top_k_R1, top_p_R1, min_p_R1 = (cuts_R3[:, each : each + 1] for each in range(3))
    weight_RK = (value_RK - value_RK[:, :1]).exp().double()
    cumulative_RK = weight_RK.cumsum(-1)
    last_R1 = (top_k_R1.long() - 1).clamp(max=count - 1)
    base_R1 = torch.where(top_k_R1 < vocabulary, cumulative_RK.gather(1, last_R1), total_R[:, None])
    stays_RK = (
        (torch.arange(count, device=value_RK.device) < top_k_R1)
        & ((cumulative_RK - weight_RK < top_p_R1 * base_R1) | (top_p_R1 == 1))
        & (weight_RK >= min_p_R1)
    )
    kept_R = stays_RK.sum(-1).clamp(min=1)
    # Tokens as likely as the last candidate may be missing, and with them the right order.
    clear_R = value_RK.gather(1, kept_R[:, None] - 1).squeeze(1) > value_RK[:, -1]
    base_known_R = ((top_k_R1 <= count) | (top_k_R1 == vocabulary) | (top_p_R1 == 1)).squeeze(1)
    return cumulative_RK, kept_R, (clear_R & base_known_R) | (count == vocabulary)


def _pick(cumulative_RK: torch.Tensor, kept_R: torch.Tensor, uniform_R: torch.Tensor) -> torch.Tensor:
    """Place of the first candidate whose cumulative weight exceeds ``uniform`` times that of all kept."""
    total_R = cumulative_RK.gather(1, kept_R[:, None] - 1).squeeze(1)
    # Rounding must not lift the target to the total itself: it could lead to a token of weight zero.
    target_R = torch.minimum(uniform_R * total_R, torch.nextafter(total_R, torch.zeros_like(total_R)))
    place_R = (cumulative_RK <= target_R[:, None]).sum(-1)
    return torch.minimum(place_R, kept_R - 1)
