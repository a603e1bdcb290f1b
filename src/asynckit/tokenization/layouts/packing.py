"""From documents to the sequences that a trainer reads."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from asynckit.tokenization.config import TokenizationConfig
from asynckit.tokenization.records import LaidOut, Sequences


def pack(
    laid_out: Sequence[LaidOut],
    starts: NDArray[np.int64],
    ends: NDArray[np.int64],
    config: TokenizationConfig,
    padding: int,
) -> Sequences:
    """The sequences of one unit.

    Args:
        laid_out: its batches, in order.
        starts: where each document that was kept begins in its source, int64 ``[documents]``.
        ends: after where each ends.
        config: ``pack_length`` and ``packing`` decide.
        padding: id that fills what is left of a packed sequence.
    """
    tokens = _joined([batch.tokens.values for batch in laid_out], np.uint32)
    lengths = _joined([batch.tokens.lengths() for batch in laid_out], np.int64)
    masks = [batch.loss_mask for batch in laid_out if batch.loss_mask is not None]
    mask = _joined(masks, np.uint8) if masks else None
    firsts = np.cumsum(lengths) - lengths
    return Sequences(tokens, lengths, mask, np.arange(len(lengths)), firsts, lengths, starts, ends)


def _joined(parts: Sequence[NDArray[Any]], dtype: DTypeLike) -> NDArray[Any]:
    if len(parts) == 1:
        return parts[0]
    return np.concatenate(parts) if parts else np.empty(0, dtype)
