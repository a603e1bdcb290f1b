"""Adapter accounting: limits are kept, the busy stay, and whoever is alone always fits."""

from hypothesis import given
from hypothesis import strategies as st

from asynckit.engine.residency import Change, Residency

SIZES = {number: 1 + number % 5 for number in range(12)}


def carry_out(residency: Residency, number: int, change: Change) -> None:
    for other in change.unload:
        residency.take_slot(other)
        residency.unload(other)
    if change.unslot is not None:
        residency.take_slot(change.unslot)
    if not residency.is_loaded(number):
        residency.load(number, SIZES[number])
    if residency.slot(number) is None:
        residency.give_slot(number)
    residency.touch(number)


@given(
    slots=st.integers(1, 5),
    room=st.integers(5, 20),
    steps=st.lists(st.tuples(st.sampled_from(sorted(SIZES)), st.sets(st.sampled_from(sorted(SIZES))))),
)
def test_limits_hold_and_the_busy_stay(slots: int, room: int, steps: list[tuple[int, set[int]]]) -> None:
    """Whatever is asked for in whatever order; slots are never given twice."""
    residency = Residency(slots, room)
    for number, wanted in steps:
        busy = wanted.intersection(residency.resident)
        change = residency.plan(number, SIZES[number], busy)
        if change is None:
            assert busy, "with nobody busy there is always room"
            continue
        carry_out(residency, number, change)
        assert residency.slot(number) is not None
        assert all(residency.slot(other) is not None for other in busy)
        assert residency.used <= room
        taken = [residency.slot(other) for other in residency.resident]
        assert len(set(taken)) == len(taken) <= slots
        assert all(residency.is_loaded(other) for other in residency.resident)


def test_who_was_unused_for_longest_goes_first() -> None:
    """A slot is lost before memory is, and both by last use."""
    residency = Residency(2, 100)
    for number in (1, 2, 3):
        change = residency.plan(number, 10, ())
        assert change is not None
        carry_out(residency, number, change)
    assert residency.slot(1) is None
    assert residency.is_loaded(1)
    residency.touch(2)
    assert residency.plan(4, 10, ()) == Change((), unslot=3)
    assert residency.plan(4, 10, {2, 3}) is None
    assert residency.plan(4, 99, ()) == Change((1, 3, 2))
    assert residency.plan(2, 10, {3}) == Change()


@given(
    loaded=st.lists(st.sampled_from(sorted(SIZES)), unique=True),
    room=st.integers(5, 60),
    busy=st.sets(st.sampled_from(sorted(SIZES))),
    number=st.sampled_from(sorted(SIZES)),
)
def test_memory_alone_is_planned_without_slots(
    loaded: list[int], room: int, busy: set[int], number: int
) -> None:
    """What is read ahead needs no slot; the limit holds and the busy stay."""
    residency = Residency(1, room)
    for other in loaded:
        if residency.used + SIZES[other] <= room:
            residency.load(other, SIZES[other])
    change = residency.plan_memory(number, SIZES[number], busy)
    if change is None:
        assert sum(SIZES[other] for other in residency.members if other in busy) + SIZES[number] > room
        return
    assert change.unslot is None
    assert not busy.intersection(change.unload)
    for other in change.unload:
        residency.unload(other)
    assert residency.is_loaded(number) or residency.used + SIZES[number] <= room


def test_without_limits_nobody_leaves() -> None:
    """Every adapter gets memory and a slot of its own."""
    residency = Residency(None, None)
    for number in SIZES:
        assert residency.plan(number, 10**12, ()) == Change()
        carry_out(residency, number, Change())
    assert residency.loaded == len(set(residency.resident)) == len(SIZES)
