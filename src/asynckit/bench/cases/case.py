"""A case: something that can be timed, and what one call of it computes and moves."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from asynckit.bench.counting import Counts


def _nothing() -> None:
    pass


@dataclass(frozen=True)
class Prepared:
    """A case ready to be timed on a device.

    Attributes:
        function: what is timed.
        setup: called before each call, outside the time; returns the call's arguments as a tuple, or its only
            one. None where the function takes none.
        close: gives back what was made for it.
    """

    function: Callable[..., object]
    setup: Callable[[], object] | None = None
    close: Callable[[], None] = _nothing


@dataclass(frozen=True)
class Case:
    """One row of a report, before it is measured.

    Attributes:
        name: such as ``gemm``; what ``--case`` selects by.
        variant: what tells it from the others of that name, such as ``qkv M=64 bfloat16``.
        group: of cases that are drawn together.
        make: prepares it for the device ``cuda`` or ``cpu``. Inputs are made here, so that a list of cases
            costs nothing.
        counts: of one call.
        parameters: shapes, dtypes and the like, by name; JSON values.
        needs_gpus: how many GPUs; 0 where a CPU does.
        missing: why it can't run anywhere, such as for want of a model's weights; empty if it can.
        clock: the one that fits it; empty where the configured one does.
        cache: ``hot`` or ``cold`` where the case is about that; empty where the configured one does.
        default: whether it is measured when nobody asks for it by name.
    """

    name: str
    variant: str
    group: str
    make: Callable[[str], Prepared]
    counts: Counts = field(default_factory=Counts)
    parameters: dict[str, Any] = field(default_factory=dict)
    needs_gpus: int = 0
    missing: str = ""
    clock: str = ""
    cache: str = ""
    default: bool = True

    @property
    def key(self) -> str:
        """Name and variant, as :attr:`asynckit.bench.results.Row.key` has them."""
        return f"{self.name} {self.variant}".strip()


def count_gpus(device: str) -> int:
    """How many GPUs can be seen; 0 on a run on the CPU."""
    if device != "cuda":
        return 0
    import torch

    return torch.cuda.device_count()


def reason_against(case: Case, device: str, gpus: int) -> str:
    """Why a case can't run here; empty if it can.

    Args:
        case: which one.
        device: ``cuda`` or ``cpu``.
        gpus: how many are in sight.
    """
    if case.needs_gpus and device != "cuda":
        return "needs a GPU" if case.needs_gpus == 1 else "needs several GPUs"
    if case.needs_gpus > gpus and device == "cuda":
        return f"needs {case.needs_gpus} GPUs, and {gpus} can be seen"
    return case.missing
