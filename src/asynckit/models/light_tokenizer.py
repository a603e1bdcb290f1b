"""A tokenizer for processes that hold no model: the same ids and text as transformers gives, without torch."""

import sys
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Self

from asynckit.models.config import ModelConfig
from asynckit.models.local import LocalModel
from asynckit.models.tokenizer import load_tokenizer

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


def keep_torch_out(config: ModelConfig) -> None:
    """Make this process a light one: importing torch fails from now on, so transformers goes without it.

    That saves 2 s of CPU and 260 MB. Call it first of all in a process that will never need torch. Nothing
    happens where the tokenizer's own Python code is trusted, which may need torch, nor after its import.
    """
    if not config.trust_remote_code:
        sys.modules.setdefault("torch", None)  # type: ignore[arg-type]  # how Python says "can't be imported"


class LightTokenizer:
    """Text to token ids and back, and chat templates; every answer is that of transformers' ``AutoTokenizer``.

    Attributes:
        chat_template: what lays out chats without tools; None where the model has none.
        special_ids: tokens that ``skip_special_tokens`` leaves out.
        vocabulary: one more than the highest id.
    """

    def __init__(self, tokenizer: "PreTrainedTokenizerBase") -> None:
        self._tokenizer: Any = tokenizer
        self.chat_template: str | None = tokenizer.chat_template
        self.special_ids = frozenset(tokenizer.all_special_ids)
        self.vocabulary = max(tokenizer.get_vocab().values()) + 1

    @classmethod
    def load(cls, config: ModelConfig, model: LocalModel | None = None) -> Self:
        """The model's tokenizer; raises as :func:`asynckit.models.tokenizer.load_tokenizer` does."""
        return cls(load_tokenizer(model, config))

    def encode(self, text: str, add_special_tokens: bool = True) -> list[int]:
        """Token ids of a text. Special tokens that are typed in the text become those tokens."""
        ids: list[int] = self._tokenizer(text, add_special_tokens=add_special_tokens)["input_ids"]
        return ids

    def decode(self, ids: Sequence[int], skip_special_tokens: bool = False) -> str:
        """Text of token ids; unknown ids add nothing."""
        text: str = self._tokenizer.decode(list(ids), skip_special_tokens=skip_special_tokens)
        return text

    def decode_batch(self, many: Sequence[Sequence[int]], skip_special_tokens: bool = False) -> list[str]:
        """Texts of several lists of token ids, in one call."""
        return [self.decode(ids, skip_special_tokens) for ids in many]

    def token_text(self, token_id: int) -> str:
        """A token by itself as text, special ones too; half a character is U+FFFD."""
        return self.decode([token_id])

    def token_bytes(self, token_id: int) -> bytes:
        """What a token stands for in the text's UTF-8, which may be a part of a character."""
        return self.token_text(token_id).encode()

    def render_chat(
        self,
        messages: Sequence[Mapping[str, Any]],
        tools: Sequence[Mapping[str, Any]] | None = None,
        *,
        add_generation_prompt: bool = True,
        **arguments: Any,
    ) -> str:
        """Lay out a chat by the model's template; encode the result with ``add_special_tokens=False``.

        Args:
            messages: with roles, as the template knows them.
            tools: JSON schemas of functions.
            add_generation_prompt: end with what makes the model answer.
            arguments: for the template, or ``continue_final_message=True``.

        Raises:
            jinja2.TemplateError, TypeError, ValueError, KeyError: the template can't lay them out.
        """
        rendered: str = self._tokenizer.apply_chat_template(
            [dict(message) for message in messages],
            tools=[dict(tool) for tool in tools] if tools is not None else None,
            add_generation_prompt=add_generation_prompt,
            tokenize=False,
            **arguments,
        )
        return rendered
