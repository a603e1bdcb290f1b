"""The arithmetic of many LoRA adapters in one forward pass.

Each product of the model (a linear layer, or several fused into one) that an adapter changes has a forward
hook, which adds ``scale * (x @ down.T) @ up`` to the rows that use an adapter, each row with its own (Hu et
al. 2021, "LoRA"; batching different adapters as in Chen et al. 2023, "Punica"). Rows without an adapter are
not touched at all. Which row uses which adapter is the same for all layers of a pass, so the hooks share one
:class:`LoraState`. With the C kernel a row's result depends on that row and its adapter alone.

Shape letters: T rows of the pass, R rows with an adapter, S adapter slots, P fused layers, I inputs, O
    outputs.
"""

import weakref
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate, groupby
from typing import Any

import torch
from torch import nn

from asynckit.engine.adapter_files import Delta
from asynckit.engine.native import Kernels
from asynckit.engine.staging import integers


@dataclass(frozen=True)
class AdapterRows:
    """The rows of one pass that use an adapter, in the order of their slots.

    Attributes:
        row_R: their indexes in the pass.
        slot_R: their adapters' slots.
        groups: the same by slot, ``(slot, rows)``.
    """

    row_R: torch.Tensor
    slot_R: torch.Tensor
    groups: tuple[tuple[int, torch.Tensor], ...]


def adapter_rows(slot_of_T: Sequence[int | None], device: torch.device) -> AdapterRows | None:
    """Sort the rows of a pass by adapter; None when no row uses one."""
    pairs = sorted((slot, row) for row, slot in enumerate(slot_of_T) if slot is not None)
    if not pairs:
        return None
    slots = [slot for slot, _ in pairs]
    row_R, slot_R = integers(device, [row for _, row in pairs], slots)
    runs = [(slot, len(list(run))) for slot, run in groupby(slots)]
    parts = row_R.split([length for _, length in runs])  # type: ignore[no-untyped-call]
    groups = tuple((slot, part) for (slot, _), part in zip(runs, parts, strict=True))
    return AdapterRows(row_R, slot_R, groups)


class LoraState:
    """What all hooks of one model need to know about the pass at hand; None when no row uses an adapter."""

    def __init__(self) -> None:
        self.rows: AdapterRows | None = None


class LoraSite:
    """One product of the model, whose output columns belong to one or several layers.

    Args:
        module: computes the product.
        inputs: how many inputs it has.
        outputs: how many outputs each layer has, in the order of the columns.
        state: of the pass at hand.
        kernels: C kernels for the model's device and type, if there are any.
    """

    def __init__(
        self,
        module: nn.Module,
        inputs: int,
        outputs: Sequence[int],
        state: LoraState,
        kernels: Kernels | None,
    ) -> None:
        self._module = weakref.ref(module)  # the model must go when its owner lets go of it
        self._inputs = inputs
        self._columns = [0, *accumulate(outputs)]
        self._state = state
        self._kernels = kernels
        self._hooked = False
        self._deltas: dict[int, dict[int, Delta]] = {}  # by slot and layer
        self._table = _Table(self._columns)

    def reach(self, slots: int) -> None:
        """Be ready for rows with any of so many slots."""
        self._table.reach(slots)

    def put(self, slot: int, part: int, delta: Delta) -> None:
        """Let rows of ``slot``, which is in reach, get ``delta`` on the outputs of one layer."""
        if not self._hooked:
            module = self._module()
            assert module is not None
            # First, because another hook may sum up what several processes make.
            module.register_forward_hook(self._hook, prepend=True)
            self._hooked = True
        self._deltas.setdefault(slot, {})[part] = delta
        self._table.enter(slot, part, delta)

    def drop(self, slot: int) -> None:
        """Free what ``slot`` had, if anything."""
        if self._deltas.pop(slot, None):
            self._table.clear(slot)

    def _hook(self, _module: nn.Module, inputs: tuple[Any, ...], output: torch.Tensor) -> None:
        if self._state.rows is not None and self._deltas:
            out_TO = output.view(-1, self._columns[-1])
            self.add(out_TO, inputs[0].reshape(-1, self._inputs), self._state.rows)

    def add(self, out_TO: torch.Tensor, x_TI: torch.Tensor, rows: AdapterRows) -> None:
        """Add what the adapters make of rows of ``x_TI`` to the same rows of ``out_TO``."""
        if self._kernels:
            self._kernels.lora_add(out_TO, x_TI.contiguous(), rows.row_R, rows.slot_R, *self._table.tensors)
            return
        for slot, row_R in rows.groups:
            for part, delta in self._deltas.get(slot, {}).items():
                columns = slice(self._columns[part], self._columns[part + 1])
                out_TO[row_R, columns] += (x_TI[row_R] @ delta.down.T * delta.scale) @ delta.up


class _Table:
    """Where the kernel finds the deltas of one product; rank 0 where a slot doesn't change a layer."""

    def __init__(self, columns: Sequence[int]) -> None:
        self._column_P1 = torch.tensor(columns)
        self._address_2SP = torch.zeros(2, 0, len(columns) - 1, dtype=torch.int64)
        self._rank_SP = torch.zeros(0, len(columns) - 1, dtype=torch.int64)
        self._scale_SP = torch.zeros(0, len(columns) - 1)

    @property
    def tensors(self) -> tuple[torch.Tensor, ...]:
        """Columns, addresses of down and of up, ranks and scales."""
        return (self._column_P1, *self._address_2SP, self._rank_SP, self._scale_SP)

    def reach(self, slots: int) -> None:
        """Have at least so many slots."""
        if (more := slots - len(self._rank_SP)) > 0:
            more = max(more, len(self._rank_SP))
            pad = torch.nn.functional.pad
            self._address_2SP = pad(self._address_2SP, (0, 0, 0, more))
            self._rank_SP = pad(self._rank_SP, (0, 0, 0, more))
            self._scale_SP = pad(self._scale_SP, (0, 0, 0, more))

    def enter(self, slot: int, part: int, delta: Delta) -> None:
        """Point to a delta, which the caller keeps alive."""
        self._address_2SP[0, slot, part] = delta.down.data_ptr()
        self._address_2SP[1, slot, part] = delta.up.data_ptr()
        self._scale_SP[slot, part] = delta.scale
        self._rank_SP[slot, part] = len(delta.down)

    def clear(self, slot: int) -> None:
        """Point to nothing any more."""
        self._rank_SP[slot] = 0
