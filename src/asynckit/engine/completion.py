"""A finished sample, put together from its events."""

from dataclasses import dataclass, field

from asynckit.engine.request import Finish, Likeliest, TokenEvent, TokenScore


@dataclass
class Completion:
    """One finished sample.

    Attributes:
        token_ids, logprobs, versions, top_logprobs: one entry per sampled token; see :class:`TokenEvent`.
        prompt_logprobs: one entry per prompt token where the request wants them.
        finish: why it ended.
        error: one line when ``finish`` is ``error``.
        first_token, end: seconds on the driver's clock; ``first_token`` is None when there was no token.
    """

    token_ids: list[int] = field(default_factory=list)
    logprobs: list[float] = field(default_factory=list)
    versions: list[int] = field(default_factory=list)
    top_logprobs: list[Likeliest] = field(default_factory=list)
    prompt_logprobs: tuple[TokenScore | None, ...] = ()
    finish: Finish | None = None
    error: str = ""
    first_token: float | None = None
    end: float = 0.0

    def take(self, event: TokenEvent, now: float) -> None:
        """Add what one event says."""
        if event.token_id is not None:
            self.token_ids.append(event.token_id)
            self.logprobs.append(event.logprob)
            self.versions.append(event.version)
            self.top_logprobs.append(event.top_logprobs)
            self.prompt_logprobs = event.prompt_logprobs or self.prompt_logprobs
            self.first_token = now if self.first_token is None else self.first_token
        if event.finish:
            self.finish, self.error, self.end = event.finish, event.error, now
