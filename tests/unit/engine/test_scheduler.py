"""The scheduler: every sequence ends once, sees its own past, and nothing leaks, whatever happens."""

from dataclasses import dataclass, field
from enum import StrEnum, auto
from itertools import count

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from asynckit.engine.blocks import BlockPool
from asynckit.engine.config import SamplingParams
from asynckit.engine.request import Finish, Request, Sequence
from asynckit.engine.scheduler import Chunk, Plan, Scheduler

BLOCK = 4
LONGEST = 40


def make(
    max_running: int = 4, max_step_tokens: int = 8, pool: int = 24, prefill_chunk: int | None = None
) -> Scheduler:
    return Scheduler(
        BlockPool(pool, block_size=BLOCK),
        max_running=max_running,
        max_step_tokens=max_step_tokens,
        max_model_len=LONGEST,
        prefill_chunk=prefill_chunk,
    )


def sequences_of(
    name: str, prompt: int | list[int], n: int = 1, max_tokens: int = 4, priority: int = 0
) -> list[Sequence]:
    """Samples of one request; a prompt given by its length shares no token with those of other names."""
    first = 1000 * (1 + sum(map(ord, name)))
    ids = list(range(first, first + prompt)) if isinstance(prompt, int) else prompt
    request = Request(name, tuple(ids), SamplingParams(max_tokens=max_tokens), n, priority)
    return [Sequence(request, index, list(ids)) for index in range(n)]


def advance(scheduler: Scheduler, plan: Plan) -> list[Sequence]:
    """Do what the engine does after a pass: one token per sampling sequence; returns those that ended."""
    scheduler.commit(plan)
    ended = []
    for chunk in plan.chunks:
        for sequence in (chunk.sequence, *chunk.siblings) if chunk.samples else ():
            sequence.tokens.append((sequence.sample_index + len(sequence.tokens)) % 3)
            if len(sequence.tokens) >= scheduler.longest(sequence):
                scheduler.end(sequence, Finish.LENGTH)
                ended.append(sequence)
    return ended


def step(scheduler: Scheduler) -> list[tuple[str, int]]:
    """One step; returns names and lengths of its chunks."""
    plan = scheduler.plan()
    advance(scheduler, plan)
    return [(chunk.sequence.request.id, chunk.length) for chunk in plan.chunks]


def drain(scheduler: Scheduler) -> list[Sequence]:
    """Step to the end; returns the sequences in the order in which they ended."""
    ended = []
    while scheduler.has_work():
        plan = scheduler.plan()
        assert plan.chunks
        ended += advance(scheduler, plan)
    return ended


@dataclass(frozen=True)
class Cell:
    """What one cache position was computed from."""

    past: int  # hash of the salt and of all tokens up to here
    weights: int  # the oldest version among everything that went into it


@dataclass
class Simulation:
    """A cache that remembers what each of its positions was computed from, and checks whoever reads it."""

    scheduler: Scheduler
    weights: int = 0
    cells: dict[tuple[int, int], Cell] = field(default_factory=dict)
    began: dict[Sequence, int] = field(default_factory=dict)  # weights when a sequence last began to compute

    def view(self, sequence: Sequence) -> Cell:
        """Check all computed positions of a sequence through its blocks; returns the last one."""
        cell = Cell(hash(sequence.cache_salt), self.weights)
        for position in range(sequence.computed):
            past = hash((cell.past, sequence.tokens[position]))
            cell = self.cells[sequence.blocks[position // BLOCK], position % BLOCK]
            assert cell.past == past, "a sequence sees another one's past"
            assert cell.weights >= self.began[sequence], "a prefix of older weights was reused"
        return cell

    def forward(self, plan: Plan) -> None:
        """Make the copies, then write every chunk's tokens; nothing written may be seen by another one."""
        owned = {block for chunk in plan.chunks for block in chunk.sequence.blocks}
        for source, target in plan.copies:
            assert target in owned, "a copy is made for somebody who does not take part"
            for offset in range(BLOCK):
                if (source, offset) in self.cells:
                    self.cells[target, offset] = self.cells[source, offset]
        written: set[tuple[int, int]] = set()
        for chunk in plan.chunks:
            self.began.setdefault(chunk.sequence, self.weights)
            # A sibling takes over what its leader computed, as if it had been there from the beginning.
            self.began.update(dict.fromkeys(chunk.siblings, self.began[chunk.sequence]))
            written |= self.write(chunk, written)

    def write(self, chunk: Chunk, written: set[tuple[int, int]]) -> set[tuple[int, int]]:
        """Write one chunk's tokens on top of what its sequence sees; returns the places."""
        sequence, places = chunk.sequence, set()
        assert chunk.start == sequence.computed
        cell = self.view(sequence)
        for position in range(chunk.start, chunk.start + chunk.length):
            place = sequence.blocks[position // BLOCK], position % BLOCK
            assert place not in written, "two sequences write the same place"
            assert not self.scheduler.pool.shared(place[0]), "a shared block is written"
            cell = Cell(hash((cell.past, sequence.tokens[position])), min(cell.weights, self.weights))
            self.cells[place] = cell
            places.add(place)
        return places

    def check(self) -> None:
        """Every sequence sees its own past; one that has computed nothing holds nothing."""
        for sequence in self.scheduler.sequences():
            if sequence.computed:
                self.view(sequence)
            else:
                self.began.pop(sequence, None)
                assert not sequence.blocks


@st.composite
def arrivals(draw: st.DrawFn) -> list[list[Sequence]]:
    """Requests over a vocabulary of three tokens, so that beginnings often agree."""
    base = draw(st.lists(st.integers(0, 2), min_size=30, max_size=30))
    groups = []
    for index in range(draw(st.integers(1, 10))):
        shared = draw(st.integers(0, 24))
        prompt = base[:shared] + draw(st.lists(st.integers(0, 2), min_size=not shared, max_size=12))
        n, max_tokens = draw(st.integers(1, 5)), draw(st.integers(1, 12))
        group = sequences_of(str(index), prompt, n, max_tokens, priority=draw(st.integers(0, 2)))
        salt = draw(st.sampled_from([None, "adapter"]))
        for sequence in group:
            sequence.cache_salt = salt
            sequence.needs_all_rows = draw(st.integers(0, 3)) == 3
        groups.append(group)
    return groups


class Event(StrEnum):
    """What may happen between two steps."""

    NOTHING = auto()
    ARRIVAL = auto()
    ABORT = auto()
    FAILURE = auto()
    NEW_WEIGHTS = auto()
    NEW_WEIGHTS_RECOMPUTED = auto()


def happen(
    event: Event, choice: int, simulation: Simulation, arriving: list[list[Sequence]]
) -> list[Sequence]:
    """Let ``event`` happen, to the sequence that ``choice`` picks; returns whom it ended."""
    scheduler = simulation.scheduler
    alive = scheduler.sequences()
    if event is Event.ARRIVAL and arriving:
        scheduler.add(arriving.pop())
    elif event in {Event.ABORT, Event.FAILURE} and alive:
        victim = alive[choice % len(alive)]
        scheduler.end(victim, Finish.ABORT if event is Event.ABORT else Finish.ERROR)
        return [victim]
    elif event is Event.NEW_WEIGHTS:
        simulation.weights += 1
        scheduler.clear_prefix_cache()
    elif event is Event.NEW_WEIGHTS_RECOMPUTED:
        simulation.weights += 1
        scheduler.recompute_all()
    return []


events = st.lists(
    st.tuples(st.sampled_from([*Event, *[Event.ARRIVAL, Event.NOTHING] * 4]), st.integers(0, 9)), max_size=40
)


@settings(max_examples=150, deadline=None)
@given(
    arrivals(),
    events,
    st.integers(1, 6),
    st.integers(1, 40),
    st.integers(LONGEST // BLOCK, 24),
    st.one_of(st.none(), st.integers(1, 40)),
)
def test_whatever_happens_every_sequence_ends_once_with_its_own_past(
    arriving: list[list[Sequence]],
    script: list[tuple[Event, int]],
    max_running: int,
    budget: int,
    size: int,
    prefill_chunk: int | None,
) -> None:
    """Arrivals, aborts, failures, priorities, preemption, shared prefixes and new weights in any order."""
    scheduler = make(max_running, budget, size, prefill_chunk)
    simulation = Simulation(scheduler)
    everyone = [s for group in arriving for s in group]
    most = len(script) + (2 + len(script)) * sum(map(scheduler.longest, everyone)) + len(arriving)
    script += [(Event.ARRIVAL, 0)] * len(arriving)
    ended: list[Sequence] = []
    for steps in count():
        if not script and not scheduler.has_work():
            break
        ended += happen(*script.pop(0), simulation, arriving) if script else []
        simulation.check()
        decoding = {s for s in scheduler.running() if s.pending == 1}
        plan = scheduler.plan()
        assert plan.chunks or not scheduler.has_work(), "work without a plan would wait for ever"
        assert sum(chunk.length for chunk in plan.chunks) <= budget
        prefills = [c.length for c in plan.chunks if c.length > 1 or c.sequence not in decoding]
        if prefill_chunk and len(prefills) < len(plan.chunks):
            assert sum(prefills) <= prefill_chunk
        assert scheduler.statistics().running <= max_running
        simulation.forward(plan)
        ended += advance(scheduler, plan)
        simulation.check()
        assert steps < most, "no progress"
    assert sorted(map(id, ended)) == sorted(map(id, everyone))
    assert all(len(s.tokens) == scheduler.longest(s) for s in everyone if s.finish is Finish.LENGTH)
    assert scheduler.pool.free == size


@settings(max_examples=100, deadline=None)
@given(st.integers(2, 6), st.integers(1, 7), st.integers(1, 8))
def test_a_pool_for_one_carries_many_to_their_full_length(count: int, budget: int, prompt: int) -> None:
    """Preempted sequences come back, lose no token, and end in the order in which they came."""
    scheduler = make(max_running=6, max_step_tokens=budget, pool=5)
    for index in range(count):
        scheduler.add(sequences_of(chr(65 + index), prompt, max_tokens=20 - prompt))
    ended = drain(scheduler)
    assert [len(s.tokens) for s in ended] == [20] * count
    assert ended[0].request.id == "A"


def test_a_prompt_is_prefilled_once_for_all_its_samples() -> None:
    """The n samples of a group share one prefill."""
    scheduler = make(max_running=8, max_step_tokens=64)
    scheduler.add(sequences_of("a", prompt=10, n=6))
    plan = scheduler.plan()
    assert [chunk.length for chunk in plan.chunks] == [10]
    assert len(plan.chunks[0].siblings) == 5
    advance(scheduler, plan)
    assert [chunk.length for chunk in scheduler.plan().chunks] == [1] * 6


def test_samples_that_don_t_fit_the_batch_join_later_through_the_prefix_cache() -> None:
    """Of a prompt of two and a half blocks only the half is computed again."""
    scheduler = make(max_running=2, max_step_tokens=64)
    scheduler.add(sequences_of("a", prompt=10, n=4))
    drain(scheduler)
    statistics = scheduler.statistics()
    assert statistics.prefilled_tokens == 10 + 2
    assert (statistics.prefix_query_tokens, statistics.prefix_hit_tokens) == (20, 8)


def test_a_shared_block_is_copied_before_it_is_written() -> None:
    """Samples that share a half-filled block write into copies; the last one keeps the original."""
    scheduler = make(max_running=8, max_step_tokens=64)
    scheduler.add(sequences_of("a", prompt=6, n=3))
    step(scheduler)
    plan = scheduler.plan()
    assert len(plan.copies) == 2
    assert len({chunk.sequence.blocks[1] for chunk in plan.chunks}) == 3
    assert len({chunk.sequence.blocks[0] for chunk in plan.chunks}) == 1


def test_a_sibling_that_needs_all_rows_joins_only_a_leader_that_computed_them() -> None:
    """Prompt logprobs of a sample come from a pass over the whole prompt."""
    scheduler = make(max_running=8, max_step_tokens=64)
    leader, sibling = sequences_of("a", prompt=10, n=2)
    sibling.needs_all_rows = True
    scheduler.add([leader, sibling])
    assert step(scheduler) == [("a", 10), ("a", 10)]


def test_a_long_prompt_is_prefilled_in_chunks_beside_decoding() -> None:
    """A long prompt does not stop those that already decode."""
    scheduler = make(max_running=4, max_step_tokens=8)
    scheduler.add(sequences_of("short", prompt=4))
    step(scheduler)
    scheduler.add(sequences_of("long", prompt=20))
    assert [step(scheduler) for _ in range(3)] == [
        [("short", 1), ("long", 7)],
        [("short", 1), ("long", 7)],
        [("short", 1), ("long", 6)],
    ]


def test_a_long_prompt_takes_small_chunks_only_while_others_decode() -> None:
    """Who generates waits for a chunk at most; alone, a prompt is computed as fast as can be."""
    scheduler = make(max_running=4, max_step_tokens=12, prefill_chunk=3)
    scheduler.add(sequences_of("a", prompt=12, max_tokens=3))
    assert step(scheduler) == [("a", 12)]
    scheduler.add(sequences_of("b", prompt=30, max_tokens=2))
    assert step(scheduler) == [("a", 1), ("b", 3)]
    assert step(scheduler) == [("a", 1), ("b", 3)]
    assert step(scheduler) == [("b", 12)]
    assert step(scheduler) == [("b", 12)]


@pytest.mark.parametrize("budget", [1, 2, 3, 4, 6])
def test_more_running_sequences_than_the_budget_take_turns(budget: int) -> None:
    """Each decodes as often as the others, give or take one."""
    scheduler = make(max_running=6, max_step_tokens=64)
    everyone = [s for name in "abcdef" for s in sequences_of(name, prompt=1, max_tokens=39)]
    scheduler.add(everyone)
    step(scheduler)
    scheduler.max_step_tokens = budget
    for _ in range(12):
        step(scheduler)
        lengths = [len(s.tokens) for s in everyone]
        assert max(lengths) - min(lengths) <= 1


@pytest.mark.parametrize("budget", [1, 2, 4, 8])
def test_decodes_that_fill_the_budget_don_t_starve_prefill_nor_it_them(budget: int) -> None:
    """A prompt gets its share of the tokens while others decode; they get the rest."""
    scheduler = make(max_running=budget + 1, max_step_tokens=64, pool=200)
    for index in range(budget):
        scheduler.add(sequences_of(chr(97 + index), prompt=1, max_tokens=39))
    step(scheduler)
    scheduler.max_step_tokens = budget
    (late,) = late_group = sequences_of("late", prompt=30)
    scheduler.add(late_group)
    steps = [step(scheduler) for _ in range(16)]
    decoded = sum(length for chunks in steps for name, length in chunks if name != "late")
    assert late.computed >= 4
    assert decoded >= 16 * budget // 2


def test_a_sequence_starts_when_its_present_tokens_fit_not_its_longest_response() -> None:
    """Room for tokens to come is not kept, so more sequences run at once."""
    scheduler = make(max_step_tokens=64, pool=6)
    scheduler.add(sequences_of("a", prompt=8, max_tokens=12))
    scheduler.add(sequences_of("b", prompt=8, max_tokens=12))
    scheduler.add(sequences_of("c", prompt=4, max_tokens=12))
    assert step(scheduler) == [("a", 8), ("b", 8), ("c", 4)]


def test_admission_leaves_a_block_to_those_who_run() -> None:
    """A sequence that took the last block would be preempted in the next step."""
    scheduler = make(max_step_tokens=64, pool=4)
    scheduler.add(sequences_of("a", prompt=8, max_tokens=8))
    scheduler.add(sequences_of("b", prompt=8, max_tokens=8))
    assert step(scheduler) == [("a", 8)]
    assert scheduler.statistics().waiting == 1


def test_the_last_in_rank_is_preempted_and_comes_back_with_its_tokens() -> None:
    """When blocks run out the latest gives its own to those before it, waits, and computes what is gone."""
    scheduler = make(max_step_tokens=64, pool=5)
    (a,), (b,) = sequences_of("a", prompt=7, max_tokens=9), sequences_of("b", prompt=7, max_tokens=9)
    scheduler.add([a])
    scheduler.add([b])
    for _ in range(7):  # both hold two blocks; a takes the fifth, then one of b's
        step(scheduler)
    tokens = list(b.tokens)
    assert (b.computed, b.blocks, scheduler.statistics().preemptions) == (0, [], 1)
    assert scheduler.statistics().waiting == 1
    ended = drain(scheduler)
    assert ended == [a, b]
    assert b.tokens[: len(tokens)] == tokens
    assert scheduler.statistics().prefix_hit_tokens > 0, "what of its blocks was left is not computed again"


def test_a_victim_that_was_planned_already_leaves_the_plan() -> None:
    """Decodes are planned before prefill, but an urgent prompt that lacks blocks takes theirs."""
    scheduler = make(max_step_tokens=8, pool=11)
    (low,) = group = sequences_of("low", prompt=4, max_tokens=30, priority=1)
    scheduler.add(group)
    step(scheduler)
    scheduler.max_step_tokens = 3
    scheduler.add(sequences_of("urgent", prompt=30))
    for _ in range(12):
        assert step(scheduler) == [("low", 1), ("urgent", 2)]
    assert step(scheduler) == [("urgent", 2)]  # low took the last block in this very plan
    assert (low.computed, low.blocks, scheduler.statistics().preemptions) == (0, [], 1)
    assert len(drain(scheduler)) == 2
    assert len(low.tokens) == 34


def test_a_copy_planned_for_a_victim_is_not_made() -> None:
    """Its target goes to somebody else in the same plan."""
    scheduler = make(max_step_tokens=64, pool=4)
    (urgent,) = sequences_of("urgent", prompt=4, max_tokens=9)
    leader, sibling = group = sequences_of("group", prompt=1, n=2, max_tokens=9, priority=1)
    scheduler.add([urgent])
    scheduler.add(group)
    step(scheduler)
    scheduler.pool.take()  # one block is left for two that want one
    scheduler.max_step_tokens = 2
    sibling.served, urgent.served, leader.served = 10, 11, 12  # whose turn it is
    plan = scheduler.plan()
    assert [chunk.sequence for chunk in plan.chunks] == [urgent, leader]
    assert (plan.copies, sibling.blocks, scheduler.statistics().preemptions) == ((), [], 1)


def test_found_blocks_that_nobody_held_count_as_taken_at_admission() -> None:
    """They were free until then, and the watermark is for those who run."""
    scheduler = make(max_step_tokens=64, pool=4)
    scheduler.add(sequences_of("old", prompt=8, max_tokens=1))
    (old,) = drain(scheduler)
    scheduler.add(sequences_of("running", prompt=1, max_tokens=4))
    scheduler.add(sequences_of("new", old.tokens, max_tokens=3))
    assert step(scheduler) == [("running", 1)]


def test_cached_blocks_go_before_anybody_is_preempted() -> None:
    """Blocks that nobody holds are there for the taking."""
    scheduler = make(max_step_tokens=64, pool=5)
    scheduler.add(sequences_of("old", prompt=12, max_tokens=1))
    drain(scheduler)
    assert scheduler.pool.cache.idle == 3
    scheduler.add(sequences_of("new", prompt=4, max_tokens=16))
    drain(scheduler)
    assert scheduler.statistics().preemptions == 0


def test_one_without_a_block_and_without_a_victim_stalls_and_keeps_what_it_has() -> None:
    """The last in rank waits for a block instead of throwing its own work away."""
    scheduler = make(max_step_tokens=64, pool=4)
    (a,), (b,) = sequences_of("a", prompt=3, max_tokens=6), sequences_of("b", prompt=4, max_tokens=8)
    scheduler.add([a])
    scheduler.add([b])
    for _ in range(5):
        step(scheduler)
    assert step(scheduler) == [("a", 1)]
    assert (a.finish, b.computed) == (Finish.LENGTH, 8)
    assert step(scheduler) == [("b", 1)]
    assert scheduler.statistics().preemptions == 0


def test_priority_goes_before_arrival() -> None:
    """Waiting sequences start by priority; equal ones in order of arrival."""
    scheduler = make(max_running=1, max_step_tokens=64)
    for name, priority in [("a", 1), ("b", 0), ("c", 1), ("d", -1)]:
        scheduler.add(sequences_of(name, prompt=3, priority=priority))
    assert [s.request.id for s in drain(scheduler)] == ["d", "b", "a", "c"]


def test_an_urgent_prompt_overtakes_a_long_one_that_is_being_prefilled() -> None:
    """Prefill chunks go by priority too."""
    scheduler = make(max_step_tokens=8)
    scheduler.add(sequences_of("long", prompt=30, priority=1))
    step(scheduler)
    scheduler.add(sequences_of("urgent", prompt=6))
    assert step(scheduler) == [("urgent", 6), ("long", 2)]


def test_preemption_takes_the_lowest_priority_not_the_latest() -> None:
    """An urgent sequence that came last keeps its blocks."""
    scheduler = make(max_step_tokens=64, pool=5)
    scheduler.add(sequences_of("slow", prompt=7, max_tokens=12, priority=1))
    scheduler.add(sequences_of("urgent", prompt=7, max_tokens=12))
    assert [s.request.id for s in drain(scheduler)] == ["urgent", "slow"]
    assert scheduler.statistics().preemptions == 1


def test_a_known_beginning_is_not_computed_again_but_for_the_last_token() -> None:
    """Logits come from a forward pass, so even a prompt that is known as a whole leaves something to do."""
    scheduler = make(max_step_tokens=64)
    prompt = list(range(8))
    scheduler.add(sequences_of("a", prompt))
    drain(scheduler)
    scheduler.add(sequences_of("same", prompt))
    scheduler.add(sequences_of("longer", [*prompt, 9]))
    scheduler.add(sequences_of("other", [5, *prompt]))
    assert step(scheduler) == [("same", 4), ("longer", 1), ("other", 9)]


def test_generated_tokens_are_reused_too() -> None:
    """The next turn of a conversation begins with the last one's response."""
    scheduler = make(max_step_tokens=64)
    (first,) = group = sequences_of("a", prompt=6, max_tokens=7)
    scheduler.add(group)
    drain(scheduler)
    scheduler.add(sequences_of("next", [*first.tokens, 7, 7]))
    assert step(scheduler) == [("next", 3)]


def test_equal_prompts_that_arrive_together_are_computed_once() -> None:
    """The second waits a step for blocks that are being computed, and never shares them before."""
    scheduler = make(max_step_tokens=64)
    prompt = list(range(10))
    for name in "ab":
        scheduler.add(sequences_of(name, prompt))
    scheduler.add(sequences_of("c", prompt=5))
    assert step(scheduler) == [("a", 10), ("c", 5)]
    assert step(scheduler) == [("a", 1), ("c", 1), ("b", 2)]


def test_a_short_common_beginning_is_not_waited_for() -> None:
    """A step's delay costs more than a few tokens computed twice."""
    scheduler = make(max_step_tokens=64)
    scheduler.add(sequences_of("a", [*range(4), *range(50, 70)]))
    scheduler.add(sequences_of("b", [*range(4), *range(80, 90)]))
    assert step(scheduler) == [("a", 24), ("b", 14)]


def test_salt_keeps_adapters_apart_and_needs_all_rows_reuses_nothing() -> None:
    """Keys and values of an adapter are its own; prompt logprobs need every row."""
    scheduler = make(max_step_tokens=64)
    prompt = list(range(8))
    scheduler.add(sequences_of("base", prompt))
    drain(scheduler)
    (adapter,), (rows,) = sequences_of("adapter", prompt), sequences_of("rows", prompt)
    adapter.cache_salt = ("adapter", 1)
    rows.needs_all_rows = True
    scheduler.add([adapter])
    scheduler.add([rows])
    assert step(scheduler) == [("adapter", 8), ("rows", 8)]


def test_nothing_computed_before_new_weights_is_reused() -> None:
    """A sequence that goes on over old keys and values offers nothing that it computes on top of them."""
    scheduler = make(max_step_tokens=64)
    (running,) = group = sequences_of("a", prompt=8, max_tokens=9)
    scheduler.add(group)
    step(scheduler)
    scheduler.clear_prefix_cache()
    drain(scheduler)
    assert scheduler.pool.cache.idle == 0
    scheduler.add(sequences_of("b", list(running.tokens)))
    assert step(scheduler) == [("b", 17)]


def test_siblings_that_join_over_new_weights_offer_nothing_either() -> None:
    """They take over keys and values that older weights computed."""
    scheduler = make(max_step_tokens=6)
    scheduler.add(sequences_of("a", prompt=10, n=3, max_tokens=9))
    step(scheduler)
    scheduler.clear_prefix_cache()
    drain(scheduler)
    assert scheduler.pool.cache.idle == 0


def test_what_is_computed_anew_is_reused_again() -> None:
    """A sequence that lost its old keys and values computes with one version of the weights."""
    scheduler = make(max_step_tokens=64)
    (first,) = group = sequences_of("a", prompt=8, max_tokens=9)
    scheduler.add(group)
    step(scheduler)
    scheduler.clear_prefix_cache()
    scheduler.recompute_all()
    drain(scheduler)
    scheduler.add(sequences_of("b", list(first.tokens)))
    assert step(scheduler) == [("b", 1)]


def test_recompute_all_computes_everybody_anew_in_the_same_order() -> None:
    """New weights make all keys and values stale; no token is lost."""
    scheduler = make(max_step_tokens=64)
    scheduler.add(sequences_of("a", prompt=9, max_tokens=8))
    scheduler.add(sequences_of("b", prompt=5, max_tokens=8))
    step(scheduler)
    step(scheduler)
    scheduler.recompute_all()
    assert step(scheduler) == [("a", 11), ("b", 7)]
    assert [len(s.tokens) for s in drain(scheduler)] == [17, 13]
    assert scheduler.statistics().preemptions == 0


def test_what_a_failed_sequence_computed_is_not_reused() -> None:
    """It may not be finite."""
    scheduler = make(max_step_tokens=64)
    (failed,) = group = sequences_of("a", prompt=9)
    scheduler.add(group)
    step(scheduler)
    scheduler.end(failed, Finish.ERROR)
    scheduler.add(sequences_of("b", list(failed.tokens)))
    assert step(scheduler) == [("b", 10)]


def test_a_sequence_ends_in_any_state_and_only_once() -> None:
    """Waiting, halfway through its prompt, decoding or preempted: its end frees everything it holds."""
    scheduler = make(max_running=2, max_step_tokens=8, pool=6)
    decoding, halfway, waiting = (sequences_of(name, 8, max_tokens=8)[0] for name in "abc")
    for sequence in (decoding, halfway, waiting):
        scheduler.add([sequence])
    step(scheduler)
    step(scheduler)
    assert (decoding.generated, halfway.computed, waiting.computed) == (2, 7, 0)
    for sequence in (decoding, halfway, waiting):
        scheduler.end(sequence, Finish.ABORT)
        with pytest.raises(AssertionError):
            scheduler.end(sequence, Finish.ABORT)
    assert not scheduler.has_work()
    assert scheduler.pool.free == 6


def test_one_that_may_not_start_yet_keeps_its_place_and_holds_up_nobody() -> None:
    """A sequence whose adapter has no room is asked for again in every step."""
    scheduler = make(max_step_tokens=64)
    (blocked,) = sequences_of("a", prompt=4)
    allowed: set[Sequence] = set()
    scheduler.may_start = lambda sequence: sequence is not blocked or sequence in allowed
    scheduler.add([blocked])
    scheduler.add(sequences_of("b", prompt=4))
    assert step(scheduler) == [("b", 4)]
    assert blocked not in scheduler.running()
    allowed.add(blocked)
    assert step(scheduler) == [("b", 1), ("a", 4)]


def test_statistics_tell_what_happened() -> None:
    """Numbers that a server exports and a person tunes by."""
    scheduler = make(max_running=1, max_step_tokens=64, pool=8)
    scheduler.add(sequences_of("a", prompt=6))
    scheduler.add(sequences_of("b", prompt=6))
    step(scheduler)
    step(scheduler)
    statistics = scheduler.statistics()
    assert (statistics.running, statistics.waiting, statistics.kv_usage) == (1, 1, 0.25)
    assert (statistics.prefilled_tokens, statistics.step_tokens, statistics.steps) == (6, 1, 2)
    assert (statistics.prefix_query_tokens, statistics.prefix_hit_tokens, statistics.preemptions) == (6, 0, 0)
