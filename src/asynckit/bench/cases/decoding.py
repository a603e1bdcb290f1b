"""An engine held at decoding: every step adds one token to each of a batch of sequences.

Contexts would grow without end while a case is measured, and slow it down. So the sequences live for a
window of steps and then begin again from the same prompts, whose keys and values the engine still has. That
happens between the timed calls.
"""

import random
from collections.abc import Sequence
from typing import TYPE_CHECKING

from asynckit.errors import WorkFailed

if TYPE_CHECKING:
    from asynckit.engine.engine import Engine
    from asynckit.engine.request import Request, TokenEvent

WINDOW = 32
LONGEST_RESPONSE = 4 * WINDOW  # also while some decode already and others still prefill


class Decoding:
    """Keeps a batch decoding.

    Args:
        engine: with nothing in it.
        batch: sequences.
        prompt: tokens of each one's prompt.
        adapters: that the sequences use in turn; none of them where it is empty.
        seed: of prompts and of sampling.
    """

    def __init__(
        self, engine: "Engine", batch: int, prompt: int, *, adapters: Sequence[str] = (), seed: int
    ) -> None:
        self._engine = engine
        self._batch = batch
        self._adapters = adapters
        self._seed = seed
        self._prompts = [random_prompt(engine, prompt, f"decode {seed} {index}") for index in range(batch)]
        self._left = 0

    def ready(self) -> tuple[()]:
        """Make sure that the next step only decodes; returns the arguments of :meth:`step`, none.

        Raises:
            WorkFailed: the engine does not get there.
        """
        if not self._left:
            self.close()
            self._begin()
            self._left = WINDOW
        self._left -= 1
        return ()

    def step(self) -> "list[TokenEvent]":
        """One token for every sequence.

        Raises:
            WorkFailed: the engine did something else.
        """
        events = self._engine.step()
        if len(events) != self._batch or any(event.finish for event in events):
            raise WorkFailed(f"a step of {self._batch} sequences that decode ended otherwise: {_why(events)}")
        return events

    def close(self) -> None:
        """End the sequences, so that the engine is empty."""
        for index in range(self._batch):
            self._engine.abort(_id(index))
        drain(self._engine)
        self._left = 0

    def _begin(self) -> None:
        # Where the prompts are known to the prefix cache, all sequences join in the same step.
        self._add(max_tokens=1)
        drain(self._engine)
        self._add(max_tokens=LONGEST_RESPONSE)
        for _ in range(LONGEST_RESPONSE - WINDOW):
            events = self._engine.step()
            if any(event.finish for event in events):
                break
            if len(events) == self._batch:
                return
        raise WorkFailed(f"{self._batch} sequences could not be brought to decode together: {_why(events)}")

    def _add(self, max_tokens: int) -> None:
        from asynckit.engine.config import SamplingParams
        from asynckit.engine.request import Request

        for index, prompt in enumerate(self._prompts):
            sampling = SamplingParams(seed=self._seed + index, max_tokens=max_tokens, ignore_eos=True)
            adapter = self._adapters[index % len(self._adapters)] if self._adapters else None
            self._engine.add(Request(_id(index), prompt, sampling, adapter=adapter))


def prefill_request(engine: "Engine", tokens: int, number: int) -> "Request":
    """A prompt after which one token is wanted; other numbers give prompts that begin otherwise."""
    from asynckit.engine.config import SamplingParams
    from asynckit.engine.request import Request

    sampling = SamplingParams(max_tokens=1, ignore_eos=True)
    return Request("prefill", random_prompt(engine, tokens, f"prefill {number}"), sampling)


def random_prompt(engine: "Engine", tokens: int, seed: str) -> tuple[int, ...]:
    """Token ids at random; prompts of one seed begin alike, however long they are."""
    generator = random.Random(seed)  # noqa: S311 - reproducible
    return tuple(generator.choices(range(engine.capacity.vocabulary), k=tokens))


def drain(engine: "Engine") -> None:
    """Step until nothing is left; requests in it must have an end.

    Raises:
        WorkFailed: one of them ended with an error.
    """
    while engine.has_work():
        events = engine.step()
        if any(event.error for event in events):
            raise WorkFailed(f"the engine could not run a request: {_why(events)}")


def _id(index: int) -> str:
    return f"decode {index}"


def _why(events: "list[TokenEvent]") -> str:
    errors = [event.error for event in events if event.error]
    return errors[0] if errors else f"{len(events)} of them got a token or ended"
