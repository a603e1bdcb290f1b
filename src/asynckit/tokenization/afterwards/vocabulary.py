"""The tokenizer that shards were made with: found again, compared by its digest, and asked about its ids."""

import json
from collections.abc import Sequence
from dataclasses import replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from asynckit.errors import DependencyError, InputError
from asynckit.models.config import ModelConfig
from asynckit.models.light_tokenizer import LightTokenizer
from asynckit.models.tokenizer_parts import TokenizerParts, load_parts, parts_digest
from asynckit.tokenization.afterwards.statistics import Spelling
from asynckit.tokenization.outputs.manifest import TokenizerRecord

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


class Vocabulary:
    """What is known of the ids in a folder of shards.

    Attributes:
        parts: of the tokenizer that made them.
        tokenizer: it.
        special: ids of the special tokens.
        unknown: id of the token that the model gives for text it lacks; None where it lacks none.
    """

    def __init__(self, parts: "TokenizerParts | PreTrainedTokenizerBase") -> None:
        self.parts = parts
        self.tokenizer = LightTokenizer(parts)
        self.special = self.tokenizer.special_ids
        self.unknown = _unknown_id(parts)

    def written(self, token_id: int) -> str:
        """A token for a person: special ones as they are, text quoted, bytes that are no text as bytes."""
        spelled = self.tokenizer.token_bytes(token_id)
        if not _is_text(spelled):
            return repr(spelled)
        return spelled.decode() if token_id in self.special else repr(spelled.decode())

    def marked(self, ids: Sequence[int], here: int) -> tuple[str, str, str]:
        """The text of some tokens, special ones too, in three parts.

        Args:
            ids: of the tokens.
            here: index of the one that is marked.

        Returns:
            What comes before it, the characters that it is or belongs to, and what comes after. Bytes that
            are no text are escaped.
        """
        spelled = [self.tokenizer.token_bytes(id_) for id_ in ids]
        whole, start = b"".join(spelled), sum(map(len, spelled[:here]))
        end = start + len(spelled[here])
        if end > start:
            start -= next((back for back in range(4) if not _goes_on(whole, start - back)), 0)
            end += next((more for more in range(4) if not _goes_on(whole, end + more)), 0)
        parts = whole[:start], whole[start:end], whole[end:]
        before, at, after = (part.decode("utf-8", "backslashreplace") for part in parts)
        return before, at, after

    @cached_property
    def spelled(self) -> list[bytes]:
        """What each id stands for in the text's UTF-8."""
        return self.tokenizer.all_bytes()

    def byte_ids(self) -> frozenset[int]:
        """Ids of tokens of bytes, not of characters: byte fallback, or a part of a character."""
        parts = (id_ for id_, spelled in enumerate(self.spelled) if not _is_text(spelled))
        return frozenset(self.tokenizer.fallback).union(parts)

    def spelling(self, ids: int) -> Spelling:
        """What all ids below ``ids`` stand for."""
        bytes_ = np.zeros(ids, np.int32)
        text = np.ones(ids, np.uint8)
        lengths = [len(spelled) for spelled in self.spelled[:ids]]
        bytes_[: len(lengths)] = lengths
        special = [id_ for id_ in self.special if id_ < ids]
        bytes_[special] = 0
        text[special] = 0
        return Spelling(bytes_, text)


def open_vocabulary(record: TokenizerRecord, config: ModelConfig, name: str | None = None) -> Vocabulary:
    """The vocabulary of a manifest.

    Args:
        record: of the manifest.
        config: where models are looked for.
        name: of the tokenizer, where it is not where it was.

    Raises:
        DependencyError: the tokenizer can't be found.
        InputError: it is another one.
    """
    try:
        parts = load_parts(replace(config, tokenizer=name or record.name))
    except DependencyError as error:
        raise type(error)(
            error.message, where=error.where, mend="say where the tokenizer is now with --tokenizer"
        ) from error
    found = parts_digest(parts)
    if found != record.digest:
        raise InputError(
            f"the tokenizer is not the one that made these tokens: its digest is {found[:12]}…, "
            f"theirs {record.digest[:12]}…",
            where=name or record.name,
            mend="name the right one with --tokenizer",
        )
    return Vocabulary(parts)


def _goes_on(text: bytes, at: int) -> bool:
    """Whether the byte at ``at`` is one inside of a character."""
    return 0 <= at < len(text) and text[at] & 0xC0 == 0x80


def _is_text(spelled: bytes) -> bool:
    try:
        spelled.decode()
    except UnicodeDecodeError:
        return False
    return True


def _unknown_id(parts: "TokenizerParts | PreTrainedTokenizerBase") -> int | None:
    """The model's own: tokenizers of transformers also name one where no text ever becomes it."""
    if not isinstance(parts, TokenizerParts):
        found: Any = parts.unk_token_id
        return None if found in {parts.eos_token_id, parts.bos_token_id} else found
    model: Any = parts.backend.model
    token = getattr(model, "unk_token", None)
    if token is not None:
        id_: int | None = parts.backend.token_to_id(token)
        return id_
    if type(model).__name__ != "Unigram":
        return None
    unknown: int | None = json.loads(model.__getstate__()).get("unk_id")
    return unknown
