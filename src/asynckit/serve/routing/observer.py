"""What the router tells whoever counts: :class:`asynckit.serve.metrics.Metrics`, or nobody."""

from collections.abc import Iterable
from typing import Protocol

from asynckit.serve.messages import EngineState, Timing


class Observer(Protocol):
    """Hears what happens; times are seconds. See ``Metrics`` for what each method counts."""

    def arrived(self, owner: str, prompt_tokens: int) -> None:
        """A request was taken in."""

    def started(self, waited: float) -> None:
        """It went to an engine."""

    def first_token(self, seconds: float) -> None:
        """It has its first token."""

    def tokens(self, count: int, seconds: float | None = None) -> None:
        """A step brought tokens, so long after the engine's step before it."""

    def ended(self, reason: str, timing: Timing, prompt_tokens: int, generated_tokens: int) -> None:
        """A request has ended by itself or was aborted."""

    def refused(self, status: int, code: str) -> None:
        """A request or call ended with an error."""

    def served(self, route: str, status: int, seconds: float) -> None:
        """An HTTP request has been answered."""

    def engine_state(self, replica: int, state: EngineState) -> None:
        """What a replica says of itself after a step."""

    def lost(self, process: str) -> None:
        """A process has died."""

    def waiting(self, count: int) -> None:
        """So many requests wait in the router."""

    def adapters(self, running: Iterable[str], waiting: Iterable[str], max_loras: int) -> None:
        """The adapters of the requests of this moment."""

    def render(self) -> str:
        """All of it as Prometheus text."""
