"""New weights into a running model, in place.

Fusing and packing move weights away from where the model's files name them. A :class:`WeightSlots` remembers,
for every name, where its tensor went, so that an update can be given under the names that the model was saved
with. An update is checked whole (names, shapes, types) before anything is written. What can still go wrong
then (no memory, a disk that fails) leaves old and new weights mixed, and the engine must serve nobody until
an update succeeds. Tensors are applied one after the other; the only extra memory is the tensor at hand, or
the parts of one fused layer.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import nn

from asynckit.errors import InputError, ModelNotFound, WorkFailed
from asynckit.models.local import check_safetensors, weight_files

# Eight bits and fewer come with scales, which the model's layers have no place for.
_DTYPES = (torch.float64, torch.float32, torch.bfloat16, torch.float16)
_STORED_DTYPES = ("F64", "F32", "BF16", "F16")
_MEND = "give the tensors that save_pretrained would write"

Load = Callable[[torch.Tensor], object]
Cut = Callable[[torch.Tensor], torch.Tensor]


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
        self._cuts: dict[str, Cut] = {}

    def cut(self, name: str, cut: Cut) -> None:
        """Say which part of a new tensor ``name`` this process holds; the whole by default."""
        self._cuts[name] = cut

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

    def check(self, source: "Source") -> None:
        """Refuse weights that don't fit; reads no tensor.

        Raises:
            InputError: a tensor is missing, unknown or of another shape.
        """
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

    def load(self, source: "Source") -> None:
        """Put every tensor of ``source``, which :meth:`check` found right, in its place.

        Raises:
            WorkFailed: a tensor could not be read or put in place. Old and new weights are mixed then, until
                another source is loaded whole.
        """
        name = ""
        try:
            with torch.inference_mode():
                for name in sorted(self._loads):
                    tensor = self._cuts.get(name, _whole)(source.read(name))
                    for load in self._loads[name]:
                        load(tensor)
        except (SafetensorError, OSError, RuntimeError, MemoryError) as error:
            raise WorkFailed(
                f"the update broke off at {name}: {error}",
                where=source.where,
                mend="update the weights again, or load the engine anew",
            ) from error


def _whole(tensor: torch.Tensor) -> torch.Tensor:
    return tensor


@dataclass(frozen=True)
class Source:
    """New weights: what there is, and how to read one tensor."""

    where: str
    shapes: Mapping[str, Iterable[int]]
    read: Callable[[str], torch.Tensor]


def open_source(given: Path | str | Mapping[str, torch.Tensor]) -> Source:
    """New weights from a model folder (safetensors, read one by one) or from tensors by name.

    The folder's files stay open: one that is replaced meanwhile (renamed over) is read as it was.

    Raises:
        InputError: the folder holds no whole safetensors weights, or something is no dense tensor of floating
            point numbers with 16 bits or more.
    """
    if isinstance(given, Mapping):
        return _from_tensors(dict(given))
    if not isinstance(given, str | Path):
        raise InputError(
            f"new weights must be a model folder or tensors by name, not {type(given).__name__}",
            where="update_weights",
            mend=_MEND,
        )
    folder = Path(given)
    try:
        return _from_folder(folder)
    except ModelNotFound as error:
        raise InputError(error.message, where=str(folder), mend=error.mend) from error
    except (SafetensorError, OSError) as error:
        raise InputError(
            f"the new weights can't be read: {error}", where=str(folder), mend="save or fetch the model again"
        ) from error


def _from_tensors(tensors: dict[str, torch.Tensor]) -> Source:
    for name, tensor in tensors.items():
        problem = "is no string" if not isinstance(name, str) else _unusable(tensor)
        if problem:
            raise InputError(f"the new {name} {problem}", where="update_weights", mend=_MEND)
    shapes = {name: tuple(tensor.shape) for name, tensor in tensors.items()}
    return Source("update_weights", shapes, tensors.__getitem__)


def _unusable(tensor: object) -> str:
    """Why something can't be copied into a weight; empty if it can. Shapes aside."""
    # Wrappers (of a part of a sharded tensor, for one) don't mix with plain tensors.
    if type(tensor) not in (torch.Tensor, nn.Parameter):
        return f"is a {type(tensor).__name__}, not a plain tensor"
    assert isinstance(tensor, torch.Tensor)
    if tensor.is_nested or tensor.layout is not torch.strided:
        return "is not dense" if tensor.is_nested else f"is not dense but {tensor.layout}"
    if tensor.device.type == "meta":
        return "is on the meta device, so it has no values"
    if tensor.dtype not in _DTYPES:
        return f"is {tensor.dtype}, not floating point with 16 bits or more"
    return ""


def _from_folder(folder: Path) -> Source:
    files: dict[str, Any] = {}
    shapes: dict[str, tuple[int, ...]] = {}
    for path in weight_files(folder):
        check_safetensors(path)
        tensors: Any = safe_open(path, framework="pt")
        for name in tensors.keys():  # noqa: SIM118 - no mapping
            stored = tensors.get_slice(name)
            if name in files:
                raise InputError(f"another file of the model has {name} too", where=str(path), mend=_MEND)
            if stored.get_dtype() not in _STORED_DTYPES:
                raise InputError(
                    f"the new {name} is {stored.get_dtype()}, not floating point with 16 bits or more",
                    where=str(path),
                    mend=_MEND,
                )
            files[name] = tensors
            shapes[name] = tuple(stored.get_shape())
    return Source(str(folder), shapes, lambda name: files[name].get_tensor(name))
