"""What a sample carries from token to token besides its KV cache: penalty counts, bans, place in a grammar.

Only samples whose parameters change the logits have a :class:`SampleState`; all others cost nothing here.
"""

from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

from asynckit.engine.config import SamplingParams
from asynckit.engine.grammar import Matcher

Ids = NDArray[np.int64]


class TokenCounts:
    """The distinct tokens of a prompt and its response, and how often the response has each.

    Kept up to date token by token, so a step costs the distinct tokens, not a count over the whole text.
    """

    def __init__(self, prompt_ids: Iterable[int]) -> None:
        distinct = sorted(set(prompt_ids))
        self._slots = {token: slot for slot, token in enumerate(distinct)}
        self._ids = np.array(distinct, dtype=np.int64)
        self._counts = np.zeros(len(distinct), dtype=np.float32)

    @property
    def ids(self) -> Ids:
        """The distinct tokens."""
        return self._ids[: len(self._slots)]

    @property
    def counts(self) -> NDArray[np.float32]:
        """How often the response has each of them; 0 for a token of the prompt alone."""
        return self._counts[: len(self._slots)]

    def push(self, token: int) -> None:
        """Count one more token of the response."""
        slot = self._slots.get(token)
        if slot is None:
            slot = self._slots[token] = len(self._slots)
            if slot == len(self._ids):
                self._ids = np.resize(self._ids, 2 * slot + 16)
                self._counts = np.resize(self._counts, 2 * slot + 16)
            self._ids[slot], self._counts[slot] = token, 0
        self._counts[slot] += 1


class SampleState:
    """Everything that adjusts the logits of one sample's next token.

    Attributes:
        params: the request's parameters.
        bias_ids, bias: token ids and what is added to their logits.
        allowed_ids: the only tokens that may come; None for all.
        ending_ids: tokens that would end the sample, barred until ``min_tokens`` are there.
        counts: for the penalties; None without them.
        matcher: the sample's place in its grammar; None without one.
    """

    def __init__(
        self,
        params: SamplingParams,
        prompt_ids: Sequence[int],
        ending_ids: Iterable[int],
        matcher: Matcher | None,
    ) -> None:
        self.params = params
        self.bias_ids = np.array([int(token) for token in params.logit_bias], dtype=np.int64)
        self.bias = np.array(list(params.logit_bias.values()), dtype=np.float32)
        allowed = params.allowed_token_ids
        self.allowed_ids = None if allowed is None else np.array(allowed, dtype=np.int64)
        self.ending_ids = np.array(sorted(ending_ids), dtype=np.int64)
        self.counts = TokenCounts(prompt_ids) if params.penalizes else None
        self.matcher = matcher
        self._generated = 0

    @property
    def active(self) -> bool:
        """Whether the next token's logits need any change."""
        p = self.params
        return bool(
            p.logit_bias
            or p.allowed_token_ids is not None
            or p.penalizes
            or p.constrained
            or self._generated < p.min_tokens
        )

    @property
    def barred_ids(self) -> Ids:
        """Tokens that may not come next because they would end the sample too early."""
        return self.ending_ids if self._generated < self.params.min_tokens else self.ending_ids[:0]

    @property
    def complete(self) -> bool:
        """Whether the grammar admits nothing more."""
        return self.matcher is not None and self.matcher.complete

    def push(self, token: int) -> None:
        """Take note of the token that was chosen."""
        self._generated += 1
        if self.counts:
            self.counts.push(token)
        if self.matcher:
            self.matcher.push(token)

    def why_nothing_is_left(self) -> str:
        """One line for a sample of which no token may come next."""
        reason = self.matcher.error if self.matcher else ""
        return (
            f"the grammar failed: {reason}"
            if reason
            else "grammar, allowed_token_ids and min_tokens together leave no token to choose"
        )
