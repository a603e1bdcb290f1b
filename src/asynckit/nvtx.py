"""Names for what goes on, in the profiles of nsys and ncu (NVIDIA's NVTX ranges)."""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext

Ranges = Callable[[str], AbstractContextManager[object]]
"""Gives what is run inside the context a name."""


def ranges(*, wanted: bool = True) -> Ranges:
    """Names in CUDA profiles, if they are wanted and there is CUDA; else contexts that do nothing."""
    if not wanted:
        return no_range
    import torch

    return _range if torch.cuda.is_available() else no_range


def no_range(_: str) -> AbstractContextManager[object]:
    """Do nothing."""
    return nullcontext()


def _range(name: str) -> AbstractContextManager[object]:
    import torch

    named: AbstractContextManager[object] = torch.cuda.nvtx.range("{}", name)  # it formats its first argument
    return named
