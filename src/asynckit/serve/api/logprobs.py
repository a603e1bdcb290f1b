"""Logprobs in the shapes that clients know: OpenAI's for completions and chats, vLLM's for prompts."""

from collections.abc import Sequence
from typing import Any

from asynckit.serve.messages import TokenText

_LEAST = -9999.0  # stands for minus infinity, which JSON can't hold


def completion_logprobs(
    tokens: Sequence[TokenText | None], offset: int, first_text: str = ""
) -> dict[str, list[Any]]:
    """Lists with an entry for each token.

    Args:
        tokens: None for one without a score: the first of a prompt.
        offset: of the first one in the text, in characters.
        first_text: of the token without a score.
    """
    texts = [token.text if token else first_text for token in tokens]
    offsets: list[int] = []
    for text in texts:
        offsets.append(offset)
        offset += len(text)
    return {
        "text_offset": offsets,
        "token_logprobs": [_finite(token.logprob) if token else None for token in tokens],
        "tokens": texts,
        "top_logprobs": [_likeliest(token) if token else None for token in tokens],
    }


def _likeliest(token: TokenText) -> dict[str, float]:
    """By text; of several tokens with the same text, the likeliest. The token itself is always there."""
    likeliest: dict[str, float] = {}
    for _, text, _, logprob in token.top:
        likeliest.setdefault(text, _finite(logprob))
    likeliest.setdefault(token.text, _finite(token.logprob))
    return likeliest


def chat_logprobs(tokens: Sequence[TokenText]) -> list[dict[str, Any]]:
    """An object for each token."""
    return [
        {
            "token": token.text,
            "logprob": _finite(token.logprob),
            "bytes": list(token.raw),
            "top_logprobs": [
                {"token": text, "logprob": _finite(logprob), "bytes": list(raw)}
                for _, text, raw, logprob in token.top
            ],
        }
        for token in tokens
    ]


def prompt_logprobs(tokens: Sequence[TokenText | None]) -> list[dict[str, Any] | None]:
    """For each token of the prompt, it and the likeliest in its place, by id; None for the first."""
    return [_ranked(token) if token else None for token in tokens]


def _ranked(token: TokenText) -> dict[str, Any]:
    ranked: dict[str, Any] = {
        str(id_): {"logprob": _finite(logprob), "rank": rank, "decoded_token": text}
        for rank, (id_, text, _, logprob) in enumerate(token.top, 1)
    }
    own: dict[str, object] = {"logprob": _finite(token.logprob), "rank": None, "decoded_token": token.text}
    ranked.setdefault(str(token.token_id), own)
    return ranked


def _finite(logprob: float) -> float:
    return max(logprob, _LEAST)
