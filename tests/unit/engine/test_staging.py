"""Lists of the host become tensors of the device."""

import pytest
import torch

from asynckit.engine.staging import index, integers, to_device

DEVICES = [
    "cpu",
    pytest.param(
        "cuda",
        marks=[
            pytest.mark.gpu,
            pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
        ],
    ),
]


@pytest.mark.parametrize("name", DEVICES)
def test_integers_arrive_as_they_were_given(name: str) -> None:
    """Empty lists too, which have no elements to infer a type from."""
    device = torch.device(name)
    cases: list[list[list[int]]] = [[[3, 1], [], [2**40]], [[], []]]
    for parts in cases:
        tensors = integers(device, *parts)
        assert [each.tolist() for each in tensors] == parts
        assert {each.dtype for each in tensors} == {torch.int64}
        assert {each.device.type for each in tensors} == {name}
    assert index([], device).dtype == torch.int64


@pytest.mark.parametrize("name", DEVICES)
def test_other_types_stay_what_they_are(name: str) -> None:
    """Uniform numbers are float64, masks are bool."""
    for given in (torch.tensor([0.1], dtype=torch.float64), torch.tensor([True, False])):
        there = to_device(given, torch.device(name))
        assert there.dtype == given.dtype
        assert there.tolist() == given.tolist()
