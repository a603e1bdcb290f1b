"""The backlog: everything is handed out, nothing twice at a time, suspects alone."""

import asyncio

from hypothesis import given
from hypothesis import strategies as st

from asynckit.rollout.backlog import Backlog
from asynckit.rollout.group import Group
from asynckit.rollout.prompting.prompts import Prompt


def group(name: str) -> Group:
    return Group(name, Prompt(0, name, None, None, "", {}, "here"), 1, 0, 0.0)


def busy() -> bool:
    return False


def idle() -> bool:
    return True


async def take(backlog: Backlog, *, alone: bool = False) -> str | None:
    async with asyncio.timeout(1.0):
        taken = await backlog.take(idle if alone else busy)
    return taken.id if taken else None


async def test_groups_come_in_order_and_end() -> None:
    """None says that there is nothing left to do."""
    backlog = Backlog(map(group, "ab"))
    assert [await take(backlog), await take(backlog)] == ["a", "b"]
    await backlog.end("ab")
    assert await take(backlog) is None


async def test_takers_wait_while_something_may_come_back() -> None:
    """A rollouter that has nothing to do stays ready for what another one loses."""
    backlog = Backlog(map(group, "a"))
    await take(backlog)
    waiting = asyncio.create_task(take(backlog))
    await asyncio.sleep(0)
    assert not waiting.done()
    await backlog.give_back(["a", "unknown"], blamed=True)
    assert await waiting == "a"


async def test_a_group_that_ends_while_it_waits_is_passed_over() -> None:
    """An earlier attempt came through; and nothing is remembered of groups that are done with."""
    backlog = Backlog(map(group, "abc"))
    assert [await take(backlog), await take(backlog)] == ["a", "b"]
    await backlog.give_back("b", blamed=False)
    await backlog.end("ab")
    assert await take(backlog) == "c"
    await backlog.end("c")
    assert backlog.done
    assert not backlog._ended


async def test_what_is_there_at_two_deaths_runs_alone() -> None:
    """Once among others again, then only where nothing else runs, and last."""
    backlog = Backlog(map(group, "abc"))
    for _ in range(2):
        assert [await take(backlog), await take(backlog)] == ["a", "b"]
        await backlog.give_back("ab", blamed=True)
    assert backlog.is_suspect("a")
    assert await take(backlog) == "c"
    assert await take(backlog, alone=True) == "a"


async def test_the_loss_of_a_queue_blames_nobody() -> None:
    """However often it happens."""
    backlog = Backlog(map(group, "a"))
    for _ in range(5):
        assert await take(backlog) == "a"
        await backlog.give_back("a", blamed=False)
    assert not backlog.is_suspect("a")


async def test_what_ends_after_it_was_given_back_does_not_run_again() -> None:
    """Its records were on the way when its rollouter died; or it was poison, and has been failed."""
    backlog = Backlog(map(group, "ab"))
    assert await take(backlog) == "a"
    await backlog.give_back("a", blamed=True)
    await backlog.end("a")
    assert await take(backlog) == "b"
    for _ in range(2):
        await backlog.give_back("b", blamed=True)
        assert await take(backlog, alone=True) == "b"
    await backlog.give_back("b", blamed=True)
    await backlog.end("b")
    assert await take(backlog, alone=True) is None
    assert await take(backlog) is None


async def test_a_taker_that_becomes_idle_gets_the_suspect() -> None:
    """It asked while it was busy, and its last group ends while it waits."""
    backlog = Backlog(map(group, "a"))
    for _ in range(2):
        await take(backlog)
        await backlog.give_back("a", blamed=True)
    running = {"b"}
    waiting = asyncio.create_task(backlog.take(lambda: not running))
    await asyncio.sleep(0)
    assert not waiting.done()
    running.clear()
    await backlog.wake()
    taken = await asyncio.wait_for(waiting, 1.0)
    assert taken
    assert taken.id == "a"


@given(st.lists(st.sampled_from(["end", "die", "lose"]), max_size=60))
def test_every_group_ends(fates: list[str]) -> None:
    """Whatever happens to the first that is out, in any order; none is out twice."""

    async def run() -> None:
        backlog, ended = Backlog(map(group, "abcdef")), set[str]()
        for fate in [*fates, *["end"] * 6]:
            taken = await backlog.take(lambda: not backlog.out)
            if taken is None:
                break
            assert taken.id not in ended
            if fate == "end":
                ended.add(taken.id)
                await backlog.end([taken.id])
            else:
                await backlog.give_back([taken.id], blamed=fate == "die")
        assert ended == set("abcdef")
        assert await take(backlog, alone=True) is None

    asyncio.run(run())
