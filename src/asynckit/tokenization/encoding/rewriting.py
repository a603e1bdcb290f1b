"""Tokenizers that gigatoken refuses, rewritten to ones that it takes and that give the same ids.

gigatoken reads some of what a ``tokenizer.json`` says and takes the rest for granted. So every setting is
looked at here first, and what it would pass over is refused. Then three things are rewritten:

- **Bytes without a token.** It wants one for every byte that UTF-8 can have. Those that the vocabulary lacks
  get a *pseudo id* above the vocabulary. A text in which one turns up is left to the reference.
- **Digits on their own.** It does not know the pre-tokenizer ``Digits``, which makes each number character a
  piece of its own before words are split. It does know added tokens, which are taken out of a text before
  everything else and leave the same pieces around them. So each number character becomes an added token: one
  that is a single token keeps that token's id, each other gets a pseudo id that stands for its tokens. These
  never depend on what is around it, since it was a piece of its own.
- **Marks of which the libraries' versions of Unicode say different things.** Where texts are brought to NFC,
  the characters concerned become added tokens with pseudo ids: a text that has one is left to the reference.

An added token of the tokenizer that has a number character in it still wins: of matches that begin at the
same place the longest is taken, and one character cannot begin inside a match that began before it.
"""

import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from asynckit.models.token_bytes import byte_alphabet
from asynckit.tokenization.encoding.characters import characters_with_doubtful_nfc, number_characters
from asynckit.tokenization.encoding.encoder import NotApplicable

_NEVER_IN_UTF8 = frozenset({0xC0, 0xC1, *range(0xF5, 0x100)})
_PLAIN_TOKEN = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": False}
_BYTE_LEVEL = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}
_MOST_PAIRS = 100_000

EncodeText = Callable[[str], list[int]]


@dataclass(frozen=True)
class Rewritten:
    """A tokenizer for gigatoken.

    Attributes:
        json: its ``tokenizer.json``.
        vocabulary: ids from here on are pseudo ids.
        expansions: for each pseudo id in order, the true ids it stands for; None where only the reference
            can tell.
    """

    json: str
    vocabulary: int
    expansions: tuple[tuple[int, ...] | None, ...]


def rewrite(tokenizer_json: str, encode: EncodeText) -> Rewritten:
    """The tokenizer as gigatoken takes it.

    Args:
        tokenizer_json: of the tokenizers library.
        encode: the reference, for single characters.

    Raises:
        NotApplicable: gigatoken's ids would not be the same, or nobody can tell.
    """
    state = json.loads(tokenizer_json)
    _refuse_model(state["model"])
    _refuse_added_tokens(state)
    vocabulary = 1 + max(
        [*state["model"]["vocab"].values(), *(token["id"] for token in state["added_tokens"])]
    )
    if state["model"]["byte_fallback"]:
        _refuse_fallback(state["model"]["vocab"])
        return Rewritten(tokenizer_json, vocabulary, ())
    _refuse_byte_level(state)
    expansions: list[tuple[int, ...] | None] = _add_missing_bytes(state["model"]["vocab"], vocabulary)
    if _separates_digits(state):
        expansions += _add_numbers(state, vocabulary + len(expansions), encode)
    elif not _is_known(state["pre_tokenizer"]):
        raise NotApplicable("it splits words in a way of its own")
    if state["normalizer"]:
        expansions += _guard(state, vocabulary + len(expansions), characters_with_doubtful_nfc())
    return Rewritten(json.dumps(state), vocabulary, tuple(expansions))


def _refuse_model(model: dict[str, Any]) -> None:
    """Refuse what gigatoken does not read of a model."""
    if model["type"] != "BPE":
        raise NotApplicable(f"its model is {model['type']}, not BPE")
    for name in ("dropout", "continuing_subword_prefix", "end_of_word_suffix"):
        if model.get(name):
            raise NotApplicable(f"its model has a {name}")
    if model["byte_fallback"] and model.get("ignore_merges"):
        raise NotApplicable("its model has both byte_fallback and ignore_merges")


def _refuse_added_tokens(state: dict[str, Any]) -> None:
    """Refuse added tokens that are found otherwise than in one pass over the raw text."""
    tokens = state["added_tokens"]
    if any(token["single_word"] for token in tokens):
        raise NotApplicable("an added token is one only as a word of its own")
    if state["model"]["byte_fallback"]:
        return  # there gigatoken has two passes too
    normalized = [token["content"] for token in tokens if token["normalized"]]
    raw = [token["content"] for token in tokens if not token["normalized"]]
    if normalized and state["normalizer"]:
        raise NotApplicable("an added token is looked for in normalized text")
    if len(normalized) * len(raw) > _MOST_PAIRS or any(_meet(a, b) for a in normalized for b in raw):
        raise NotApplicable("added tokens of two kinds overlap")


def _meet(one: str, other: str) -> bool:
    """Whether a text can hold both so that they overlap."""
    if one in other or other in one:
        return True
    shorter = min(len(one), len(other))
    return any(one.endswith(other[:n]) or other.endswith(one[:n]) for n in range(1, shorter))


def _refuse_fallback(vocabulary: Iterable[str]) -> None:
    if not {f"<0x{byte:02X}>" for byte in range(256)} <= set(vocabulary):
        raise NotApplicable("its vocabulary lacks tokens of bytes to fall back to")


def _refuse_byte_level(state: dict[str, Any]) -> None:
    """Refuse normalizers that gigatoken passes over, and entries that stand for other bytes to it."""
    normalizer = state["normalizer"]
    for part in [] if normalizer is None else normalizer.get("normalizers", [normalizer]):
        if part["type"] != "NFC":
            raise NotApplicable(f"its normalizer is {part['type']}")
    added = {token["content"] for token in state["added_tokens"]}
    entries = state["model"]["vocab"].keys() - added
    if not set("".join(entries)) <= byte_alphabet().keys():
        raise NotApplicable("its vocabulary has entries that are no bytes")


def _add_missing_bytes(vocabulary: dict[str, int], first: int) -> list[tuple[int, ...] | None]:
    needed = [character for character, byte in byte_alphabet().items() if byte not in _NEVER_IN_UTF8]
    missing = [character for character in needed if character not in vocabulary]
    vocabulary.update((character, first + index) for index, character in enumerate(missing))
    return [None] * len(missing)


def _separates_digits(state: dict[str, Any]) -> bool:
    """Whether it is ``Digits`` one by one, then ``ByteLevel`` with its own regular expression."""
    match state["pre_tokenizer"]:
        case {
            "type": "Sequence",
            "pretokenizers": [
                {"type": "Digits", "individual_digits": True},
                {"type": "ByteLevel", "use_regex": True, "add_prefix_space": False},
            ],
        }:
            return state["normalizer"] is None
    return False


def _is_known(pre_tokenizer: Any) -> bool:
    """Whether it is ``ByteLevel``, or splits by regular expressions and then ``ByteLevel``.

    gigatoken knows the expressions of most models and refuses all others itself.
    """
    match pre_tokenizer:
        case {"type": "ByteLevel", "use_regex": True, "add_prefix_space": False}:
            return True
        case {
            "type": "Sequence",
            "pretokenizers": [
                *splits,
                {"type": "ByteLevel", "use_regex": False, "add_prefix_space": False},
            ],
        }:
            return bool(splits) and all(_splits(part) for part in splits)
    return False


def _splits(part: Any) -> bool:
    match part:
        case {"type": "Split", "pattern": {"Regex": str()}, "behavior": "Isolated", "invert": False}:
            return True
    return False


def _add_numbers(state: dict[str, Any], first: int, encode: EncodeText) -> list[tuple[int, ...] | None]:
    """Make number characters added tokens, and return what their pseudo ids stand for."""
    state["pre_tokenizer"] = _BYTE_LEVEL
    tokens = state["added_tokens"]
    present = {token["content"] for token in tokens}
    expansions: list[tuple[int, ...] | None] = []
    for character in number_characters():
        if character in present:
            continue
        ids = encode(character)
        if len(ids) == 1:
            tokens.append({**_PLAIN_TOKEN, "id": ids[0], "content": character})
        else:
            tokens.append({**_PLAIN_TOKEN, "id": first + len(expansions), "content": character})
            expansions.append(tuple(ids))
    return expansions


def _guard(state: dict[str, Any], first: int, characters: Iterable[str]) -> list[tuple[int, ...] | None]:
    """Make characters added tokens with pseudo ids that only the reference can tell the meaning of."""
    tokens = state["added_tokens"]
    present = {token["content"] for token in tokens}
    guarded = [character for character in characters if character not in present]
    tokens += [
        {**_PLAIN_TOKEN, "id": id_, "content": character} for id_, character in enumerate(guarded, first)
    ]
    return [None] * len(guarded)
