"""Between host and GPU, from memory that the GPU can reach by itself (pinned) and from ordinary memory."""

from functools import partial

from asynckit.bench.cases.bandwidth import readable_size
from asynckit.bench.cases.case import Case, Prepared
from asynckit.bench.counting import Counts

_SIZES = (2**12, 2**26)  # one that shows the latency, one that shows the bandwidth


def transfer_cases() -> list[Case]:
    """Both ways."""
    return [
        _case(way, memory, size)
        for way in ("h2d", "d2h")
        for memory in ("pinned", "pageable")
        for size in _SIZES
    ]


def _case(way: str, memory: str, size: int) -> Case:
    return Case(
        name=way,
        variant=f"{memory} {readable_size(size)}",
        group="transfer",
        make=partial(_make, way, memory, size),
        counts=Counts(bytes=float(size)),
        parameters={"bytes_each": size, "memory": memory},
        needs_gpus=1,
        # A copy from pageable memory goes through a staging buffer that the host fills.
        clock="" if memory == "pinned" else "host",
    )


def _make(way: str, memory: str, size: int, device: str) -> Prepared:
    import torch

    pinned = memory == "pinned"
    host = torch.ones(size, dtype=torch.uint8, pin_memory=pinned)
    there = torch.ones(size, dtype=torch.uint8, device=device)
    target, source = (there, host) if way == "h2d" else (host, there)
    return Prepared(partial(target.copy_, source, non_blocking=pinned))
