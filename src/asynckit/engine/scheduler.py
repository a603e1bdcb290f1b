"""Who runs in the next step: admission, batching, preemption and finishing, as pure decisions.

Each step the scheduler plans one forward pass of at most ``max_step_tokens`` tokens. Running sequences that
decode come first, one token each; what is left goes to prefill in chunks, in order of rank: priority, then
arrival. Where some decode, that is ``prefill_chunk`` tokens at most, so that they get their next ones soon. A
waiting sequence is admitted when the blocks for the tokens it has now are free, and a few more.

Nothing is reserved for tokens to come. When a running sequence needs a block and none is free, the running
sequence of the last rank is preempted: it gives its blocks back, waits at its rank again and later computes
its tokens anew, as far as their blocks are gone by then. One that is itself the last in rank stalls instead.
So the first in rank always advances, and as it fits the pool alone, everything ends.

Blocks that filled up are found by their content (:mod:`asynckit.engine.prefix_cache`): a sequence starts
behind the longest known beginning of its tokens. When a prompt's prefill completes, its sibling samples join
by sharing its blocks, the half-filled one included (copied on write), and sample from the same logits.
"""

from collections.abc import Callable, Iterator
from itertools import count
from operator import attrgetter

from asynckit.engine.blocks import BlockPool
from asynckit.engine.plan import Chunk, Draft, Plan
from asynckit.engine.prefix_cache import Key, extend_hashes
from asynckit.engine.ranking import Ranking
from asynckit.engine.request import Finish, Sequence
from asynckit.engine.statistics import Statistics

__all__ = ["Chunk", "Plan", "Scheduler", "Statistics"]


class Scheduler:
    """Owns the waiting queue, the running set and the block pool.

    Args:
        pool: the blocks of the cache.
        max_running: sequences that run at once.
        max_step_tokens: of one pass.
        max_model_len: of a sequence, prompt included.
        prefill_chunk: tokens of one pass that are no decodes, where it has decodes; None for any number.

    Attributes:
        may_start: asked before a waiting sequence is started; one that may not (its adapter has no room yet)
            keeps its place and is asked for again in the next step.
    """

    def __init__(
        self,
        pool: BlockPool,
        *,
        max_running: int,
        max_step_tokens: int,
        max_model_len: int,
        prefill_chunk: int | None = None,
    ) -> None:
        self.pool = pool
        self.max_running = max_running
        self.max_step_tokens = max_step_tokens
        self.max_model_len = max_model_len
        self.prefill_chunk = prefill_chunk or max_step_tokens
        self.may_start: Callable[[Sequence], bool] = lambda _: True
        self._watermark = max(1, pool.size // 100)  # admission leaves so many blocks to those who run
        self._waiting = Ranking()
        self._running = Ranking()
        self._arrivals = count()
        self._turns = count()
        self._steps = 0
        self._step_tokens = 0
        self._prefilled = 0
        self._queried = 0
        self._hit = 0
        self._preemptions = 0

    def add(self, sequences: list[Sequence]) -> None:
        """Queue the samples of one request; ``blocks_needed`` of each must not exceed the pool."""
        for sequence in sequences:
            sequence.rank = (sequence.request.priority, next(self._arrivals))
            self._waiting.add(sequence)

    def has_work(self) -> bool:
        """Whether any sequence has not ended."""
        return bool(self._running or self._waiting)

    def statistics(self) -> Statistics:
        """Where things stand now."""
        return Statistics(
            running=len(self._running),
            waiting=len(self._waiting),
            kv_usage=1 - self.pool.free / self.pool.size,
            prefilled_tokens=self._prefilled,
            prefix_query_tokens=self._queried,
            prefix_hit_tokens=self._hit,
            preemptions=self._preemptions,
            step_tokens=self._step_tokens,
            steps=self._steps,
        )

    def sequences(self) -> list[Sequence]:
        """All sequences that have not ended."""
        return [*self._running, *self._waiting]

    def running(self) -> list[Sequence]:
        """Those of them that have started and were not preempted."""
        return list(self._running)

    def longest(self, sequence: Sequence) -> int:
        """Tokens that ``sequence`` can reach, prompt included."""
        return min(
            len(sequence.request.prompt_ids) + sequence.request.sampling.max_tokens, self.max_model_len
        )

    def blocks_needed(self, sequence: Sequence) -> int:
        """Blocks that ``sequence`` may hold at most."""
        return self.pool.blocks_for(self.longest(sequence))

    def plan(self) -> Plan:
        """Decide the next forward pass.

        Blocks are taken for it, sequences admitted and preempted. :meth:`commit` must follow, or the end of
        every sequence in the plan.
        """
        draft = Draft(self.max_step_tokens)
        decodes: list[Sequence] = []
        prefills: list[Sequence] = []
        for sequence in self._running:
            (decodes if sequence.pending == 1 else prefills).append(sequence)
        share = self._prefill_share(len(decodes)) if prefills or self._waiting else 0
        if share:
            draft.left = share
            self._prefill(prefills, draft)
            draft.left += self.max_step_tokens - share
        self._decode(decodes, draft)
        if not share:
            if draft.chunks:  # somebody decodes
                draft.cap(self.prefill_chunk)
            self._prefill(prefills, draft)
        for sequence in draft.deferred:
            self._waiting.add(sequence)
        return draft.plan()

    def may_admit(self) -> bool:
        """Whether the next plan may start a waiting sequence; not before something ends, where all decode."""
        if not self._waiting or len(self._running) >= self.max_running:
            return False
        first = self._waiting.first
        extend_hashes(first.block_hashes, first.tokens, self.pool.block_size)
        return self._fits(first, self._known_prefix(first))

    def blocks_to_decode(self, sequences: list[Sequence], steps: int) -> int:
        """Free blocks that are enough for so many decode steps of running sequences."""
        pool, size = self.pool, self.pool.block_size
        need = 0
        for sequence in sequences:
            need += -(-(sequence.computed + steps) // size) - len(sequence.blocks)
            need += bool(sequence.computed % size) and pool.shared(sequence.blocks[-1])
        return need

    def decode(self, sequences: list[Sequence], steps: int, *, alone: bool) -> None:
        """Do for running sequences what planning and committing so many passes would do, one token each.

        Their tokens must be there already, and :meth:`blocks_to_decode` blocks be free. Where they go
        ``alone``, the passes are counted; else it is one, and :meth:`commit` counts it.
        """
        self._steps += steps if alone else 0
        pool, size = self.pool, self.pool.block_size
        for sequence in sequences:
            blocks, start = sequence.blocks, sequence.computed
            if start % size and pool.shared(blocks[-1]):
                pool.release([blocks[-1]])
                blocks[-1] = pool.take()
            sequence.served = next(self._turns)
            sequence.computed = end = start + steps
            blocks.extend(pool.take() for _ in range(-(-end // size) - len(blocks)))
        for sequence in sequences:
            if (sequence.computed - steps) // size != sequence.computed // size:
                self._offer_full_blocks(Chunk(sequence, sequence.computed - steps, steps, samples=True))

    def plan_besides(self, decoding: int) -> Plan:
        """Decide what else runs in a pass in which so many sequences decode, whom :meth:`decode` sees to.

        Prefill must not be short of tokens then, nor running prefills of blocks.
        """
        draft = Draft(min(self.max_step_tokens - decoding, self.prefill_chunk))
        self._prefill([sequence for sequence in self._running if sequence.pending > 1], draft)
        for sequence in draft.deferred:
            self._waiting.add(sequence)
        return draft.plan()

    def commit(self, plan: Plan) -> None:
        """Record that the forward pass of ``plan`` ran: its tokens are in the cache, siblings have joined."""
        self._steps += 1
        self._step_tokens = 0
        for chunk in plan.chunks:
            sequence = chunk.sequence
            sequence.computed += chunk.length
            self._step_tokens += chunk.length
            if chunk.length > 1 or sequence.generated == 0:
                self._prefilled += chunk.length
            self._offer_full_blocks(chunk)
            for sibling in chunk.siblings:
                sibling.computed = sequence.computed
                sibling.blocks = list(sequence.blocks)
                sibling.block_hashes = list(sequence.block_hashes)
                sibling.cacheable = sequence.cacheable
                self.pool.share(sibling.blocks)

    def end(self, sequence: Sequence, finish: Finish) -> None:
        """End ``sequence`` once and free what it holds; after an error nobody reuses what it computed."""
        assert sequence.finish is None
        sequence.finish = finish
        (self._running if sequence in self._running else self._waiting).remove(sequence)
        if finish is Finish.ERROR:
            self.pool.forget(sequence.blocks)
        self._give_back(sequence)

    def clear_prefix_cache(self) -> None:
        """Let nobody reuse what was computed so far (the weights changed).

        Running sequences keep theirs and go on, and what they compute on top of it is not reused either.
        """
        self.pool.forget_all()
        for sequence in self._running:
            sequence.cacheable = False

    def recompute_all(self) -> None:
        """Make every running sequence compute all its tokens anew, in the same order; reuse nothing."""
        self.pool.forget_all()
        for sequence in list(self._running):
            self._requeue(sequence)

    def _prefill_share(self, decodes: int) -> int:
        """Tokens that prefill gets before ``decodes`` sequences do; 0 where those leave enough anyway."""
        share = min(self.max_step_tokens // 4 or int(self._steps % 4 == 0), self.prefill_chunk)
        return share if decodes + share > self.max_step_tokens else 0

    def _decode(self, decodes: list[Sequence], draft: Draft) -> None:
        if len(decodes) > draft.left:  # not all can take part: those go first that have waited for longest
            decodes.sort(key=attrgetter("served"))
        for sequence in decodes:
            if draft.left == 0:
                return
            if sequence not in draft.preempted:
                self._schedule(sequence, draft)

    def _prefill(self, prefills: list[Sequence], draft: Draft) -> None:
        """Go on with running prefills and admit waiting sequences, all by rank."""
        for sequence in prefills:
            self._admit(draft, before=sequence)
            if draft.left == 0:
                return
            if sequence not in draft.preempted:
                self._schedule(sequence, draft)
        self._admit(draft)

    def _admit(self, draft: Draft, before: Sequence | None = None) -> None:
        """Start waiting sequences (of lower rank than ``before``) while tokens, places and blocks last."""
        while draft.left and not draft.full and self._waiting and self._has_place(draft):
            sequence = self._waiting.first
            if before is not None and before.rank < sequence.rank:
                return
            extend_hashes(sequence.block_hashes, sequence.tokens, self.pool.block_size)
            prefix = self._known_prefix(sequence)
            if self._gains_by_waiting(sequence, len(prefix), draft) or not self.may_start(sequence):
                self._waiting.remove(sequence)
                draft.deferred.append(sequence)
            elif self._fits(sequence, prefix):
                self._start(sequence, prefix)
                self._schedule(sequence, draft)
            else:
                draft.full = True

    def _has_place(self, draft: Draft) -> bool:
        return len(self._running) + len(draft.deferred) < self.max_running

    def _known_prefix(self, sequence: Sequence) -> list[int]:
        """Blocks to start from: the last token is always left to compute, for its logits are needed."""
        if sequence.needs_all_rows:
            return []
        usable = (len(sequence.tokens) - 1) // self.pool.block_size
        return self.pool.cache.prefix(sequence.cache_salt, sequence.block_hashes[:usable])

    def _gains_by_waiting(self, sequence: Sequence, known: int, draft: Draft) -> bool:
        """Whether this plan computes at least half of what ``sequence`` would otherwise compute itself."""
        if sequence.needs_all_rows or not draft.in_flight:
            return False
        size = self.pool.block_size
        coming = 0
        for digest in sequence.block_hashes[known : (len(sequence.tokens) - 1) // size]:
            if (sequence.cache_salt, digest) not in draft.in_flight:
                break
            coming += size
        return 2 * coming >= len(sequence.tokens) - known * size

    def _fits(self, sequence: Sequence, prefix: list[int]) -> bool:
        """Whether the blocks for all present tokens are free with some to spare, or nobody else runs."""
        need = self.pool.blocks_for(len(sequence.tokens)) - len(prefix) + self.pool.count_idle(prefix)
        return not self._running or self.pool.free - need >= self._watermark

    def _start(self, sequence: Sequence, prefix: list[int]) -> None:
        self._waiting.remove(sequence)
        self._running.add(sequence)
        self.pool.share(prefix)
        sequence.blocks = prefix
        sequence.computed = len(prefix) * self.pool.block_size
        self._queried += len(sequence.tokens)
        self._hit += sequence.computed

    def _schedule(self, sequence: Sequence, draft: Draft) -> None:
        """Plan the sequence's next tokens, if there are blocks for them."""
        start, pending = sequence.computed, sequence.pending
        length = min(pending, draft.left)
        if not self._make_room(sequence, start + length, draft):
            draft.full = True
            return
        sequence.served = next(self._turns)
        if length > 1 and sequence.cacheable:
            draft.in_flight.update(key for key, _ in self._filled(sequence, start, start + length))
        samples = length == pending
        siblings = self._join(sequence, draft) if samples and sequence.generated == 0 else ()
        draft.put(Chunk(sequence, start, length, samples, siblings))

    def _join(self, leader: Sequence, draft: Draft) -> tuple[Sequence, ...]:
        """Waiting samples of the leader's request that fit beside it now; they become running."""
        joiners: list[Sequence] = []
        while not draft.full and self._waiting and self._has_place(draft):
            sibling = self._waiting.first
            if not _may_join(sibling, leader):
                break
            if self.pool.free - len(joiners) <= self._watermark:  # each will soon want a block of its own
                draft.full = True
                break
            self._waiting.remove(sibling)
            self._running.add(sibling)
            joiners.append(sibling)
        return tuple(joiners)

    def _make_room(self, sequence: Sequence, end: int, draft: Draft) -> bool:
        """Give the sequence blocks of its own for its tokens up to ``end``; false when it must stall."""
        pool, blocks = self.pool, sequence.blocks
        inside = sequence.computed % pool.block_size != 0  # the next token goes into the last block
        fresh = pool.blocks_for(end) - len(blocks)
        while (copy := inside and pool.shared(blocks[-1])) + fresh > pool.free:
            victim = self._running.last
            if victim is sequence:
                return False
            draft.drop(victim)
            self._requeue(victim)
            self._preemptions += 1
        if copy:
            source, target = blocks[-1], pool.take()
            pool.release([source])
            blocks[-1] = target
            draft.copies[sequence] = (source, target)
        blocks.extend(pool.take() for _ in range(fresh))
        return True

    def _requeue(self, sequence: Sequence) -> None:
        """Send a running sequence back to wait at its rank, with nothing computed."""
        self._running.remove(sequence)
        self._give_back(sequence)
        sequence.cacheable = True
        self._waiting.add(sequence)

    def _give_back(self, sequence: Sequence) -> None:
        self.pool.release(sequence.blocks)
        sequence.blocks = []
        sequence.computed = 0

    def _offer_full_blocks(self, chunk: Chunk) -> None:
        """Let others find the blocks that ``chunk`` filled."""
        sequence, size = chunk.sequence, self.pool.block_size
        if chunk.start // size == sequence.computed // size or not sequence.cacheable:
            return
        extend_hashes(sequence.block_hashes, sequence.tokens, size)
        for key, block in self._filled(sequence, chunk.start, sequence.computed):
            self.pool.offer(key, block)

    def _filled(self, sequence: Sequence, start: int, end: int) -> Iterator[tuple[Key, int]]:
        """Key and id of every block that becomes full when the tokens from ``start`` to ``end`` are there."""
        for index in range(start // self.pool.block_size, end // self.pool.block_size):
            yield (sequence.cache_salt, sequence.block_hashes[index]), sequence.blocks[index]


def _may_join(sibling: Sequence, leader: Sequence) -> bool:
    """Whether ``sibling`` is a fresh sample of the leader's request that can do without rows of its own."""
    return (
        sibling.request is leader.request
        and sibling.generated == 0
        and sibling.rank > leader.rank
        and sibling.needs_all_rows <= leader.needs_all_rows
    )
