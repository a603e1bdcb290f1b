"""A tokenizer for processes that hold no model: transformers' ids and text without torch."""

import os
import re
import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Self, cast

from asynckit.models.config import ModelConfig
from asynckit.models.local import LocalModel
from asynckit.models.python_tokenizer import PythonTokenizer
from asynckit.models.token_bytes import byte_level_bytes, decoder_kinds, fallback_bytes
from asynckit.models.tokenizer_parts import TokenizerParts, load_parts, parts_of

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

GENERATION = re.compile(r"\{%-?\s*generation\s*-?%\}")
"""Opens what the model is to say in a chat template, as transformers finds it."""

_MARKS = (".", "?", "!", ",", "' ", "n't", "'m", "'s", "'ve", "'re")


def keep_torch_out(config: ModelConfig) -> None:
    """Make this process a light one: importing torch fails from now on, so transformers goes without it.

    That saves 2 s of CPU and 260 MB where transformers is needed at all. Call it first of all in a process
    that will never need torch. Nothing happens where the tokenizer's own Python code is trusted, which may
    need torch, nor where torch is imported already.
    """
    if not config.trust_remote_code:
        os.environ["TRANSFORMERS_NO_ADVISORY_WARNINGS"] = "1"  # it would say that torch is missing
        sys.modules.setdefault("torch", None)  # type: ignore[arg-type]  # how Python says "can't be imported"


class LightTokenizer:
    """Text to token ids and back, and chat templates, exactly as transformers' ``AutoTokenizer`` has them.

    Attributes:
        chat_template: what lays out chats without tools; None where the model has none.
        special_ids: tokens that ``skip_special_tokens`` leaves out.
        vocabulary: one more than the highest id.
        fallback: bytes by the ids of the tokens that spell one byte each; empty for byte-level vocabularies.
        has_offsets: whether :meth:`offsets` knows; tokenizers with Python code of their own don't.
        cleans: whether decoding removes the spaces before punctuation; :meth:`decode_windows` doesn't.
    """

    def __init__(self, tokenizer: "TokenizerParts | PreTrainedTokenizerBase") -> None:
        parts = tokenizer if isinstance(tokenizer, TokenizerParts) else parts_of(tokenizer)
        self._python = None if parts else PythonTokenizer(tokenizer)
        self._backend = cast("Any", parts.backend if parts else self._python)
        self.has_offsets = parts is not None
        self._special_tokens = parts.special_tokens if parts else _named(tokenizer)
        self._templates = parts.chat_template if parts else tokenizer.chat_template
        self.cleans = parts.cleans if parts else False
        self.chat_template = self.template(tools=False)
        added = self._backend.get_added_tokens_decoder()
        self.special_ids = frozenset(id_ for id_, token in added.items() if token.special)
        self.vocabulary = max(self._backend.get_vocab(with_added_tokens=True).values()) + 1
        self.fallback = fallback_bytes(self._backend)
        self._is_byte_level = "ByteLevel" in decoder_kinds(self._backend)
        self._known: dict[int, tuple[str, bytes]] = {}
        self._before = self._ordinary_token()

    @classmethod
    def load(cls, config: ModelConfig, model: LocalModel | None = None) -> Self:
        """The model's tokenizer; raises as :func:`asynckit.models.tokenizer.load_tokenizer` does."""
        return cls(load_parts(config, model))

    def encode(self, text: str, add_special_tokens: bool = True) -> list[int]:
        """Token ids of a text. Special tokens that are typed in the text become those tokens."""
        ids: list[int] = self._backend.encode(text, add_special_tokens=add_special_tokens).ids
        return ids

    def offsets(self, text: str) -> list[tuple[int, int]]:
        """For each token of a text, without special tokens around it, where its characters begin and end."""
        offsets: list[tuple[int, int]] = self._backend.encode(text, add_special_tokens=False).offsets
        return offsets

    def decode(self, ids: Sequence[int], skip_special_tokens: bool = False) -> str:
        """Text of token ids; ids that no token has add nothing."""
        return self.clean(self._backend.decode(self._possible(ids), skip_special_tokens=skip_special_tokens))

    def decode_batch(self, many: Iterable[Sequence[int]], skip_special_tokens: bool = False) -> list[str]:
        """Texts of several lists of token ids, in one call."""
        possible = [self._possible(ids) for ids in many]
        texts = self._backend.decode_batch(possible, skip_special_tokens=skip_special_tokens)
        return [self.clean(text) for text in texts]

    def decode_windows(self, many: list[list[int]]) -> list[str]:
        """Texts of several lists of known token ids before :meth:`clean`, special tokens too, in one call."""
        texts: list[str] = self._backend.decode_batch(many, skip_special_tokens=False)
        return texts

    def clean(self, text: str) -> str:
        """What ``clean_up_tokenization_spaces`` makes of a decoded text; the text itself for most."""
        return _without_spaces_before_marks(text) if self.cleans else text

    def knows(self, token_id: int) -> bool:
        """Whether a token has this id."""
        return 0 <= token_id < self.vocabulary and self._backend.id_to_token(token_id) is not None

    def named_id(self, name: str) -> int | None:
        """Id of ``bos_token``, ``eos_token``, ``pad_token`` or ``unk_token``; None where there is none."""
        token = self._special_tokens.get(name)
        found: int | None = None if token is None else self._backend.token_to_id(token)
        return found

    def token_text(self, token_id: int) -> str:
        """A token as the text that it adds after another, special ones too; half a character is U+FFFD."""
        return self._look_up(token_id)[0]

    def token_bytes(self, token_id: int) -> bytes:
        """What a token stands for in the text's UTF-8, which may be a part of a character."""
        return self._look_up(token_id)[1]

    def all_bytes(self) -> list[bytes]:
        """:meth:`token_bytes` of every id below ``vocabulary``, in one go."""
        spelled = [b""] * self.vocabulary
        known = [id_ for id_ in range(self.vocabulary) if self.knows(id_)]
        if self._is_byte_level:
            for id_ in known:
                spelled[id_] = byte_level_bytes(self._backend.id_to_token(id_))
        else:
            before, *texts = self.decode_windows([[self._before], *([self._before, id_] for id_ in known)])
            for id_, text in zip(known, texts, strict=True):
                spelled[id_] = text[len(before) :].encode()
        for id_, byte in self.fallback.items():
            spelled[id_] = bytes([byte])
        return spelled

    def render_chat(
        self,
        messages: Sequence[Mapping[str, Any]],
        tools: Sequence[Mapping[str, Any]] | None = None,
        *,
        add_generation_prompt: bool = True,
        **arguments: Any,
    ) -> str:
        """Lay out a chat by the model's template; encode the result with ``add_special_tokens=False``.

        The first call imports transformers without torch (0.5 s of CPU).

        Args:
            messages: with roles, as the template knows them; at least one.
            tools: JSON schemas of functions.
            add_generation_prompt: end with what makes the model answer.
            arguments: for the template, or ``continue_final_message=True``.

        Raises:
            jinja2.TemplateError, TypeError, ValueError, KeyError: the template can't lay them out.
        """
        if not messages:
            raise ValueError("a chat has at least one message")
        if arguments.get("continue_final_message") and add_generation_prompt:
            raise ValueError("continue_final_message and add_generation_prompt contradict each other")
        arguments["add_generation_prompt"] = add_generation_prompt
        template = self.template(tools=tools is not None)
        if template is None and not self._python:
            raise ValueError("the tokenizer has no chat template")
        return self._lay_out(template, messages, tools, arguments)[0]

    def render_marked(
        self,
        template: str,
        messages: Sequence[Mapping[str, Any]],
        tools: Sequence[Mapping[str, Any]] | None = None,
        *,
        add_generation_prompt: bool = False,
    ) -> tuple[str, list[tuple[int, int]]]:
        """Lay out a chat by another template, and say where in it ``{% generation %}`` began and ended.

        The places are character positions, none where :attr:`has_offsets` is false. Raises as
        :meth:`render_chat` does.
        """
        arguments: dict[str, Any] = {"add_generation_prompt": add_generation_prompt}
        if self._python:
            arguments["chat_template"] = template
        elif GENERATION.search(template):
            arguments["return_assistant_tokens_mask"] = True
        return self._lay_out(template, messages, tools, arguments)

    def _lay_out(
        self,
        template: str | None,
        messages: Sequence[Mapping[str, Any]],
        tools: Sequence[Mapping[str, Any]] | None,
        arguments: dict[str, Any],
    ) -> tuple[str, list[tuple[int, int]]]:
        present = [{key: value for key, value in one.items() if value is not None} for one in messages]
        arguments["tools"] = None if tools is None else [dict(tool) for tool in tools]
        if self._python:
            return self._python.apply_chat_template(present, **arguments), []
        from transformers.utils.chat_template_utils import render_jinja_template

        arguments = {**self._special_tokens, **arguments}
        texts, marked = render_jinja_template(conversations=[present], chat_template=template, **arguments)
        return texts[0], marked[0] if marked else []

    def template(self, *, tools: bool) -> str | None:
        """The chat template for chats with tools or without; None where the model has none."""
        if not isinstance(self._templates, dict):
            return self._templates
        return self._templates.get("tool_use" if tools else "default", self._templates.get("default"))

    def _possible(self, ids: Sequence[int]) -> list[int]:
        return [id_ for id_ in ids if 0 <= id_ < self.vocabulary]  # the Rust library takes 32 bits only

    def _look_up(self, token_id: int) -> tuple[str, bytes]:
        known = self._known.get(token_id)
        if known is None:
            known = self._known[token_id] = self._spell(token_id)
        return known

    def _spell(self, token_id: int) -> tuple[str, bytes]:
        if not self.knows(token_id):
            return "", b""
        both, before = self.decode_windows([[self._before, token_id], [self._before]])
        text = both[len(before) :]
        if token_id in self.fallback:
            return text, bytes([self.fallback[token_id]])
        if self._is_byte_level:
            return text, byte_level_bytes(self._backend.id_to_token(token_id))
        return text, text.encode()

    def _ordinary_token(self) -> int:
        """A token with text and without half characters: decoders treat the first token unlike the others."""
        for id_ in range(self.vocabulary):
            if id_ in self.special_ids or id_ in self.fallback or not self.knows(id_):
                continue
            if self._backend.decode([id_], skip_special_tokens=False).isalnum():
                return id_
        return 0


def _named(tokenizer: "PreTrainedTokenizerBase") -> dict[str, str]:
    return {name: str(token) for name, token in tokenizer.special_tokens_map.items()}


def _without_spaces_before_marks(text: str) -> str:
    """What ``PreTrainedTokenizerBase.clean_up_tokenization`` does, in its order."""
    for mark in _MARKS:
        text = text.replace(f" {mark}", mark.rstrip())
    return text
