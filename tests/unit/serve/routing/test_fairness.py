"""Busy owners get equal shares, and nobody saves up."""

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from asynckit.serve.routing.fairness import MOST_IDLE_OWNERS, FairQueue, Owner


def _serve(queue: FairQueue, owners: dict[str, Owner], cost: dict[str, int]) -> str:
    """Serve the first request at its owner's cost; the owner asks again at once."""
    id_ = queue.first()
    assert id_
    name = id_.split("-")[0]
    owner = owners[name]
    _, arrival, _ = owner.waiting[0]
    queue.remove(owner, 0, arrival, id_)
    owner.counter += cost[name]
    queue.put(name, 0, arrival + 100_000, f"{name}-{arrival + 100_000}")
    queue.ended(owner)
    return name


@given(st.lists(st.integers(1, 100), min_size=2, max_size=5))
def test_busy_owners_are_served_alike(costs: list[int]) -> None:
    """Whatever one request costs, no owner gets ahead of another by more than one request."""
    queue = FairQueue()
    cost = {f"o{index}": each for index, each in enumerate(costs)}
    owners = {name: queue.put(name, 0, index, f"{name}-{index}") for index, name in enumerate(cost)}
    served: Counter[str] = Counter()
    for _ in range(200):
        name = _serve(queue, owners, cost)
        served[name] += cost[name]
        assert max(served.values()) - min(served[name] for name in cost) <= 2 * max(costs)


def test_a_pause_earns_nothing() -> None:
    """Who comes back goes in beside the others, not before all that they will ask for."""
    queue = FairQueue()
    owners = {"a": queue.put("a", 0, 0, "a-0"), "b": queue.put("b", 0, 1, "b-1")}
    cost = {"a": 10, "b": 10, "c": 10}
    for _ in range(100):
        _serve(queue, owners, cost)
    owners["c"] = queue.put("c", 0, 3, "c-3")
    turns = Counter(_serve(queue, owners, cost) for _ in range(30))
    assert max(turns.values()) - min(turns.values()) <= 2


def test_greed_is_remembered_while_others_wait() -> None:
    """An owner who was served much and ended does not begin anew when there are others."""
    queue = FairQueue()
    greedy, modest = queue.put("greedy", 0, 0, "greedy-0"), queue.put("modest", 0, 1, "modest-1")
    queue.remove(greedy, 0, 0, "greedy-0")
    greedy.counter += 1000
    queue.ended(greedy)
    assert queue.put("greedy", 0, 2, "greedy-2").counter == 1000
    assert queue.first() == "modest-1"
    assert modest.counter == 0


def test_the_order_to_come_takes_turns() -> None:
    """What is read ahead follows the order in which owners will be served."""
    queue = FairQueue()
    queue.put("a", 0, 0, "a-0").counter = 5
    queue.put("a", 0, 1, "a-1")
    owner = queue.put("b", 0, 2, "b-2")
    owner.counter = 4
    assert list(queue) == ["b-2", "a-0", "a-1"]


def test_priority_goes_first_within_an_owner() -> None:
    """Lower priorities come first, then arrivals."""
    queue = FairQueue()
    owner = queue.put("a", 5, 0, "late")
    queue.put("a", 0, 1, "early")
    queue.put("a", 0, 2, "next")
    assert queue.first() == "early"
    queue.remove(owner, 0, 1, "early")
    assert queue.first() == "next"
    assert list(queue) == ["next", "late"]


@pytest.mark.parametrize("busy", [True, False])
def test_owners_do_not_pile_up(busy: bool) -> None:
    """However many names come by, memory is bounded."""
    queue = FairQueue()
    if busy:
        queue.put("busy", 0, 0, "busy")
    for number in range(3 * MOST_IDLE_OWNERS):
        owner = queue.put(f"o{number}", 0, number, f"{number}")
        owner.counter += number
        queue.remove(owner, 0, number, f"{number}")
        queue.ended(owner)
    assert len(queue._owners) <= MOST_IDLE_OWNERS + 1
