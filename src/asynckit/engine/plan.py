"""One forward pass as data: the plan that the scheduler makes and the model runs."""

from dataclasses import dataclass, field, replace

from asynckit.engine.prefix_cache import Key
from asynckit.engine.request import Sequence


@dataclass(frozen=True)
class Chunk:
    """A run of tokens of one sequence for one forward pass.

    Attributes:
        sequence: whose tokens.
        start: position of the first one; everything before it is in the cache.
        length: how many tokens.
        samples: whether the pass reaches the sequence's last token, so that a new one can be sampled.
        siblings: sequences that join after this chunk and sample from the same logits.
    """

    sequence: Sequence
    start: int
    length: int
    samples: bool
    siblings: tuple[Sequence, ...] = ()


@dataclass(frozen=True)
class Plan:
    """One forward pass: its chunks, and the block copies ``(source, target)`` that must be made before it.

    The copies are made in order: a later one may write what an earlier one reads.
    """

    chunks: tuple[Chunk, ...]
    copies: tuple[tuple[int, int], ...]

    def summary(self) -> tuple[object, ...]:
        """What ranks of one model must agree on; adapters are numbered in the order of their arrival."""
        chunks = (
            (c.sequence.request.id, c.sequence.sample_index, c.sequence.adapter, c.start, c.length)
            for c in self.chunks
        )
        return (*chunks, self.copies)


@dataclass
class Draft:
    """A plan in the making.

    Attributes:
        left: tokens that may still be planned.
        capped: whether only prefill follows, which must not get the tokens of decodes that are dropped.
        full: set once somebody lacked blocks; nobody is admitted any more.
        chunks, copies: by sequence, in the order of planning.
        in_flight: keys of the blocks that the planned prefills will fill.
        preempted: who lost its blocks to this plan.
        deferred: waiting sequences that gain by letting this step pass.
    """

    left: int
    capped: bool = False
    full: bool = False
    chunks: dict[Sequence, Chunk] = field(default_factory=dict)
    copies: dict[Sequence, tuple[int, int]] = field(default_factory=dict)
    in_flight: set[Key] = field(default_factory=set)
    preempted: set[Sequence] = field(default_factory=set)
    deferred: list[Sequence] = field(default_factory=list)

    def cap(self, most: int) -> None:
        """Leave so many tokens at most to prefill, which comes last."""
        self.left, self.capped = min(self.left, most), True

    def put(self, chunk: Chunk) -> None:
        """Add a chunk, whose tokens are then no longer left."""
        self.chunks[chunk.sequence] = chunk
        self.left -= chunk.length

    def drop(self, sequence: Sequence) -> None:
        """Take a preempted sequence out of the plan, as one that computes or one that joins."""
        self.preempted.add(sequence)
        self.copies.pop(sequence, None)
        if chunk := self.chunks.pop(sequence, None):
            assert not chunk.siblings, "siblings are behind their leader in rank and were preempted before"
            self.left += 0 if self.capped and chunk.length == 1 else chunk.length
        for leader, chunk in self.chunks.items():
            if sequence in chunk.siblings:
                self.chunks[leader] = replace(
                    chunk, siblings=tuple(s for s in chunk.siblings if s is not sequence)
                )

    def plan(self) -> Plan:
        """The finished plan."""
        return Plan(tuple(self.chunks.values()), tuple(self.copies.values()))
