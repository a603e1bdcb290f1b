"""Which layout turns records into tokens."""

from typing import Any, Protocol

from asynckit.models.light_tokenizer import LightTokenizer
from asynckit.tokenization.arrays import Encode
from asynckit.tokenization.config import TokenizationConfig
from asynckit.tokenization.layouts.chats import Chats
from asynckit.tokenization.layouts.documents import Documents
from asynckit.tokenization.layouts.pairs import Pairs
from asynckit.tokenization.layouts.special_tokens import around
from asynckit.tokenization.records import LaidOut


class Layout(Protocol):
    """What one record becomes.

    Attributes:
        fields: where its parts are in a record, in the order of the columns.
    """

    fields: tuple[str, ...]

    def lay_out(self, columns: tuple[list[Any], ...]) -> LaidOut:
        """Tokens of a batch of records: for each field, the records' values."""
        ...


def layout_for(
    config: TokenizationConfig,
    tokenizer: LightTokenizer,
    encode: Encode,
    encode_again: Encode | None = None,
) -> Layout:
    """The layout of ``config.mode``.

    Args:
        config: the settings.
        tokenizer: for special tokens and the chat template.
        encode: ids of texts, without special tokens around them.
        encode_again: the same for parts of texts, to find borders in them: what it gives is used only where
            it equals what ``encode`` gave, so nobody has to check it; ``encode`` if there is no such other.

    Raises:
        ConfigError: the tokenizer can't do what the settings ask for.
    """
    if config.mode == "chat":
        return Chats(config, tokenizer, encode, encode_again or encode)
    layout = Pairs if config.mode == "pairs" else Documents
    return layout(config, around(config, tokenizer), encode)
