"""How long a step takes: the simulated engine's stand-in for a forward pass."""

from dataclasses import dataclass

from asynckit.engine.counter import uniform
from asynckit.engine.distributions import Quantile
from asynckit.engine.scheduler import Chunk, Plan


@dataclass(frozen=True)
class Latency:
    """How many seconds a step takes.

    Attributes:
        base: distribution of what every step takes.
        per_prefill_token: for each token that is not a sequence's newest one.
        per_sequence: for each sequence that takes part.
        seed: of the draws from ``base``.
    """

    base: Quantile
    per_prefill_token: float = 0.0
    per_sequence: float = 0.0
    seed: int = 0

    def seconds(self, plan: Plan, step: int, *, besides: int = 0) -> float:
        """Seconds that the pass of ``plan`` takes, in which ``besides`` more sequences decode.

        ``step`` counts the passes.
        """
        prefill = sum(chunk.length for chunk in plan.chunks if not _decodes(chunk))
        sequences = besides + sum(1 + len(chunk.siblings) for chunk in plan.chunks)
        base = self.base(uniform(self.seed, 0, step))
        return base + self.per_prefill_token * prefill + self.per_sequence * sequences


def _decodes(chunk: Chunk) -> bool:
    return chunk.length == 1 and chunk.sequence.generated > 0
