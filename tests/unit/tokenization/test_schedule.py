"""Where units go, and when a shard can be put together."""

import random
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from asynckit.tokenization.records import Source, Unit
from asynckit.tokenization.schedule import Assembly, Finished, Item, Ready, Shelf, total_weight, weight_of

SIZES = st.lists(st.integers(0, 50), min_size=1, max_size=30)


def shelved(sizes: list[int], shard_bytes: int) -> list[Item]:
    shelf = Shelf((Source("a", "jsonl"),), shard_bytes)
    return [shelf.put(Unit(0, 0, size)) for size in sizes]


@given(SIZES, st.integers(0, 60))
def test_units_are_numbered_and_a_shard_ends_once_it_is_full(sizes: list[int], shard_bytes: int) -> None:
    """A shard has the bytes that were asked for, and only its last unit goes beyond them."""
    items = shelved(sizes, shard_bytes)
    assert [item.number for item in items] == list(range(len(sizes)))
    assert [item.weight for item in items] == sizes
    shards = [item.shard for item in items]
    assert shards == sorted(shards)
    if not shard_bytes:
        assert set(shards) == {0}
        return
    for shard in set(shards):
        filled = [item.weight for item in items if item.shard == shard]
        assert sum(filled[:-1]) < shard_bytes
        assert shard == shards[-1] or sum(filled) >= shard_bytes


@given(SIZES, st.integers(1, 60), st.randoms(use_true_random=False), st.data())
def test_shards_come_in_order_whenever_their_units_are_finished(
    sizes: list[int], shard_bytes: int, chance: random.Random, data: st.DataObject
) -> None:
    """Every shard is named once, with its parts in order, and begins where the one before ends."""
    items = shelved(sizes, shard_bytes)
    assembly, unfinished = Assembly(), list(items)
    ready: list[Ready] = []
    there = data.draw(st.sets(st.sampled_from([item.shard for item in items])))
    for shard in there:
        count = sum(item.shard == shard for item in items)
        assembly.skip(shard, count, sum(item.weight for item in items if item.shard == shard))
    for item in items:
        assembly.expect(item)
    assembly.end()
    chance.shuffle(unfinished)
    ready += assembly.ready()
    for item in unfinished:
        if item.shard not in there:
            assembly.add(Finished(item, Path(f"{item.number}"), 1, item.weight))
            ready += assembly.ready()
    assert [each.number for each in ready] == sorted({item.shard for item in items} - there)
    for each in ready:
        before = [item for item in items if item.shard < each.number]
        assert each.first_document == len(before)
        assert each.first_token == sum(item.weight for item in before)
        assert [part.item for part in each.parts] == [item for item in items if item.shard == each.number]


def test_a_shard_waits_until_all_units_are_known() -> None:
    """The newest shard may still grow."""
    (item,) = shelved([1], 0)
    assembly = Assembly()
    assembly.expect(item)
    assembly.add(Finished(item, Path("0"), 1, 1))
    assert not list(assembly.ready())
    assembly.end()
    assert len(list(assembly.ready())) == 1


@given(st.integers(0, 1000), st.integers(1, 20))
def test_shares_of_a_source_weigh_what_the_source_does(size: int, units: int) -> None:
    """Parquet's units have rows, so each stands for its share of the file."""
    source = Source("a", "parquet", bytes=size)
    assert sum(weight_of(source, Unit(0, 0, 1, (part, units))) for part in range(units)) == size


def test_the_total_is_unknown_where_a_source_is_compressed() -> None:
    """Nobody knows what comes out of a gzip file before it has been read."""
    plain = Source("a", "jsonl", bytes=5)
    assert total_weight([plain, plain]) == 10
    assert total_weight([plain, Source("b", "jsonl", "gzip", 5)]) is None
    assert total_weight([plain, Source("-", "jsonl")]) is None
