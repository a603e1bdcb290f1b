"""New weights into a running model, in place.

Fusing and packing move weights away from where the model's files name them. A :class:`WeightSlots` remembers,
for every name, where its tensor went, so that an update can be given under the names that the model was saved
with. An update is checked whole (names, shapes, types) before anything is written: it is applied completely
or not at all. Tensors are applied one after the other; the only extra memory is the tensor at hand, or the
parts of one fused layer.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import safe_open
from torch import nn

from asynckit.errors import InputError
from asynckit.models.local import weight_files

Load = Callable[[torch.Tensor], object]


class WeightSlots:
    """The named weights of a model and where they are now.

    Args:
        model: as loaded, before any layer is replaced.
    """

    def __init__(self, model: nn.Module) -> None:
        first: dict[int, str] = {}
        self._shapes: dict[str, torch.Size] = {}
        self._same_as: dict[str, str] = {}  # every name of a tied tensor: the first of its names
        for name, parameter in model.named_parameters(remove_duplicate=False):
            self._same_as[name] = first.setdefault(id(parameter), name)
            self._shapes[name] = parameter.shape
        self._loads: dict[str, list[Load]] = {}

    def add(self, name: str, load: Load) -> None:
        """Say what to do with a new tensor ``name``; a tied tensor goes to several places."""
        self._loads.setdefault(self._same_as[name], []).append(load)

    def add_parameters(self, model: nn.Module) -> None:
        """Add every parameter that is still where it was: a new tensor is copied into it."""
        for name, parameter in model.named_parameters(remove_duplicate=False):
            if name in self._same_as and self._same_as[name] == name:
                self.add(name, parameter.data.copy_)

    def close(self) -> None:
        """Let go of the model: what is remembered here would keep its weights alive."""
        self._loads.clear()

    def apply(self, source: "Source") -> None:
        """Load every tensor of ``source``.

        Raises:
            InputError: a tensor is missing, unknown or of another shape. Nothing has been changed then.
        """
        self._check(source)
        with torch.inference_mode():
            for name in sorted(self._loads):
                tensor = source.read(name)
                for load in self._loads[name]:
                    load(tensor)

    def _check(self, source: "Source") -> None:
        unknown = sorted(set(source.shapes) - set(self._shapes))
        missing = sorted(set(self._loads) - set(source.shapes))
        if unknown or missing:
            what = f"have {unknown[0]}, which the model has not" if unknown else f"lack {missing[0]}"
            raise InputError(f"the new weights don't fit the model: they {what}", where=source.where)
        for name, shape in source.shapes.items():
            if tuple(shape) != tuple(self._shapes[name]):
                raise InputError(
                    f"the new {name} has the shape {list(shape)}, the model's has {list(self._shapes[name])}",
                    where=source.where,
                )


@dataclass(frozen=True)
class Source:
    """New weights: what there is, and how to read one tensor."""

    where: str
    shapes: Mapping[str, Iterable[int]]
    read: Callable[[str], torch.Tensor]


def open_source(given: Path | Mapping[str, torch.Tensor]) -> Source:
    """New weights from a model folder (safetensors, read one by one) or from tensors by name.

    Raises:
        ModelNotFound: the folder holds no safetensors weights.
    """
    if isinstance(given, Path):
        return _from_folder(given)
    return Source("update_weights", {name: tensor.shape for name, tensor in given.items()}, given.__getitem__)


def _from_folder(folder: Path) -> Source:
    files = {}
    shapes = {}
    for path in weight_files(folder):
        with safe_open(path, framework="pt") as tensors:
            for name in tensors.keys():  # noqa: SIM118 - no mapping
                files[name] = path
                shapes[name] = tuple(tensors.get_slice(name).get_shape())

    def read(name: str) -> torch.Tensor:
        with safe_open(files[name], framework="pt") as tensors:
            return tensors.get_tensor(name)  # type: ignore[no-any-return]

    return Source(str(folder), shapes, read)
