"""Long arrays that lie on the disk in pieces."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from asynckit.tokenization.outputs.stored_arrays import StoredArray

INT32 = np.dtype(np.int32)


@given(lengths=st.lists(st.integers(0, 5), max_size=6), data=st.data())
def test_any_range_is_that_of_the_whole(lengths: list[int], data: st.DataObject) -> None:
    """Wherever the borders of the pieces are, and whether pieces are empty."""
    whole = np.arange(sum(lengths), dtype=np.int32)
    borders = np.cumsum([0, *lengths])
    array = StoredArray(lengths, INT32, lambda piece: whole[borders[piece] : borders[piece + 1]])
    start = data.draw(st.integers(0, len(whole)))
    stop = data.draw(st.integers(start, len(whole)))
    np.testing.assert_array_equal(array.read(start, stop), whole[start:stop])
    assert array.read(start, stop).dtype == INT32
    assert len(array) == len(whole)
    assert [each for piece in array.pieces() for each in piece.tolist()] == whole.tolist()


def test_a_piece_is_read_once_for_neighbours() -> None:
    """Reading a compressed one costs milliseconds."""
    read: list[int] = []

    def piece(number: int) -> np.ndarray[tuple[int], np.dtype[np.int32]]:
        read.append(number)
        return np.arange(4, dtype=np.int32)

    array = StoredArray([4, 4], INT32, piece)
    for start in range(8):
        array.read(start, start + 1)
    assert read == [0, 1]
