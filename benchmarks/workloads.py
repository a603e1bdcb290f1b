"""What the engines are timed on: random prompts, drawn afresh for each repetition.

A new prompt every time keeps prefix caches out of the measurement; the same seed gives all sides of a
repetition the same tokens.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, replace


@dataclass(frozen=True)
class Workload:
    """Prompts that arrive as places free up.

    Attributes:
        prompts: token ids, one tuple per request.
        new_tokens: how many tokens each request gets, end-of-text ignored.
        slots: how many requests are under way at most.
    """

    prompts: tuple[tuple[int, ...], ...]
    new_tokens: tuple[int, ...]
    slots: int

    @property
    def total_new_tokens(self) -> int:
        """Tokens that a side generates in one run."""
        return sum(self.new_tokens)

    def head(self, count: int) -> Workload:
        """The first ``count`` requests."""
        return replace(self, prompts=self.prompts[:count], new_tokens=self.new_tokens[:count])


@dataclass(frozen=True)
class Kind:
    """A workload but for its random numbers; lengths are drawn evenly from inclusive ranges."""

    name: str
    requests: int
    slots: int
    prompt_tokens: tuple[int, int]
    new_tokens: tuple[int, int]

    def draw(self, seed: int, vocabulary: int) -> Workload:
        """The workload of one repetition, with token ids below ``vocabulary``."""
        generator = random.Random(f"{self.name}/{seed}")
        prompts = [
            tuple(generator.randrange(vocabulary) for _ in range(generator.randint(*self.prompt_tokens)))
            for _ in range(self.requests)
        ]
        lengths = [generator.randint(*self.new_tokens) for _ in range(self.requests)]
        return Workload(tuple(prompts), tuple(lengths), self.slots)


KINDS = {
    kind.name: kind
    for kind in (
        *(Kind(f"batch-{size}", size, size, (128, 128), (64, 64)) for size in (1, 8, 32, 64)),
        Kind("mixed", 96, 32, (16, 512), (8, 256)),
    )
}
LONGEST = 1024  # no request of these is longer, prompt and response together
MOST_SLOTS = 64
