"""Names in CUDA profiles: there with CUDA, nothing without, and any name will do."""

from contextlib import nullcontext

import pytest
import torch

from asynckit.nvtx import no_range, ranges


def test_without_cuda_a_range_does_nothing() -> None:
    """Neither where none is wanted nor where there is no CUDA."""
    assert ranges(wanted=False) is no_range
    if not torch.cuda.is_available():
        assert ranges() is no_range
    with no_range("step"):
        pass


def test_names_are_taken_as_they_are(monkeypatch: pytest.MonkeyPatch) -> None:
    """Torch formats what it is given; braces in a name must not be looked up."""
    named: list[str] = []

    def torch_range(text: str, *values: str) -> object:
        named.append(text.format(*values))
        return nullcontext()

    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda.nvtx, "range", torch_range)
    with ranges()("gemm {M=8}"):
        pass
    assert named == ["gemm {M=8}"]
