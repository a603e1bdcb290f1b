"""Blocks by content: only equal beginnings are found, and the longest idle goes first."""

from hypothesis import given
from hypothesis import strategies as st

from asynckit.engine.blocks import BlockPool
from asynckit.engine.prefix_cache import extend_hashes

tokens = st.lists(st.integers(0, 2), max_size=14)


def hashes_of(ids: list[int], size: int = 2) -> list[bytes]:
    hashes: list[bytes] = []
    extend_hashes(hashes, ids, size)
    return hashes


def pool_with(*chains: list[int], salt: str | None = None) -> BlockPool:
    """A pool whose idle blocks hold the given token lists, released in this order."""
    pool = BlockPool(4, block_size=2)
    for chain in chains:
        blocks = []
        for digest in hashes_of(chain):
            blocks.append(pool.take())
            pool.offer((salt, digest), blocks[-1])
        pool.release(blocks)
    return pool


@given(tokens, tokens)
def test_hashes_agree_exactly_as_far_as_the_tokens_do(one: list[int], other: list[int]) -> None:
    """A block's hash covers all tokens up to its end."""
    for end, pair in enumerate(zip(hashes_of(one), hashes_of(other), strict=False), start=1):
        assert (pair[0] == pair[1]) == (one[: 2 * end] == other[: 2 * end])


@given(tokens, st.integers(0, 14))
def test_hashes_don_t_depend_on_when_they_are_made(ids: list[int], cut: int) -> None:
    """A chain that grows with its tokens equals the one made at once."""
    hashes = hashes_of(ids[:cut])
    extend_hashes(hashes, ids, 2)
    assert hashes == hashes_of(ids)


def test_the_longest_known_beginning_is_found_and_shared() -> None:
    """A found block counts as free until somebody shares it."""
    pool = pool_with([1, 2, 3, 4, 5, 6])
    found = pool.cache.prefix(None, hashes_of([1, 2, 3, 4, 9, 9]))
    assert len(found) == 2
    assert (pool.free, pool.count_idle(found)) == (4, 2)
    pool.share(found)
    assert (pool.free, pool.count_idle(found)) == (2, 0)
    assert not any(pool.shared(block) for block in found)


def test_another_salt_finds_nothing() -> None:
    """Keys and values of one adapter are wrong for another."""
    pool = pool_with([1, 2], salt="adapter")
    assert pool.cache.prefix(None, hashes_of([1, 2])) == []
    assert len(pool.cache.prefix("adapter", hashes_of([1, 2]))) == 1


def test_empty_blocks_go_before_known_ones_and_tails_before_heads() -> None:
    """What is most likely to be found again stays for longest."""
    pool = pool_with([1, 2, 3, 4], [7, 8])
    pool.take()
    assert len(pool.cache.prefix(None, hashes_of([1, 2, 3, 4]))) == 2
    pool.take()
    assert len(pool.cache.prefix(None, hashes_of([1, 2, 3, 4]))) == 1
    pool.take()
    assert len(pool.cache.prefix(None, hashes_of([1, 2, 3, 4]))) == 0
    assert len(pool.cache.prefix(None, hashes_of([7, 8]))) == 1


def test_a_second_block_of_the_same_content_is_not_kept() -> None:
    """Two sequences that computed the same at once leave one findable block, and no leak."""
    pool = BlockPool(4, block_size=2)
    one, other = pool.take(), pool.take()
    (digest,) = hashes_of([1, 2])
    pool.offer((None, digest), one)
    pool.offer((None, digest), other)
    pool.release([other, one])
    assert pool.cache.prefix(None, [digest]) == [one]
    assert (pool.free, pool.cache.idle) == (4, 1)


def test_forgotten_blocks_are_free_but_not_found() -> None:
    """Whether idle or held, forgetting loses no block."""
    pool = pool_with([1, 2, 3, 4], [7, 8])
    held = pool.cache.prefix(None, hashes_of([1, 2]))
    pool.share(held)
    pool.forget(pool.cache.prefix(None, hashes_of([7, 8])))
    assert (pool.free, pool.cache.idle) == (3, 1)
    pool.forget_all()
    assert (pool.free, pool.cache.idle) == (3, 0)
    pool.release(held)
    assert (pool.free, pool.cache.idle) == (4, 0)
    assert pool.cache.prefix(None, hashes_of([1, 2])) == []
