"""What functions take and return, compared and copied: tensors, arrays and numbers, nested at will."""

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

_PLAIN = (bool, int, float, complex, str, bytes)


def leaves(value: Any) -> Iterator[Any]:
    """Every tensor, array, number and text in ``value``; what else there is says nothing and is left out."""
    if isinstance(value, Mapping):
        for each in value.values():
            yield from leaves(each)
    elif isinstance(value, list | tuple):
        for each in value:
            yield from leaves(each)
    elif isinstance(value, (*_PLAIN, np.ndarray, np.generic)) or is_tensor(value):
        yield value


def is_tensor(value: Any) -> bool:
    """Whether it is torch's, without importing torch: who has a tensor has imported it."""
    return hasattr(value, "data_ptr") and hasattr(value, "copy_")


def buffers(value: Any) -> list[Any]:
    """The leaves that can be written to: tensors and arrays."""
    return [each for each in leaves(value) if is_tensor(each) or isinstance(each, np.ndarray)]


def snapshot(value: Any) -> list[Any]:
    """The leaves as they are now, whatever becomes of their buffers."""
    return [_copy(each) for each in leaves(value)]


def _copy(leaf: Any) -> Any:
    if is_tensor(leaf):
        return leaf.detach().clone()
    return leaf.copy() if isinstance(leaf, np.ndarray) else leaf


def same(left: list[Any], right: list[Any]) -> bool:
    """Whether two snapshots are equal, floating-point numbers as nearly as their precision allows."""
    return len(left) == len(right) and all(map(_close, left, right))


def identical(left: list[Any], right: list[Any]) -> bool:
    """Whether two snapshots are equal to the bit."""
    return len(left) == len(right) and all(map(_equal, left, right))


def _equal(left: Any, right: Any) -> bool:
    if not _alike(left, right):
        return False
    if is_tensor(left):
        return bool((_bits(left) == _bits(right)).all())
    if isinstance(left, np.ndarray):
        return bool(left.tobytes() == right.tobytes())
    return repr(left) == repr(right)  # NaN equals itself in writing only


def _alike(left: Any, right: Any) -> bool:
    """Whether type, and of tensors and arrays also dtype and shape, are the same."""
    form = [
        (type(each), getattr(each, "dtype", None), getattr(each, "shape", None)) for each in (left, right)
    ]
    return form[0] == form[1]


def _bits(tensor: Any) -> Any:
    """Its bytes, in which NaN equals itself."""
    import torch

    return tensor.reshape(-1).view(torch.uint8)


def _close(left: Any, right: Any) -> bool:
    if not _alike(left, right):
        return False
    if is_tensor(left):
        return _close_tensors(left, right)
    if np.asarray(left).dtype.kind in "fc":
        return np.allclose(left, right, rtol=1e-5, equal_nan=True)
    return _equal(left, right)


def _close_tensors(left: Any, right: Any) -> bool:
    from torch.testing import assert_close

    try:
        assert_close(left, right, equal_nan=True)  # the tolerances are those of the dtype
    except AssertionError:
        return False
    return True


def copy_into(static: tuple[Any, ...], fresh: tuple[Any, ...]) -> None:
    """Copy the tensors and arrays of ``fresh`` to the buffers of ``static``; numbers stay as they were.

    Raises:
        ValueError: they are not alike.
    """
    for to, source in zip(buffers(static), buffers(fresh), strict=True):
        if is_tensor(to):
            to.copy_(source)
        else:
            np.copyto(to, source)
