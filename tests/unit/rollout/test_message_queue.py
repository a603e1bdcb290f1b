"""The message queue: bounded, first in first out, nothing lost, nothing evicted."""

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from asynckit.rollout.message_queue import Delivery, MessageQueue, QueueClosed


async def test_put_waits_while_the_queue_is_full_until_an_acknowledgement() -> None:
    """Backpressure counts what was taken but not acknowledged: it is still owed."""
    queue = MessageQueue(2)
    await queue.put("a")
    await queue.put("b")
    third = asyncio.create_task(queue.put("c"))
    await asyncio.sleep(0)
    taken = await queue.get(10)
    assert [item for _, item in taken.items] == ["a", "b"]
    assert not third.done()
    await queue.acknowledge(Delivery("another queue's", taken.items))
    assert not third.done()
    await queue.acknowledge(Delivery(taken.incarnation, taken.items[:1]))
    await third
    statistics = await queue.statistics()
    assert (statistics.waiting, statistics.unacknowledged, statistics.put, statistics.peak) == (1, 1, 3, 2)


async def test_get_waits_for_the_first_item_and_gives_up_in_time() -> None:
    """A consumer with something else to do gets an empty list after its time-out."""
    queue = MessageQueue(2)
    assert (await queue.get(1, timeout=0.01)).items == []
    getter = asyncio.create_task(queue.get(5))
    await asyncio.sleep(0)
    await queue.put("a")
    assert [item for _, item in (await getter).items] == ["a"]


async def test_close_refuses_puts_wakes_everyone_and_drains() -> None:
    """After close nobody waits for ever, and what is left is still delivered."""
    queue = MessageQueue(1)
    await queue.put("a")
    blocked = asyncio.create_task(queue.put("b"))
    await asyncio.sleep(0)
    await queue.close()
    with pytest.raises(QueueClosed):
        await blocked
    assert [item for _, item in (await queue.get(5)).items] == ["a"]
    assert (await queue.get(5)).items == []


@given(st.integers(1, 5), st.integers(1, 30), st.integers(1, 4))
def test_everything_arrives_once_and_in_order(capacity: int, count: int, most: int) -> None:
    """Whatever the sizes, the consumer sees exactly what was put."""

    async def scenario() -> list[int]:
        queue = MessageQueue(capacity)

        async def produce() -> None:
            for item in range(count):
                await queue.put(item)
            await queue.close()

        producer = asyncio.create_task(produce())
        seen: list[int] = []
        while (delivery := await queue.get(most)).items:
            assert len(delivery.items) <= most
            seen += [item for _, item in delivery.items]
            await queue.acknowledge(delivery)
        await producer
        return seen

    assert asyncio.run(scenario()) == list(range(count))
