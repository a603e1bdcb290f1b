"""Sums over all GPUs of a machine, by NCCL, from one process."""

from functools import partial

from asynckit.bench.cases.bandwidth import readable_size
from asynckit.bench.cases.case import Case, Prepared
from asynckit.bench.counting import Counts, all_reduce
from asynckit.errors import DependencyError

_SIZES = (2**16, 2**26)


def all_reduce_cases(gpus: int) -> list[Case]:
    """Of a size that shows the latency, and of one that shows the bandwidth."""
    return [
        Case(
            name="all-reduce",
            variant=readable_size(size),
            group="transfer",
            make=partial(_make, size, gpus),
            counts=all_reduce(size, gpus) if gpus > 1 else Counts(),
            parameters={"bytes_each": size, "gpus": gpus, "dtype": "bfloat16"},
            needs_gpus=2,
            clock="host",  # events are of one GPU
        )
        for size in _SIZES
    ]


def _make(size: int, gpus: int, device: str) -> Prepared:  # noqa: ARG001 - always all GPUs
    import torch
    from torch.cuda import nccl

    tensors = [torch.zeros(size // 2, dtype=torch.bfloat16, device=f"cuda:{index}") for index in range(gpus)]
    if not nccl.is_available(tensors):  # type: ignore[no-untyped-call]
        raise DependencyError("this torch has no NCCL", where="all-reduce")

    def reduce() -> None:
        nccl.all_reduce(tensors)  # type: ignore[no-untyped-call]
        for index in range(gpus):
            torch.cuda.synchronize(index)

    return Prepared(reduce)
