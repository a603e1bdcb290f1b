"""The order in which several sources contribute: by their weights, without chance."""

from collections.abc import Iterator, Mapping
from heapq import merge


def mixed_order(sizes: Mapping[str, int], weights: Mapping[str, float]) -> Iterator[str]:
    """Yield the name of a source for every place of one epoch; each one comes ``sizes[name]`` times.

    The k-th prompt of a source is due at (k - 1/2) / weight, and what is due first comes first (the divisor
    method of Webster, which stride scheduling follows too). While none has run out, every source is within
    (sources + 1) / 2 of its share of any beginning of the order. One that has run out contributes no more,
    and the others go on in their proportion.

    Args:
        sizes: prompts per source.
        weights: of the same sources, above 0. The order of both mappings does not matter.
    """
    due = [_due(name, sizes[name], weights[name]) for name in sorted(sizes)]
    return (name for _, name in merge(*due))


def _due(name: str, size: int, weight: float) -> Iterator[tuple[float, str]]:
    return (((number + 0.5) / weight, name) for number in range(size))
