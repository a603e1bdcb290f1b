"""The scheduler: every sequence ends once, the cache is never overrun, nothing leaks."""

from hypothesis import given, settings
from hypothesis import strategies as st

from asynckit.engine.blocks import BlockPool
from asynckit.engine.config import SamplingParams
from asynckit.engine.request import Finish, Request, Sequence
from asynckit.engine.scheduler import Plan, Scheduler

POOL = 24


def make(max_running: int = 4, max_step_tokens: int = 8, pool: int = POOL) -> Scheduler:
    return Scheduler(
        BlockPool(pool, block_size=4),
        max_running=max_running,
        max_step_tokens=max_step_tokens,
        max_model_len=40,
    )


def sequences_of(name: str, prompt: int, n: int = 1, max_tokens: int = 4) -> list[Sequence]:
    request = Request(name, tuple(range(prompt)), SamplingParams(max_tokens=max_tokens), n)
    return [Sequence(request, index, list(request.prompt_ids)) for index in range(n)]


def advance(scheduler: Scheduler, plan: Plan) -> list[Sequence]:
    """Do what the engine does after a pass: one token per sampling sequence; returns those that ended."""
    scheduler.commit(plan)
    ended = []
    for chunk in plan.chunks:
        for sequence in (chunk.sequence, *chunk.siblings) if chunk.samples else ():
            sequence.tokens.append(0)
            if len(sequence.tokens) >= scheduler.longest(sequence):
                scheduler.end(sequence, Finish.LENGTH)
                ended.append(sequence)
    return ended


requests = st.lists(
    st.tuples(st.integers(1, 30), st.integers(1, 6), st.integers(1, 12)), min_size=1, max_size=12
)


@settings(max_examples=200)
@given(requests, st.integers(1, 6), st.integers(1, 40), st.data())
def test_random_schedules_end_every_sequence_once_and_free_every_block(
    shapes: list[tuple[int, int, int]], max_running: int, budget: int, data: st.DataObject
) -> None:
    """Whatever arrives or is aborted, work ends, the budget holds, no block is lost or written twice."""
    scheduler = make(max_running, budget)
    arriving = [sequences_of(str(i), p, n, m) for i, (p, n, m) in enumerate(shapes)]
    everyone = [s for group in arriving for s in group]
    ended: list[Sequence] = []
    while arriving or scheduler.has_work():
        if arriving and not data.draw(st.booleans()):
            scheduler.add(arriving.pop())
        alive = scheduler.sequences()
        if alive and data.draw(st.integers(0, 9)) == 9:
            victim = data.draw(st.sampled_from(alive))
            scheduler.end(victim, Finish.ABORT)
            ended.append(victim)
        plan = scheduler.plan()
        assert plan.chunks or not scheduler.has_work(), "work without a plan would wait for ever"
        assert sum(chunk.length for chunk in plan.chunks) <= budget
        assert scheduler.statistics().running <= max_running
        written = [
            (chunk.sequence.blocks[p // 4], p % 4)
            for chunk in plan.chunks
            for p in range(chunk.start, chunk.start + chunk.length)
        ]
        assert len(set(written)) == len(written), "two sequences write the same place"
        for sequence in scheduler.sequences():
            assert all(not scheduler.pool.shared(block) for block, _ in written), sequence
        ended += advance(scheduler, plan)
    assert sorted(map(id, ended)) == sorted(map(id, everyone))
    assert scheduler.pool.free == POOL


def test_a_prompt_is_prefilled_once_for_all_its_samples() -> None:
    """The n samples of a group share one prefill."""
    scheduler = make(max_running=8, max_step_tokens=64)
    scheduler.add(sequences_of("a", prompt=10, n=6))
    plan = scheduler.plan()
    assert [chunk.length for chunk in plan.chunks] == [10]
    assert len(plan.chunks[0].siblings) == 5
    advance(scheduler, plan)
    assert [chunk.length for chunk in scheduler.plan().chunks] == [1] * 6


def test_a_shared_block_is_copied_before_it_is_written() -> None:
    """Samples that share a half-filled block write into copies; the last one keeps the original."""
    scheduler = make(max_running=8, max_step_tokens=64)
    scheduler.add(sequences_of("a", prompt=6, n=3))
    advance(scheduler, scheduler.plan())
    plan = scheduler.plan()
    assert len(plan.copies) == 2
    assert len({chunk.sequence.blocks[1] for chunk in plan.chunks}) == 3
    assert len({chunk.sequence.blocks[0] for chunk in plan.chunks}) == 1


def test_a_long_prompt_is_prefilled_in_chunks_beside_decoding() -> None:
    """A long prompt does not stop those that already decode."""
    scheduler = make(max_running=4, max_step_tokens=8)
    scheduler.add(sequences_of("short", prompt=4))
    advance(scheduler, scheduler.plan())
    scheduler.add(sequences_of("long", prompt=20))
    lengths = []
    for _ in range(3):
        plan = scheduler.plan()
        lengths.append([chunk.length for chunk in plan.chunks])
        advance(scheduler, plan)
    assert lengths == [[1, 7], [1, 7], [1, 6]]


def test_a_sequence_waits_until_its_whole_length_fits() -> None:
    """A running sequence never runs out of cache: room for its longest response is kept."""
    scheduler = make(pool=5)
    scheduler.add(sequences_of("a", prompt=8, max_tokens=4))
    scheduler.add(sequences_of("b", prompt=8, max_tokens=4))
    assert [chunk.sequence.request.id for chunk in scheduler.plan().chunks] == ["a"]
    assert scheduler.statistics().waiting == 1
