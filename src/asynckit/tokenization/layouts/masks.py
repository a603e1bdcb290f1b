"""Rows with a loss mask: cut at a length, refused where the mask says nothing."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from asynckit.tokenization.arrays import Ragged, offsets_of
from asynckit.tokenization.layouts.rows import heads_mask, row_sums
from asynckit.tokenization.records import LaidOut


class Reasons(NamedTuple):
    """Why a row is refused, in the layout's words.

    Attributes:
        nothing: no token would be learned.
        everything: no token would not be learned.
    """

    nothing: str
    everything: str


_CUT_OFF = (
    "tokenization.max_length cuts off all that would be learned (allow more, or leave such records out)"
)


def with_masks(
    rows: Ragged,
    mask: NDArray[np.uint8],
    refused: dict[int, str],
    max_length: int | None,
    reasons: Reasons,
) -> LaidOut:
    """The rows that a trainer can learn from, cut at ``max_length`` tokens.

    Args:
        rows: of all records of the batch; of those in ``refused``, whatever.
        mask: uint8 ``[tokens]``.
        refused: reasons by index.
        max_length: None for whole rows.
        reasons: for what is refused here.
    """
    lengths = rows.lengths()
    wanted = lengths if max_length is None else np.minimum(lengths, max_length)
    whole_sums = row_sums(mask, rows.offsets)
    heads = heads_mask(rows.offsets, wanted)
    sums = row_sums(mask * heads, rows.offsets)
    refused = dict(refused)
    for faulty, reason in (
        (whole_sums == 0, reasons.nothing),
        (sums == 0, _CUT_OFF),
        (sums == wanted, reasons.everything),
    ):
        for index in np.flatnonzero(faulty).tolist():
            refused.setdefault(index, reason)
    kept = np.delete(np.arange(len(lengths)), list(refused))
    wanted_there = np.zeros_like(lengths)
    wanted_there[kept] = wanted[kept]
    chosen = heads_mask(rows.offsets, wanted_there)
    cut = (lengths - wanted)[kept]
    tokens = Ragged(rows.values[chosen], offsets_of(wanted[kept]))
    return LaidOut(
        tokens,
        mask[chosen],
        kept,
        sorted(refused.items()),
        int(np.count_nonzero(cut)),
        int(cut.sum()),
    )
