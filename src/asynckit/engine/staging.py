"""Small tensors from the host to the model's device, without waiting for it.

A plain copy to a GPU comes from pageable memory, so the host waits until the GPU has done all that was asked
before, the forward pass say. A copy from pinned memory only joins the queue; torch keeps that memory until
the copy is done. On the CPU nothing is copied.
"""

from collections.abc import Sequence

import torch


def to_device(host: torch.Tensor, device: torch.device) -> torch.Tensor:
    """A tensor of the host on ``device``; the host must not change it afterwards."""
    return host.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else host


def index(rows: Sequence[int], device: torch.device) -> torch.Tensor:
    """Row numbers as a tensor to index with, int64."""
    return to_device(torch.tensor(rows, dtype=torch.long), device)


def integers(device: torch.device, *parts: Sequence[int]) -> tuple[torch.Tensor, ...]:
    """Lists of integers as int64 tensors, in one copy."""
    flat = index([number for part in parts for number in part], device)
    return flat.split([len(part) for part in parts])  # type: ignore[no-any-return, no-untyped-call]
