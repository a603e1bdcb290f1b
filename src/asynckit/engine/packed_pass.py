"""The call of a transformers model over one packed row of tokens."""

import torch
from torch import nn
from transformers import PreTrainedModel

from asynckit.engine.attention import Batch


def run_packed(
    model: nn.Module,
    token_T: torch.Tensor,
    position_T: torch.Tensor,
    batch: Batch,
    wanted_S: torch.Tensor | None = None,
) -> torch.Tensor:
    """Run a pass; returns the logits ``[S, V]`` of the wanted rows.

    Args:
        model: a causal language model with our attention in it.
        token_T: token ids of all sequences, side by side.
        position_T: of each token in its sequence.
        batch: says which rows belong to which sequence.
        wanted_S: rows whose logits are wanted; None for all.
    """
    output = model(
        input_ids=token_T[None],
        position_ids=position_T[None],
        use_cache=False,
        logits_to_keep=0 if wanted_S is None else wanted_S,
        batch=batch,
    )
    return output.logits[0]  # type: ignore[no-any-return]


def hidden_packed(
    model: PreTrainedModel, token_T: torch.Tensor, position_T: torch.Tensor, batch: Batch
) -> torch.Tensor:
    """Run a pass that ends before the output embedding; returns the last hidden states ``[T, D]``."""
    output = model.base_model(
        input_ids=token_T[None], position_ids=position_T[None], use_cache=False, batch=batch
    )
    return output.last_hidden_state[0]  # type: ignore[no-any-return]
