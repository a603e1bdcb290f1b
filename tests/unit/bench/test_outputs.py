"""Outputs: equal where they should be, different where one number differs."""

from typing import Any

import numpy as np
import pytest
import torch

from asynckit.bench.outputs import buffers, copy_into, identical, leaves, same, snapshot

OUTPUTS: list[Any] = [
    torch.arange(6.0).reshape(2, 3).t(),  # not contiguous
    torch.tensor(1.5, dtype=torch.bfloat16),
    torch.tensor([True, False]),
    torch.tensor([float("nan"), 1.0]),
    torch.zeros(0),
    np.array([1.0, np.nan]),
    np.array([1, 2]),
    np.float32(2.5),
    1.5,
    3,
    "text",
]


@pytest.mark.parametrize("value", OUTPUTS)
def test_a_copy_is_the_same_to_the_bit(value: Any) -> None:
    """Also with NaN, without elements, or without contiguous memory."""
    assert identical(snapshot(value), snapshot(value))
    assert same(snapshot(value), snapshot(value))
    for other in OUTPUTS:
        if other is not value:
            assert not identical(snapshot(value), snapshot(other))


def test_rounding_is_the_same_and_a_wrong_number_is_not() -> None:
    """Each dtype is compared as exactly as it is computed; bits differ before values do."""
    for one in (torch.ones(3), np.ones(3), 1.0):
        nearly, wrong = one * (1 + 1e-6), one * 1.01
        assert same(snapshot(one), snapshot(nearly))
        assert not same(snapshot(one), snapshot(wrong))
        assert not identical(snapshot(one), snapshot(nearly))
    half = torch.ones(3, dtype=torch.bfloat16)
    assert same([half], [half * 1.008])
    assert not same([half], [half.float()])


def test_a_snapshot_does_not_follow_its_buffer() -> None:
    """What is written to the output later does not change what was seen."""
    tensor, array = torch.zeros(2), np.zeros(2)
    seen = snapshot({"nested": [tensor, (array,)], "opaque": object()})
    tensor.add_(1)
    array += 1
    assert same(seen, [torch.zeros(2), np.zeros(2)])


def test_shapes_and_counts_are_compared() -> None:
    """Fewer outputs, or others, are not the same."""
    assert not same(snapshot([torch.zeros(2)]), snapshot([]))
    assert not same([np.zeros(2)], [np.zeros(3)])
    assert not identical([torch.zeros(2)], [torch.zeros(3)])
    assert not same([torch.zeros(2)], ["text"])
    assert not same([1.0], ["text"])


def test_fresh_inputs_are_copied_where_a_graph_reads_them() -> None:
    """Tensors and arrays change in place, numbers can't."""
    static = (torch.zeros(2), [np.zeros(2)], 1)
    copy_into(static, (torch.ones(2), [np.ones(2)], 2))
    assert static[0].tolist() == static[1][0].tolist() == [1.0, 1.0]
    assert list(leaves(static))[2] == 1
    assert len(buffers(static)) == 2
    with pytest.raises(ValueError, match="shorter"):
        copy_into(static, (torch.ones(2),))
