"""What a rollouter generates with: an engine in its own process, or one at the other end of a network."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

from asynckit.engine.clock import Clock
from asynckit.engine.completion import Completion
from asynckit.engine.request import OnUpdate, Request


class Generator(Protocol):
    """Requests in, completions out, many at a time on one event loop.

    :class:`asynckit.engine.driver.EngineDriver` is one.

    Attributes:
        clock: tells the times of completions.
        sampled_tokens, prefilled_tokens: how many it has sampled, and computed of prompts, so far.
    """

    clock: Clock
    sampled_tokens: int

    @property
    def busy_seconds(self) -> float:
        """How long it has worked so far; of a remote engine, how long a request was open."""

    @property
    def prefilled_tokens(self) -> int:
        """Tokens of prompts that have been computed so far."""

    async def generate(self, request: Request) -> list[Completion]:
        """Run a request to its end; returns one completion per sample, with token ids and logprobs.

        Cancelling the caller ends the request.

        Raises:
            RequestError: the engine refuses this request; others may go well.
            DependencyError: the engine is out of reach, and was for longer than it may be.
        """

    async def update_weights(
        self, version: int, new: Path | str | Mapping[str, Any] | None, on_update: OnUpdate | str
    ) -> None:
        """Sample with new weights from now on.

        Raises:
            AsynckitError: the weights don't fit, or the engine has no way to take them.
        """

    async def close(self) -> None:
        """End what runs and give everything back."""
