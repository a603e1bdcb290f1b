"""Linear layers whose rows don't depend on how many rows there are.

A matrix product may choose its order of summation by the number of rows, which changes the last bits of a
row. Which layers do, and up to how many rows, is tried at load. Most do for a few rows only: those are padded
to the number from which on all agree. A layer that goes on to differ gets tiles of a fixed number of rows.
Everything else in a deterministic pass works row by row anyway: attention by our kernel, norms, gates, rotary
embedding, sampling.
"""

import functools
from collections.abc import Callable

import torch
from torch import nn

from asynckit.engine.linear import FusedPart, PackedLinear

TILE = 32
# Numbers of rows that are tried: single rows, odd ones, around the borders of vector registers, full batches.
_TRIED = (1, 2, 3, 5, 8, 15, 16, 17, 31, 32, 33, 48, 64, 65, 127, 128, 200, 257)
_ROWS = 512
_WINDOWS = 64  # differences can be rare: rounding to bfloat16 hides most of them


@torch.inference_mode()
def fix_shapes(model: nn.Module, dtype: torch.dtype) -> int:
    """Fix the shapes of an optimized model's linear layers whose rows depend on their number.

    Returns how many they are. They stay where they are (weights are updated and adapters hooked in as
    before); only their forward changes.
    """
    least: dict[tuple[object, ...], int] = {}
    found = 0
    for linear in _linears(model):
        kind = (type(linear), linear.in_features, linear.out_features)
        if kind not in least:
            least[kind] = _least_rows(linear, linear.in_features, dtype)
        if least[kind] > 1:
            found += 1
            linear.forward = functools.partial(_shaped, linear.forward, least[kind])  # type: ignore[method-assign]
    return found


def _linears(model: nn.Module) -> list[nn.Linear | PackedLinear]:
    modules = (m.fused.linear if isinstance(m, FusedPart) else m for m in model.modules())
    return list(dict.fromkeys(m for m in modules if isinstance(m, nn.Linear | PackedLinear)))


def _shaped(forward: Callable[[torch.Tensor], torch.Tensor], least: int, x: torch.Tensor) -> torch.Tensor:
    """``forward`` with at least ``least`` rows, or in tiles where no number of rows is enough."""
    rows = x.reshape(-1, x.shape[-1])
    count, tile = len(rows), min(least, TILE)
    if least <= TILE and count >= least:
        return forward(x)
    padded = torch.nn.functional.pad(rows, (0, 0, 0, -count % tile))
    tiles = [forward(padded[begin : begin + tile]) for begin in range(0, len(padded), tile)]
    return torch.cat(tiles)[:count].view(*x.shape[:-1], -1)


def _least_rows(linear: nn.Module, size: int, dtype: torch.dtype) -> int:
    """The number of rows from which on a row's result is the same; more than :data:`TILE` for never."""
    x = torch.randn(_ROWS, size, generator=torch.Generator().manual_seed(0)).to(dtype)
    whole = linear(x)
    for count in reversed(_TRIED):
        begins = range(0, _ROWS - count + 1, count)[:_WINDOWS]
        if any(not torch.equal(linear(x[b : b + count].clone()), whole[b : b + count]) for b in begins):
            larger = [tried for tried in _TRIED if tried > count]
            return larger[0] if larger and larger[0] <= TILE else TILE + 1
    return 1
