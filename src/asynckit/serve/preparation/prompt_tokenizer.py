"""The tokenizer of a preparer: a light one, with what laying out chats safely needs besides."""

from typing import TYPE_CHECKING, Any, Self

from asynckit.models.config import ModelConfig
from asynckit.models.light_tokenizer import LightTokenizer
from asynckit.models.tokenizer_parts import TokenizerParts, load_parts

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


class PromptTokenizer:
    """Encodes prompts.

    Attributes:
        light: encodes and decodes.
        specials: special tokens, from their text to their id.
        longest_token: characters of the longest token.
    """

    def __init__(self, tokenizer: "TokenizerParts | PreTrainedTokenizerBase") -> None:
        self._tokenizer: Any = tokenizer
        self._is_parts = isinstance(tokenizer, TokenizerParts)
        self.light = LightTokenizer(tokenizer)
        backend: Any = tokenizer.backend if isinstance(tokenizer, TokenizerParts) else tokenizer
        self.specials = {self.light.token_text(id_): id_ for id_ in sorted(self.light.special_ids)}
        self.specials.pop("", None)
        self.longest_token = max(map(len, backend.get_vocab()))

    @classmethod
    def load(cls, config: ModelConfig) -> Self:
        """The model's tokenizer; raises as :func:`asynckit.models.tokenizer.load_tokenizer` does."""
        return cls(load_parts(config))

    def template(self, *, tools: bool) -> str:
        """The chat template for chats with tools or without; empty where the model has none."""
        return self.light.template(tools=tools) or ""

    def encode_literally(self, text: str) -> list[int]:
        """Token ids of a text in which special tokens are nothing but text."""
        if not self._is_parts:
            ids: list[int] = self._tokenizer(text, add_special_tokens=False, split_special_tokens=True)[
                "input_ids"
            ]
            return ids
        backend = self._tokenizer.backend
        backend.encode_special_tokens = True
        try:
            return list(backend.encode(text, add_special_tokens=False).ids)
        finally:
            backend.encode_special_tokens = False
