"""The block pool: nothing leaks, nothing is handed out twice."""

from hypothesis import given
from hypothesis import strategies as st

from asynckit.engine.blocks import BlockPool


@given(st.lists(st.sampled_from(["take", "share", "release"]), max_size=200), st.data())
def test_every_block_is_free_or_held_as_often_as_it_was_given(acts: list[str], data: st.DataObject) -> None:
    """Random takes, shares and releases never lose a block or give out one that somebody holds."""
    pool = BlockPool(8, block_size=4)
    held: list[int] = []
    for act in acts:
        if act == "take" and pool.free:
            block = pool.take()
            assert block not in held
            held.append(block)
        elif act == "share" and held:
            block = data.draw(st.sampled_from(held))
            pool.share([block])
            held.append(block)
        elif act == "release" and held:
            block = held.pop(data.draw(st.integers(0, len(held) - 1)))
            pool.release([block])
        assert pool.free == 8 - len(set(held))
        assert all(pool.shared(block) == (held.count(block) > 1) for block in set(held))


def test_blocks_for_rounds_up() -> None:
    """A token more than a full block needs another block."""
    pool = BlockPool(8, block_size=4)
    assert [pool.blocks_for(n) for n in (0, 1, 4, 5)] == [0, 1, 1, 2]
