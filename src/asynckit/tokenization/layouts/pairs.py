"""A record is a prompt and its completion: a trainer learns the completion, and where it ends."""

from typing import Any

import numpy as np

from asynckit.tokenization.arrays import Encode, Ragged
from asynckit.tokenization.config import TokenizationConfig
from asynckit.tokenization.layouts.documents import doubled
from asynckit.tokenization.layouts.masks import Reasons, with_masks
from asynckit.tokenization.layouts.rows import Around, surrounded, surrounded_rows
from asynckit.tokenization.records import LaidOut

_REASONS = Reasons(
    nothing="the completion has no tokens: there is nothing to learn",
    everything="the prompt has no tokens: it is a document (--mode documents), not a pair",
)


class Pairs:
    """Prompt and completion, each encoded by itself, as a prompt is when a model is asked."""

    def __init__(self, config: TokenizationConfig, around: Around, encode: Encode) -> None:
        self.fields: tuple[str, ...] = (config.prompt_field, config.completion_field)
        self._around = around
        self._encode = encode
        self._max_length = config.max_length

    def lay_out(self, columns: tuple[list[Any], ...]) -> LaidOut:
        """Tokens and mask of a batch of pairs; what is too long loses its end, EOS too."""
        prompts, completions = columns
        halves = self._encode([text for pair in zip(prompts, completions, strict=True) for text in pair])
        rows = Ragged(halves.values, halves.offsets[::2])
        is_completion = np.resize(np.array([0, 1], dtype=np.uint8), len(halves.offsets) - 1)
        mask = np.repeat(is_completion, halves.lengths())
        refused = dict(doubled(rows, self._around))
        prefix, suffix = self._around
        mask = surrounded(mask, rows.offsets, [0] * len(prefix), [1] * len(suffix))
        rows = surrounded_rows(rows, prefix, suffix)
        return with_masks(rows, mask, refused, self._max_length, _REASONS)
