"""Characters that the libraries may treat differently, because each brings its own version of Unicode."""

import unicodedata
from functools import cache

_WITHOUT_NUMBERS = ((0x3400, 0xA000), (0xAC00, 0xF900), (0x20000, 0x110000))  # ideographs, Hangul, private
_MARKS_END = 0x1F000  # symbols and ideographs from here on, which no version of Unicode will compose
_COMPATIBLE = range(0x2F800, 0x2FA20)  # but these ideographs, which stand for others


@cache
def number_characters() -> tuple[str, ...]:
    """What the tokenizers library takes for numbers."""
    from tokenizers.pre_tokenizers import Digits

    codes = (code for code in range(0x20000) if not _is_without_numbers(code))
    pieces = Digits(individual_digits=True).pre_tokenize_str(f"a{'a'.join(map(chr, codes))}a")
    return tuple(piece for piece, _ in pieces if len(piece) == 1 and piece != "a")


@cache
def characters_with_doubtful_nfc() -> tuple[str, ...]:
    """Characters of texts whose NFC form depends on the version of Unicode.

    The tokenizers library normalizes by a version that is years old, which leaves newer marks where they are
    where a newer version orders and composes them. These are the characters that Python knows to be such,
    those that they are composed of, and all that Python's version does not know either.
    """
    found: dict[str, None] = {}
    for code in (*range(0x80, _MARKS_END), *_COMPATIBLE):
        character = chr(code)
        if unicodedata.category(character) == "Cn":
            found[character] = None
        elif unicodedata.combining(character) or _decomposes(character):
            found |= dict.fromkeys(_doubtful_parts(character))
    return tuple(found)


def _is_without_numbers(code: int) -> bool:
    return any(first <= code < end for first, end in _WITHOUT_NUMBERS)


def _decomposes(character: str) -> bool:
    """Whether it stands for other characters in NFC; ``<`` begins mappings of other forms."""
    mapping = unicodedata.decomposition(character)
    return bool(mapping) and not mapping.startswith("<")


def _doubtful_parts(character: str) -> str:
    """The character and what it is composed of, if the tokenizers library normalizes it otherwise."""
    parts = unicodedata.normalize("NFD", character)
    beside = (
        f"a\u0345{character}\u0334b{character}{character}\u0301a\u0301{character}e\u0323{character}\u0302"
    )
    return f"{character}{parts}" if _differs(beside) or _differs(parts) else ""


def _differs(text: str) -> bool:
    from tokenizers.normalizers import NFC

    return bool(NFC().normalize_str(text) != unicodedata.normalize("NFC", text))
