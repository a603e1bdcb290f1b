"""A record is a text: its tokens, with BOS and EOS as the settings say."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from asynckit.errors import ConfigError
from asynckit.tokenization.arrays import Encode, Ragged, offsets_of
from asynckit.tokenization.config import TokenizationConfig
from asynckit.tokenization.layouts.rows import (
    Around,
    begins_within,
    ends_within,
    heads_mask,
    surrounded_rows,
)
from asynckit.tokenization.records import LaidOut

BOS_TWICE = (
    "begins with the token that is put before each: it would be there twice (take it out, or --bos none)"
)
EOS_TWICE = "ends with the token that is put after each: it would be there twice (take it out, or --eos none)"


class Documents:
    """Texts with the same special tokens around each; no loss mask, since a trainer learns everywhere."""

    def __init__(self, config: TokenizationConfig, around: Around, encode: Encode) -> None:
        self.fields: tuple[str, ...] = (config.field or "text",)
        self._around = around
        self._encode = encode
        self._room = room_for_text(config, around)

    def lay_out(self, columns: tuple[list[Any], ...]) -> LaidOut:
        """Tokens of a batch of texts. What is too long loses its end, but keeps the tokens around it."""
        texts: list[str] = columns[0]
        rows = self._encode(texts)
        refused = doubled(rows, self._around)
        lengths = rows.lengths()
        wanted = lengths if self._room is None else np.minimum(lengths, self._room)
        kept = np.arange(len(texts))
        if refused:
            kept = np.delete(kept, [index for index, _ in refused])
        cut = lengths[kept] - wanted[kept]
        rows = rows_of(rows, kept, wanted[kept])
        tokens = surrounded_rows(rows, *self._around)
        return LaidOut(tokens, None, kept, refused, int(np.count_nonzero(cut)), int(cut.sum()))


def room_for_text(config: TokenizationConfig, around: Around) -> int | None:
    """How many of a text's own tokens ``max_length`` leaves room for; None for all."""
    if config.max_length is None:
        return None
    room = config.max_length - len(around.prefix) - len(around.suffix)
    if room < 1:
        raise ConfigError(
            f"{config.max_length} tokens leave no room for text beside the special tokens",
            where="tokenization.max_length",
            mend="allow more",
        )
    return room


def doubled(rows: Ragged, around: Around) -> list[tuple[int, str]]:
    """Rows that have a special token already where one is put: index and reason, in order."""
    reasons = dict.fromkeys(np.flatnonzero(ends_within(rows, around.suffix)).tolist(), EOS_TWICE)
    reasons |= dict.fromkeys(np.flatnonzero(begins_within(rows, around.prefix)).tolist(), BOS_TWICE)
    return sorted(reasons.items())


def rows_of(rows: Ragged, kept: NDArray[np.int64], lengths: NDArray[np.int64]) -> Ragged:
    """The first ``lengths[i]`` tokens of the row ``kept[i]``; the rows themselves where these are all."""
    wanted = np.zeros(len(rows.offsets) - 1, dtype=np.int64)
    wanted[kept] = lengths
    if len(kept) == len(wanted) and np.array_equal(wanted, rows.lengths()):
        return rows
    return Ragged(rows.values[heads_mask(rows.offsets, wanted)], offsets_of(lengths))
