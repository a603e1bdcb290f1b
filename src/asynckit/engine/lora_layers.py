"""Which layers of a model LoRA adapters can change, and where each is computed after fusing and packing."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from torch import nn
from transformers import PreTrainedModel
from transformers.pytorch_utils import Conv1D

from asynckit.engine.adapter_files import Delta, LayerSize
from asynckit.engine.linear import FusedPart, NativeGatedMLP, PackedLinear
from asynckit.engine.lora import LoraSite, LoraState, adapter_rows
from asynckit.engine.native import Kernels
from asynckit.engine.sharding import Shards


@dataclass(frozen=True)
class _Place:
    """Where a layer is computed: which product, and which part of its columns."""

    site: LoraSite
    part: int


class LoraLayers:
    """The linear layers of a model, the output embedding aside, under the names that they had when loaded.

    Args:
        model: ready to run; its layers must not be replaced afterwards.
        kernels: C kernels for the model's device and type, if there are any.
        shards: which part of the model this process holds; None for the whole.

    Attributes:
        sizes: of each whole layer, by name.
    """

    def __init__(self, model: PreTrainedModel, kernels: Kernels | None, shards: Shards | None = None) -> None:
        self.sizes: dict[str, LayerSize] = {}
        self._places: dict[str, _Place] = {}
        self._sites: list[LoraSite] = []
        self._state = LoraState()
        self._kernels = kernels
        self._shards = shards
        self._device = model.device
        self._find(model)

    def moved(self, deltas: Mapping[str, Delta]) -> dict[str, Delta]:
        """This process's part of the deltas, on the model's device."""
        if self._shards:
            deltas = self._shards.cut(deltas)
        return {
            name: Delta(delta.down.to(self._device), delta.up.to(self._device), delta.scale)
            for name, delta in deltas.items()
        }

    def put(self, slot: int, deltas: Mapping[str, Delta]) -> None:
        """Give a slot to an adapter: its deltas on the model's device, by name of the layer."""
        for site in self._sites:
            site.reach(slot + 1)
        for name, delta in deltas.items():
            place = self._places[name]
            place.site.put(slot, place.part, delta)

    def drop(self, slot: int) -> None:
        """Take the slot's adapter out of the model."""
        for site in self._sites:
            site.drop(slot)

    @contextmanager
    def applied(self, slot_of_T: Sequence[int | None]) -> Iterator[None]:
        """Run a pass inside: row ``t`` of it uses the adapter in ``slot_of_T[t]``, or none."""
        self._state.rows = adapter_rows(slot_of_T, self._device)
        try:
            yield
        finally:
            self._state.rows = None

    def _find(self, model: PreTrainedModel) -> None:
        taken = {model.get_output_embeddings()}
        fused: dict[nn.Module, LoraSite] = {}
        for name, module in model.named_modules():
            if isinstance(module, FusedPart):
                product, outputs = module.fused.linear, module.fused.sizes
                if product not in fused:
                    fused[product] = self._site(product, outputs)
                self._add(name, fused[product], module.index, product, outputs)
            elif isinstance(module, NativeGatedMLP):
                taken.add(module.gate_up)
                outputs = [_size(module.gate_up)[1] // 2] * 2
                site = self._site(module.gate_up, outputs)
                self._add(f"{name}.gate_proj", site, 0, module.gate_up, outputs)
                self._add(f"{name}.up_proj", site, 1, module.gate_up, outputs)
            elif type(module) in (nn.Linear, PackedLinear, Conv1D) and module not in taken:
                outputs = [_size(module)[1]]
                self._add(name, self._site(module, outputs), 0, module, outputs)

    def _site(self, product: nn.Module, outputs: Sequence[int]) -> LoraSite:
        site = LoraSite(product, _size(product)[0], outputs, self._state, self._kernels)
        self._sites.append(site)
        return site

    def _add(self, name: str, site: LoraSite, part: int, product: nn.Module, outputs: Sequence[int]) -> None:
        self._places[name] = _Place(site, part)
        size = LayerSize(_size(product)[0], outputs[part], isinstance(product, Conv1D))
        self.sizes[name] = self._shards.whole(name, size) if self._shards else size


def _size(product: nn.Module) -> tuple[int, int]:
    """Inputs and outputs of a linear layer."""
    if isinstance(product, Conv1D):
        inputs, outputs = product.weight.shape
        return int(inputs), int(outputs)
    return int(product.in_features), int(product.out_features)  # type: ignore[arg-type]
