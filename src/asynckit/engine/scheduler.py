"""Who runs in the next step: admission, batching and finishing, as pure decisions.

Each step the scheduler plans one forward pass. Running sequences come first, one token each (decode); what is
left of the token budget goes to waiting sequences, oldest first, in chunks (prefill). A sequence is admitted
when the blocks for its whole possible length are free, so a running sequence never runs out of cache.

When a prompt's prefill completes, its sibling samples join by sharing its blocks, so a prompt is prefilled
once however many samples it has, as long as they fit into the running set. Siblings that don't fit prefill on
their own later.
"""

from collections import deque
from dataclasses import dataclass

from asynckit.engine.blocks import BlockPool
from asynckit.engine.request import Finish, Sequence


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
    """One forward pass: its chunks, and the block copies ``(source, target)`` that must be made before it."""

    chunks: tuple[Chunk, ...]
    copies: tuple[tuple[int, int], ...]


@dataclass(frozen=True)
class Statistics:
    """A snapshot: sequences running and waiting, share of KV blocks in use, tokens prefilled so far."""

    running: int
    waiting: int
    kv_usage: float
    prefilled_tokens: int


class Scheduler:
    """Owns the waiting queue, the running set and the block pool."""

    def __init__(
        self, pool: BlockPool, *, max_running: int, max_step_tokens: int, max_model_len: int
    ) -> None:
        self.pool = pool
        self.max_running = max_running
        self.max_step_tokens = max_step_tokens
        self.max_model_len = max_model_len
        self._waiting: deque[Sequence] = deque()
        self._running: list[Sequence] = []
        self._reserved: dict[Sequence, int] = {}  # blocks a running sequence may still ask for
        self._prefilled = 0

    def add(self, sequences: list[Sequence]) -> None:
        """Queue the samples of one request."""
        self._waiting.extend(sequences)

    def has_work(self) -> bool:
        """Whether any sequence has not ended."""
        return bool(self._running or self._waiting)

    def statistics(self) -> Statistics:
        """Where things stand now."""
        used = 1 - self.pool.free / self.pool.size
        return Statistics(len(self._running), len(self._waiting), used, self._prefilled)

    def sequences(self) -> list[Sequence]:
        """All sequences that have not ended."""
        return [*self._running, *self._waiting]

    def longest(self, sequence: Sequence) -> int:
        """Tokens that ``sequence`` can reach, prompt included."""
        return min(
            len(sequence.request.prompt_ids) + sequence.request.sampling.max_tokens, self.max_model_len
        )

    def blocks_needed(self, sequence: Sequence) -> int:
        """Blocks that ``sequence`` may take in its life; one more where sharing can force a copy."""
        return self.pool.blocks_for(self.longest(sequence)) + (sequence.request.n > 1)

    def plan(self) -> Plan:
        """Decide the next forward pass. Reserves blocks; changes nothing else."""
        budget = self.max_step_tokens
        chunks: list[Chunk] = []
        for sequence in list(self._running):  # siblings that join below have nothing to compute in this pass
            if budget == 0:
                break
            chunk = self._chunk(sequence, budget)
            budget -= chunk.length
            chunks.append(chunk)
        while budget > 0 and self._waiting and self._admit(self._waiting[0]):
            sequence = self._waiting.popleft()
            self._running.append(sequence)
            chunk = self._chunk(sequence, budget)
            budget -= chunk.length
            chunks.append(chunk)
        copies = tuple(copy for chunk in chunks for copy in self._make_room(chunk))
        return Plan(tuple(chunks), copies)

    def commit(self, plan: Plan) -> None:
        """Record that the forward pass of ``plan`` ran: its tokens are in the cache, siblings have joined."""
        for chunk in plan.chunks:
            chunk.sequence.computed += chunk.length
            if chunk.length > 1 or chunk.sequence.generated == 0:
                self._prefilled += chunk.length
            for sibling in chunk.siblings:
                sibling.computed = chunk.sequence.computed
                sibling.blocks = list(chunk.sequence.blocks)
                self.pool.share(sibling.blocks)

    def end(self, sequence: Sequence, finish: Finish) -> None:
        """End ``sequence`` once and free what it holds."""
        assert sequence.finish is None
        sequence.finish = finish
        if sequence in self._reserved:
            self._running.remove(sequence)
            del self._reserved[sequence]
        else:
            self._waiting.remove(sequence)
        self.pool.release(sequence.blocks)
        sequence.blocks = []

    def _chunk(self, sequence: Sequence, budget: int) -> Chunk:
        length = min(sequence.pending, budget)
        samples = length == sequence.pending
        siblings = self._joiners(sequence) if samples and sequence.generated == 0 else ()
        return Chunk(sequence, sequence.computed, length, samples, siblings)

    def _joiners(self, leader: Sequence) -> tuple[Sequence, ...]:
        """Waiting samples of the leader's request that fit beside it now; they become running."""
        joiners: list[Sequence] = []
        shared = len(leader.request.prompt_ids) // self.pool.block_size  # full blocks, never written again
        while (
            self._waiting
            and self._waiting[0].request is leader.request
            and self._admit(self._waiting[0], shared)
        ):
            sibling = self._waiting.popleft()
            self._running.append(sibling)
            joiners.append(sibling)
        return tuple(joiners)

    def _admit(self, sequence: Sequence, shared: int = 0) -> bool:
        """Reserve a place and the blocks of the whole possible length but ``shared``, if both are there."""
        need = self.blocks_needed(sequence) - shared
        outstanding = sum(self._reserved.values())
        if len(self._reserved) >= self.max_running or need > self.pool.free - outstanding:
            return False
        self._reserved[sequence] = need
        return True

    def _make_room(self, chunk: Chunk) -> list[tuple[int, int]]:
        """Give the chunk blocks that only its sequence holds; returns the copies this takes."""
        sequence, copies = chunk.sequence, []
        first = chunk.start // self.pool.block_size
        last = self.pool.blocks_for(chunk.start + chunk.length)
        for index in range(first, last):
            if index == len(sequence.blocks):
                sequence.blocks.append(self._take_reserved(sequence))
            elif self.pool.shared(sequence.blocks[index]):
                source, target = sequence.blocks[index], self._take_reserved(sequence)
                self.pool.release([source])
                sequence.blocks[index] = target
                copies.append((source, target))
        return copies

    def _take_reserved(self, sequence: Sequence) -> int:
        assert self._reserved[sequence] > 0
        self._reserved[sequence] -= 1
        return self.pool.take()
