"""Tokenizers that are more than the Rust library's, behind the few of its calls that are needed."""

from collections.abc import Sequence
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


class PythonTokenizer:
    """A tokenizer of transformers with its own Python code for encoding or decoding."""

    decoder = None

    def __init__(self, tokenizer: "PreTrainedTokenizerBase") -> None:
        self._tokenizer: Any = tokenizer

    def encode(self, text: str, add_special_tokens: bool) -> Any:
        """Token ids of a text, in ``ids``."""
        return SimpleNamespace(ids=self._tokenizer(text, add_special_tokens=add_special_tokens)["input_ids"])

    def decode(self, ids: Sequence[int], skip_special_tokens: bool) -> str:
        """Text of token ids; ids that no token has add nothing."""
        known = [id_ for id_ in ids if self.id_to_token(id_) is not None]
        text: str = self._tokenizer.decode(known, skip_special_tokens=skip_special_tokens)
        return text

    def decode_batch(self, many: Sequence[Sequence[int]], skip_special_tokens: bool) -> list[str]:
        """Texts of several lists."""
        return [self.decode(ids, skip_special_tokens) for ids in many]

    def id_to_token(self, token_id: int) -> str | None:
        """The vocabulary's entry; None where it has none."""
        try:
            token: str | None = self._tokenizer.convert_ids_to_tokens(token_id)
        except (IndexError, KeyError, OverflowError):  # each tokenizer has its own way to say so
            return None
        return token

    def token_to_id(self, token: str) -> int:
        """Id of a token that is there."""
        token_id: int = self._tokenizer.convert_tokens_to_ids(token)
        return token_id

    def get_vocab(self, with_added_tokens: bool) -> dict[str, int]:  # noqa: ARG002 - it has all of them
        """Ids by token."""
        vocabulary: dict[str, int] = self._tokenizer.get_vocab()
        return vocabulary

    def get_added_tokens_decoder(self) -> dict[int, Any]:
        """The special tokens by id."""
        return {id_: SimpleNamespace(special=True) for id_ in self._tokenizer.all_special_ids}

    def apply_chat_template(self, messages: Sequence[Any], **arguments: Any) -> str:
        """Lay out a chat."""
        rendered: str = self._tokenizer.apply_chat_template(messages, tokenize=False, **arguments)
        return rendered
