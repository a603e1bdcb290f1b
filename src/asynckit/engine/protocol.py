"""What whoever drives an engine relies on: the engine with a model and the simulated one both have it."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from asynckit.engine.capacity import Capacity
from asynckit.engine.request import OnUpdate, Request, TokenEvent
from asynckit.engine.scheduler import Statistics


class Adapters(Protocol):
    """Named adapters; see :class:`asynckit.engine.adapters.AdapterStore` for what each method promises."""

    def register(self, name: str, folder: Path) -> None:
        """Let requests use the adapter in ``folder`` under ``name``."""

    def unregister(self, name: str) -> None:
        """Refuse new requests for it; those that have not ended keep it."""

    def pin(self, name: str) -> None:
        """Load it and keep it loaded."""

    def unpin(self, name: str) -> None:
        """Let it be evicted again."""

    def prefetch(self, name: str) -> None:
        """Begin to read it, if there is room; a hint that never fails."""

    def names(self) -> tuple[str, ...]:
        """What requests can ask for."""


class InferenceEngine(Protocol):
    """Requests in, events out, one step at a time, for one thread at a time."""

    @property
    def adapters(self) -> Adapters:
        """The adapters that requests can name."""

    @property
    def version(self) -> int:
        """Of the weights that sample now."""

    @property
    def capacity(self) -> Capacity:
        """What it can hold."""

    @property
    def embeds(self) -> bool:
        """Whether :meth:`embed` can be asked."""

    def embed(self, prompts_ids: Sequence[Sequence[int]]) -> list[list[float]]:
        """A vector for each prompt; raises RequestError where the model is not for that."""

    def add(self, request: Request) -> None:
        """Queue a request; raises RequestError and queues nothing when it can't be served."""

    def abort(self, request_id: str) -> None:
        """End a request; the next step says so. Unknown ids do nothing."""

    def update_weights(
        self,
        version: int,
        new: Path | str | Mapping[str, Any] | None,
        on_update: OnUpdate | str = OnUpdate.KEEP_KV,
    ) -> None:
        """Sample with new weights from the next step on; a misfit raises InputError and changes nothing."""

    def step(self) -> list[TokenEvent]:
        """Run one pass; one event per sampled token or ended sample."""

    def has_work(self) -> bool:
        """Whether a step would do or report anything."""

    def statistics(self) -> Statistics:
        """Where things stand now."""

    def close(self) -> None:
        """Free everything; what has not ended is dropped."""
