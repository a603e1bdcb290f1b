"""The tokenizer of a preparer: a light one, with what laying out chats safely needs besides."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Self

from asynckit.models.config import ModelConfig
from asynckit.models.light_tokenizer import LightTokenizer
from asynckit.models.tokenizer import load_tokenizer

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


class PromptTokenizer:
    """Encodes prompts.

    Attributes:
        light: encodes and decodes.
        specials: special tokens, from their text to their id.
        longest_token: characters of the longest token.
    """

    def __init__(self, tokenizer: "PreTrainedTokenizerBase") -> None:
        self._tokenizer: Any = tokenizer
        self.light = LightTokenizer(tokenizer)
        self.specials = _specials(tokenizer)
        self.longest_token = max(map(len, tokenizer.get_vocab()))

    @classmethod
    def load(cls, config: ModelConfig) -> Self:
        """The model's tokenizer; raises as :func:`asynckit.models.tokenizer.load_tokenizer` does."""
        return cls(load_tokenizer(None, config))

    def template(self, *, tools: bool) -> str:
        """The chat template for chats with tools or without; empty where the model has none."""
        templates = self._tokenizer.chat_template
        if isinstance(templates, dict):
            return str(templates.get("tool_use" if tools else "default") or templates.get("default") or "")
        return templates or ""

    def encode_literally(self, text: str) -> list[int]:
        """Token ids of a text in which special tokens are nothing but text."""
        if not self._tokenizer.is_fast:
            ids: list[int] = self._tokenizer(text, add_special_tokens=False, split_special_tokens=True)[
                "input_ids"
            ]
            return ids
        backend = self._tokenizer.backend_tokenizer
        backend.encode_special_tokens = True
        try:
            return list(backend.encode(text, add_special_tokens=False).ids)
        finally:
            backend.encode_special_tokens = False


def _specials(tokenizer: "PreTrainedTokenizerBase") -> Mapping[str, int]:
    added = {token.content: id_ for id_, token in tokenizer.added_tokens_decoder.items() if token.special}
    named = dict(zip(tokenizer.all_special_tokens, tokenizer.all_special_ids, strict=True))
    return {**named, **added}
