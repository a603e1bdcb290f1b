"""What it costs to start work: a thousand tiny kernels, one by one and as a CUDA graph.

The time in milliseconds is what one launch takes in microseconds. On a CPU it is torch's dispatch.
"""

from asynckit.bench.cases.case import Case, Prepared

LAUNCHES = 1000


def launch_cases() -> list[Case]:
    """Eager on any device, a graph on a GPU."""
    eager = Case(
        name="launch",
        variant=f"eager x{LAUNCHES}",
        group="launch",
        make=_make,
        parameters={"launches": LAUNCHES},
        clock="host",  # the host is what is measured
        cache="hot",
    )
    graph = Case(
        name="launch",
        variant=f"graph x{LAUNCHES}",
        group="launch",
        make=_make,
        parameters={"launches": LAUNCHES},
        clock="graph",
        cache="hot",
        needs_gpus=1,
    )
    return [eager, graph]


def _make(device: str) -> Prepared:
    import torch

    number = torch.zeros(1, device=device)

    def launch() -> torch.Tensor:
        for _ in range(LAUNCHES):
            number.add_(1)
        return number

    return Prepared(launch)
