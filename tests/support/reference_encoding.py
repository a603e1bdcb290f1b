"""Ids as the reference gives them, in flat arrays."""

from collections.abc import Callable

import numpy as np

from asynckit.models.light_tokenizer import LightTokenizer
from asynckit.tokenization.arrays import Ragged


def reference_encode(tokenizer: LightTokenizer) -> Callable[[list[str]], Ragged]:
    """Encodes each text as the tokenizer does, without special tokens around it."""

    def encode(texts: list[str]) -> Ragged:
        rows = [tokenizer.encode(text, add_special_tokens=False) for text in texts]
        offsets = np.cumsum([0, *map(len, rows)], dtype=np.int64)
        return Ragged(np.array([id_ for row in rows for id_ in row], dtype=np.uint32), offsets)

    return encode
