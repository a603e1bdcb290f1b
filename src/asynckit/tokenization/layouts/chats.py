"""A record is a chat: its tokens by the chat template, and a loss mask on what the assistant says.

The template makes text of a chat, and stretches of that text are the assistant's. The whole text is encoded,
since that is what a model sees, and then the stretches between the borders are encoded too: where they give
the same tokens one after another, the borders fall between tokens, and the mask is plain. Only where they
don't is a slower way taken (:mod:`asynckit.tokenization.layouts.turns`).
"""

from itertools import accumulate, pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from asynckit.errors import ConfigError, InputError
from asynckit.models.light_tokenizer import LightTokenizer
from asynckit.tokenization.arrays import Encode, Ragged
from asynckit.tokenization.config import TokenizationConfig
from asynckit.tokenization.layouts.chat_messages import messages_of, tools_of
from asynckit.tokenization.layouts.chat_templates import NO_CHAT, ChatTemplate, RenderedChat
from asynckit.tokenization.layouts.masks import Reasons, with_masks
from asynckit.tokenization.layouts.turns import Turns
from asynckit.tokenization.records import LaidOut

_REASONS = Reasons(
    nothing="nothing in it is the assistant's: the loss mask would be all zeros",
    everything="all of it is the assistant's: the loss mask would be all ones",
)


class Chats:
    """Chats through the tokenizer's template, which puts all special tokens itself."""

    def __init__(
        self, config: TokenizationConfig, tokenizer: LightTokenizer, encode: Encode, encode_again: Encode
    ) -> None:
        tools = () if config.tools_field is None else (config.tools_field,)
        self.fields: tuple[str, ...] = (config.field or "messages", *tools)
        self._without_tools = _template(config, tokenizer, tools=False)
        self._with_tools = _template(config, tokenizer, tools=True) if tools else self._without_tools
        self._encode, self._encode_again = encode, encode_again
        self._max_length = config.max_length
        self._turns = Turns(tokenizer, encode_again)

    def lay_out(self, columns: tuple[list[Any], ...]) -> LaidOut:
        """Tokens and mask of a batch of chats; what is too long loses its end."""
        refused: dict[int, str] = {}
        chats = [NO_CHAT] * len(columns[0])
        for index, values in enumerate(zip(*columns, strict=True)):
            try:
                chats[index] = self._rendered(*values)
            except InputError as error:
                refused[index] = str(error)
        rows, pieces = self._encoded(chats)
        mask = np.zeros(len(rows.values), dtype=np.uint8)
        for index, chat in enumerate(chats):
            try:
                spans = self._turns.in_tokens(chat, rows.row(index), pieces[index])
            except InputError as error:
                refused[index] = str(error)
                continue
            for start, end in spans:
                mask[rows.offsets[index] + start : rows.offsets[index] + end] = 1
        return with_masks(rows, mask, refused, self._max_length, _REASONS)

    def _rendered(self, value: Any, tools_value: Any = None) -> RenderedChat:
        messages, tools = messages_of(value), tools_of(tools_value)
        template = self._without_tools if tools is None else self._with_tools
        return template.lay_out(messages, tools)

    def _encoded(self, chats: list[RenderedChat]) -> tuple[Ragged, list[Ragged]]:
        """The chats' tokens, and for each chat those of its pieces, encoded one by one."""
        rows = self._encode([chat.text for chat in chats])
        parts = [[chat.text[start:end] for start, end in pairwise(chat.borders)] for chat in chats]
        values, offsets = self._encode_again([text for pieces in parts for text in pieces])
        ends = accumulate(map(len, parts), initial=0)
        return rows, [_rows_between(values, offsets, start, end) for start, end in pairwise(ends)]


def _rows_between(values: NDArray[np.uint32], offsets: NDArray[np.int64], start: int, end: int) -> Ragged:
    return Ragged(values[offsets[start] : offsets[end]], offsets[start : end + 1] - offsets[start])


def _template(config: TokenizationConfig, tokenizer: LightTokenizer, *, tools: bool) -> ChatTemplate:
    if config.bos == "add":
        raise ConfigError(
            "the chat template puts BOS where it belongs; another one would be there twice",
            where="tokenization.bos",
            mend="leave out --bos",
        )
    template = tokenizer.template(tools=tools)
    if template is None:
        raise ConfigError(
            "the tokenizer has no chat template",
            where="tokenization.mode",
            mend="take a chat model's tokenizer, or --mode documents or pairs",
        )
    return ChatTemplate(tokenizer, template, config.chat_date)
