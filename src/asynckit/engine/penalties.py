"""Changes to the logits before a token is chosen: bias, penalties, and tokens that may not come.

The order is that of vLLM and transformers: bias, repetition penalty, frequency and presence penalty, then
what is ruled out. Everything works on the ``(row, token id)`` pairs concerned, gathered over the batch; only
a grammar and an allowed set touch whole rows. No row's result depends on another row.

Shape letters: R rows that have something to adjust, V vocabulary, N pairs of row and token id.
"""

from collections.abc import Callable, Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from asynckit.engine.sample_state import Ids, SampleState
from asynckit.engine.staging import to_device


def adjust(logits_RV: torch.Tensor, states: Sequence[SampleState]) -> torch.Tensor:
    """Change ``logits_RV`` (float32) in place as the states say; returns it.

    Tokens that may not come get -inf. A row may end up with nothing else: no token satisfies its request.
    """
    _add_bias(logits_RV, states)
    _penalize(logits_RV, states)
    _keep_allowed(logits_RV, states)
    _follow_grammars(logits_RV, states)
    pairs = _pairs(states, lambda state: state.barred_ids)
    if len(pairs[0]):
        logits_RV[_on(logits_RV, *pairs)] = -torch.inf
    return logits_RV


def _pairs(states: Sequence[SampleState], ids: Callable[[SampleState], Ids]) -> tuple[Ids, Ids]:
    """Row and token id ``[N]`` of every id that the states name."""
    each = [ids(state) for state in states]
    return np.repeat(np.arange(len(each)), [len(one) for one in each]), np.concatenate(each)


def _on(like: torch.Tensor, *arrays: NDArray[np.generic]) -> tuple[torch.Tensor, ...]:
    return tuple(to_device(torch.from_numpy(array), like.device) for array in arrays)


def _add_bias(logits_RV: torch.Tensor, states: Sequence[SampleState]) -> None:
    row_N, id_N = _pairs(states, lambda state: state.bias_ids)
    if len(row_N):
        bias_N = np.concatenate([state.bias for state in states])
        *where, bias = _on(logits_RV, row_N, id_N, bias_N)
        logits_RV[tuple(where)] += bias  # the ids of a row are distinct


def _penalize(logits_RV: torch.Tensor, states: Sequence[SampleState]) -> None:
    """Repetition penalty (Keskar et al. 2019, "CTRL"), then OpenAI's frequency and presence penalties."""
    rows = [row for row, state in enumerate(states) if state.counts]
    counts = [state.counts for state in states if state.counts]
    if not rows:
        return
    sizes = [len(each.ids) for each in counts]
    settings = [states[row].params for row in rows]
    row_N = np.repeat(np.array(rows), sizes)
    id_N = np.concatenate([each.ids for each in counts])
    count_N = np.concatenate([each.counts for each in counts])

    def per_pair(values: list[float]) -> NDArray[np.float32]:
        return np.repeat(np.array(values, dtype=np.float32), sizes)

    row, id_, count, repetition, frequency, presence = _on(
        logits_RV,
        row_N,
        id_N,
        count_N,
        per_pair([each.repetition_penalty for each in settings]),
        per_pair([each.frequency_penalty for each in settings]),
        per_pair([each.presence_penalty for each in settings]),
    )
    logit_N = logits_RV[row, id_]
    logit_N = torch.where(logit_N > 0, logit_N / repetition, logit_N * repetition)
    logits_RV[row, id_] = logit_N - frequency * count - presence * (count > 0)


def _keep_allowed(logits_RV: torch.Tensor, states: Sequence[SampleState]) -> None:
    for row, state in enumerate(states):
        if state.allowed_ids is not None:
            (allowed,) = _on(logits_RV, state.allowed_ids)
            kept = logits_RV[row, allowed]
            logits_RV[row] = -torch.inf
            logits_RV[row, allowed] = kept


def _follow_grammars(logits_RV: torch.Tensor, states: Sequence[SampleState]) -> None:
    vocabulary = logits_RV.shape[1]
    for row, state in enumerate(states):
        if state.matcher:
            (allowed_V,) = _on(logits_RV, state.matcher.allowed(vocabulary))
            logits_RV[row].masked_fill_(~allowed_V, -torch.inf)
