"""Reads, copies and triads over sizes: the speed of every cache, the knee behind each, and the memory's own.

Caches are hot, whatever the settings say: what one size leaves in them is what is measured.
"""

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

from asynckit.bench.cases.case import Case, Prepared
from asynckit.bench.counting import Counts, copy, read, triad
from asynckit.bench.prediction import SIZES

_ITEMSIZE = 4  # float32


class _Kind(NamedTuple):
    make: Callable[[int, str], Prepared]
    counts: Callable[[int], Counts]


def bandwidth_cases(name: str, device: str) -> list[Case]:
    """``read``, ``copy`` or ``triad`` over all sizes."""
    return [_case(name, size) for size in SIZES[device]]


def _case(name: str, size: int) -> Case:
    kind = _KINDS[name]
    return Case(
        name=name,
        variant=readable_size(size),
        group="bandwidth",
        make=partial(kind.make, size),
        counts=kind.counts(size),
        parameters={"bytes_each": size, "dtype": "float32"},
        cache="hot",
    )


def readable_size(size: int) -> str:
    """``64KiB`` and the like, of powers of two."""
    for unit in ("B", "KiB", "MiB"):
        if size < 1024:
            return f"{size}{unit}"
        size //= 1024
    return f"{size}GiB"


def _make_read(size: int, device: str) -> Prepared:
    import torch

    return Prepared(torch.ones(size // _ITEMSIZE, device=device).sum)


def _make_copy(size: int, device: str) -> Prepared:
    import torch

    source = torch.ones(size // _ITEMSIZE, device=device)
    return Prepared(partial(torch.empty_like(source).copy_, source))


def _make_triad(size: int, device: str) -> Prepared:
    import torch

    b, c = (torch.ones(size // _ITEMSIZE, device=device) for _ in range(2))
    return Prepared(partial(torch.add, b, c, alpha=3.0, out=torch.empty_like(b)))


_KINDS = {
    "read": _Kind(_make_read, read),
    "copy": _Kind(_make_copy, copy),
    "triad": _Kind(_make_triad, partial(triad, itemsize=_ITEMSIZE)),
}
