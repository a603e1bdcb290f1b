"""The number type that tokens have on the disk."""

from typing import Any

import numpy as np

MEGATRON_UINT16_BELOW = 65_500
"""Megatron writes 16 bits for vocabularies smaller than this (``DType.optimal_dtype``)."""


def token_dtype(file_format: str, vocabulary: int) -> np.dtype[Any]:
    """The smallest type that holds every id and that the format's readers expect.

    Four bytes are signed: torch indexes with int32 and not with uint32, and no vocabulary is that large.

    Args:
        file_format: megatron, npy, parquet or arrow.
        vocabulary: one more than the largest id.

    Returns:
        Little-endian uint16 or int32.
    """
    below = {"megatron": MEGATRON_UINT16_BELOW - 1, "npy": 1 << 16}.get(file_format, 0)
    return np.dtype("<u2" if vocabulary <= below else "<i4")
