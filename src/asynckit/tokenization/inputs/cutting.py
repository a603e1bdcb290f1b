"""Where bytes can be cut so that no record is."""

from collections.abc import Callable

Cut = Callable[[bytes, int], int]


def cut_lines(data: bytes, limit: int) -> int:
    """The last end of a line in the first ``limit`` bytes, else the first after them; 0 if there is none."""
    inside = data.rfind(b"\n", 0, limit)
    return inside + 1 if inside >= 0 else data.find(b"\n", limit) + 1


CUTS: dict[str, Cut] = {"jsonl": cut_lines}
