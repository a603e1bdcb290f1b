"""What one HTTP request may cost, checked before its prompts become requests of their own.

Everything that is checked elsewhere is checked of one prompt or one field. Here stands what they cost
together: what is sent to the ring for each prompt again, and what comes back for each sample again. Both stay
far below the largest frame, and what they make the processes of the ring compute below what they would seem
to hang over.
"""

import asyncio
from collections.abc import Callable, Sequence
from typing import TypeVar

from asynckit.engine.config import SamplingParams
from asynckit.serve.api.errors import ApiError
from asynckit.serve.messages import Text, TokenText

Result = TypeVar("Result")

MOST_SENT = 32 * 2**20  # bytes; all of it may be in one step
MOST_SHOWN = 32 * 2**20  # bytes of prompts, with their scores, in an answer
MOST_LOGPROBS = 2**19  # in an answer that is kept until it is whole
LARGE = 4096  # tokens with which other requests would wait for an answer to be written
_ID = 16  # 5 in a frame, but each is looked at
_BIAS = 48
_CHARACTER = 4
_SCORE = 64  # a likely token: its id, text, bytes and logprob
_SHOWN_ID = 8


def check_sent(
    prompts: Sequence[Sequence[int]], sampling: SamplingParams, *, grammar_field: str, prompt_field: str
) -> None:
    """Refuse more than one request may send to the ring.

    Args:
        prompts: token ids of each.
        sampling: sent with each of them.
        grammar_field: where the grammar comes from.
        prompt_field: where the prompts do.

    Raises:
        ApiError: 400, with the field that costs most.
    """
    each = {
        "allowed_token_ids": _ID * len(sampling.allowed_token_ids or ()),
        "stop_token_ids": _ID * len(sampling.stop_token_ids),
        "logit_bias": _BIAS * len(sampling.logit_bias),
        "stop": _CHARACTER * sum(map(len, sampling.stop)),
        grammar_field: _CHARACTER * len(sampling.json_schema or sampling.regex or ""),
    }
    costs = {name: len(prompts) * cost for name, cost in each.items()}
    costs[prompt_field] = _ID * sum(map(len, prompts))
    if sum(costs.values()) > MOST_SENT:
        field = max(costs, key=lambda name: costs[name])
        message = f"{field} is too large for {len(prompts)} prompts in one request: send fewer at a time"
        raise ApiError(400, message, code="too_costly", param=field)


def check_shown(
    prompt_tokens: int,
    prompts: int,
    n: int,
    *,
    prompt_logprobs: int | None,
    longest_token: int,
    characters: int = 0,
    with_ids: bool = False,
) -> None:
    """Refuse more of the prompts than one answer may show, in all of its samples.

    Args:
        prompt_tokens: of all prompts together.
        prompts: how many they are.
        n: samples of each.
        prompt_logprobs: likeliest tokens in the place of each token; None leaves the prompt unscored.
        longest_token: characters of the longest token.
        characters: of the prompts' text, if it is shown.
        with_ids: whether their ids are.

    Raises:
        ApiError: 400.
    """
    scores = 0
    if prompt_logprobs is not None:
        scores = prompt_tokens * (_SCORE * (1 + prompt_logprobs) + 2 * longest_token)
    shown = n * (scores + _CHARACTER * characters + _SHOWN_ID * prompt_tokens * with_ids)
    if shown > MOST_SHOWN:
        message = (
            f"{prompt_tokens} prompt tokens, shown or scored in {prompts * n} samples, are too much for "
            "one answer: ask for fewer samples, prompts or logprobs"
        )
        raise ApiError(400, message, code="too_costly", param="n" if n > 1 else "prompt")


class LogprobCount:
    """Counts the logprobs of an answer that is kept until it is whole."""

    def __init__(self) -> None:
        self._count = 0

    def add(self, tokens: Sequence[TokenText]) -> None:
        """Take tokens in; raises ApiError when they are too many."""
        self._count += sum(1 + len(token.top) for token in tokens)
        if self._count > MOST_LOGPROBS:
            message = (
                f"the answer has more than {MOST_LOGPROBS} logprobs: "
                "stream it, or ask for fewer samples, tokens or logprobs"
            )
            raise ApiError(400, message, code="too_costly", param="logprobs")


def tokens_of(pieces: Sequence[object]) -> int:
    """Tokens with logprobs in pieces of an answer."""
    return sum(len(piece.tokens) + len(piece.prompt_tokens) for piece in pieces if isinstance(piece, Text))


async def off_loop(tokens: int, work: Callable[[], Result]) -> Result:
    """What ``work`` gives; done in a thread where so many tokens would make other requests wait."""
    return await asyncio.to_thread(work) if tokens > LARGE else work()
