"""Tokens to the bytes that they stand for, by how their tokenizer's decoder spells bytes."""

import json
from collections.abc import Mapping
from functools import cache
from typing import Any


@cache
def byte_alphabet() -> Mapping[str, int]:
    """The character that stands for each byte in byte-level vocabularies (GPT-2's ``bytes_to_unicode``)."""
    printable = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), 256)]
    others = [byte for byte in range(256) if byte not in printable]
    return {chr(byte): byte for byte in printable} | {chr(256 + n): byte for n, byte in enumerate(others)}


def byte_level_bytes(token: str) -> bytes:
    """Bytes of a token of a byte-level vocabulary; one that has another character in it stands for itself."""
    alphabet = byte_alphabet()
    if all(character in alphabet for character in token):
        return bytes(alphabet[character] for character in token)
    return token.encode()


def decoder_kinds(backend: Any) -> frozenset[str]:
    """Types of the decoders that a tokenizer of the Rust library applies, such as ``ByteFallback``."""
    if backend.decoder is None:
        return frozenset()
    state = json.loads(backend.decoder.__getstate__())
    return frozenset(part["type"] for part in state.get("decoders", [state]))


def fallback_bytes(backend: Any) -> dict[int, int]:
    """Bytes by the ids of the tokens ``<0x00>`` to ``<0xFF>``; empty where decoding takes them as text."""
    if "ByteFallback" not in decoder_kinds(backend):
        return {}
    spelled = {f"<0x{byte:{case}}>": byte for byte in range(256) for case in ("02X", "02x")}
    ids = {backend.token_to_id(token): byte for token, byte in spelled.items()}
    ids.pop(None, None)
    return ids
