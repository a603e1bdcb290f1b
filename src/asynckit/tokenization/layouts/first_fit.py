"""First-fit decreasing: into which of many equal bins each item goes.

Items are taken from the largest to the smallest, and each goes into the first bin that has room. Items of
one size go one after another, so that they fill the first bin with room, then the next: all of them are
placed in one step, which is what makes it fast for many small ones. It takes at most 11/9 of the bins that
the best way would, and a bit (Johnson, 1973).
"""

import numpy as np
from numpy.typing import NDArray

_FEW = 4


def first_fit_decreasing(sizes: NDArray[np.int64], capacity: int) -> NDArray[np.int64]:
    """The bin of each item, from 0, int64 ``[items]``.

    Args:
        sizes: from 1 to ``capacity``, int64 ``[items]``. Among items of one size the earlier ones come first.
        capacity: of each bin.
    """
    order = np.argsort(-sizes, kind="stable")
    distinct, counts = np.unique(-sizes, return_counts=True)
    room = np.full(len(sizes), capacity, dtype=np.int64)
    placed: list[NDArray[np.int64]] = []
    used = 0
    for size, count in zip((-distinct).tolist(), counts.tolist(), strict=True):
        place = _place_few if count <= _FEW else _place_many
        bins = place(room[: used + count], size, count)
        used = max(used, int(bins.max()) + 1)
        placed.append(bins)
    result = np.empty(len(sizes), dtype=np.int64)
    result[order] = np.concatenate(placed) if placed else 0
    return result


def _place_few(room: NDArray[np.int64], size: int, count: int) -> NDArray[np.int64]:
    """Put items into the first bins with room, one by one; ``room`` is of all bins that may be needed."""
    bins = np.empty(count, dtype=np.int64)
    for item in range(count):
        first = int(np.argmax(room >= size))
        room[first] -= size
        bins[item] = first
    return bins


def _place_many(room: NDArray[np.int64], size: int, count: int) -> NDArray[np.int64]:
    """The same for many at once."""
    fitting = room // size
    before = np.cumsum(fitting) - fitting
    taken = np.clip(count - before, 0, fitting)
    room -= taken * size
    return np.repeat(np.arange(len(room)), taken)
