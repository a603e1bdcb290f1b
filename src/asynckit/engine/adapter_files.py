"""LoRA adapters on disk, as PEFT saves them: checked against the model, then read.

A folder holds ``adapter_config.json`` (see :mod:`asynckit.engine.adapter_config`) and
``adapter_model.safetensors``. The tensors must be those that the config announces, no more and no less, in
the shapes of the model's layers. Pickled weights are never opened.
"""

import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load

from asynckit.engine import adapter_config
from asynckit.engine.adapter_config import PeftConfig, read_config
from asynckit.engine.adapter_folder import WEIGHTS, weights_file
from asynckit.errors import InputError

_KEY = re.compile(r"base_model\.model\.(?P<layer>.+)\.lora_[AB]\.weight")
_DTYPES = ("F32", "F16", "BF16")
_ANOTHER = "use an adapter that was made for this model"

Shapes = dict[str, tuple[int, ...]]


@dataclass(frozen=True)
class LayerSize:
    """A linear layer that adapters can change; ``transposed`` ones keep their weights as ``[in, out]``."""

    inputs: int
    outputs: int
    transposed: bool


@dataclass(frozen=True)
class Delta:
    """What an adapter adds to one layer: ``scale * (x @ down.T) @ up``.

    Attributes:
        down: ``[rank, in]``.
        up: ``[rank, out]``.
        scale: ``lora_alpha`` divided by the rank, or by its root (rsLoRA).
    """

    down: torch.Tensor
    up: torch.Tensor
    scale: float


@dataclass(frozen=True)
class AdapterFile:
    """An adapter that fits the model, its weights still on disk.

    Attributes:
        folder: where it is.
        scales: by name of the layers that it changes.
        size: how many numbers it holds.
        file_size: bytes of its weights on disk.
        stamp: changes when a file is written anew.
    """

    folder: Path
    scales: Mapping[str, float]
    size: int
    file_size: int
    stamp: tuple[int, ...]


def open_adapter(folder: Path, layers: Mapping[str, LayerSize], max_rank: int) -> AdapterFile:
    """Check an adapter without reading its weights.

    Args:
        folder: a PEFT folder.
        layers: the model's layers that adapters can change, by name.
        max_rank: higher ranks are refused.

    Raises:
        InputError: a file is missing or broken, the adapter asks for what the engine can't do, or it was made
            for another model.
    """
    try:
        return _open_adapter(folder, layers, max_rank)
    except OSError as error:  # not allowed to, or somebody removes it just now
        raise InputError(f"can't be read: {error.strerror}", where=str(folder)) from error


def _open_adapter(folder: Path, layers: Mapping[str, LayerSize], max_rank: int) -> AdapterFile:
    stamp = _stamp(folder)
    config = read_config(folder)
    targets = config.targets(layers)
    _check_targets(config, targets, layers, max_rank, folder)
    path = weights_file(folder)
    found = _read_shapes(path)
    expected: Shapes = {}
    for layer in targets:
        expected[_key(layer, "A")] = (config.rank(layer), layers[layer].inputs)
        expected[_key(layer, "B")] = (layers[layer].outputs, config.rank(layer))
    _compare(found, expected, layers, folder)
    scales = {layer: config.scale(layer) for layer in targets}
    size = sum(rows * columns for rows, columns in found.values())
    return AdapterFile(folder, scales, size, path.stat().st_size, stamp)


def read_content(adapter: AdapterFile) -> bytes:
    """The whole file of weights, without any arithmetic.

    Raises:
        InputError: it has changed since it was opened, perhaps while it was read.
    """
    content = (adapter.folder / WEIGHTS).read_bytes()
    check_stamp(adapter.folder, adapter.stamp)
    return content


def read_deltas(adapter: AdapterFile, dtype: torch.dtype, content: bytes | None = None) -> dict[str, Delta]:
    """The adapter's weights, by name of the layer, copied into memory.

    Args:
        adapter: checked before.
        dtype: of the weights.
        content: of the file, if it has been read.

    Raises:
        InputError: a number is not finite, in the file or in ``dtype``.
    """
    if content is not None:
        return _deltas(adapter, dtype, load(content).__getitem__)
    with _opened(adapter.folder / WEIGHTS) as tensors:
        return _deltas(adapter, dtype, tensors.get_tensor)


def _deltas(
    adapter: AdapterFile, dtype: torch.dtype, tensor: Callable[[str], torch.Tensor]
) -> dict[str, Delta]:
    deltas = {}
    for layer, scale in adapter.scales.items():
        # A tensor from the file is a view of the file; changing the file must not change the adapter.
        down = tensor(_key(layer, "A")).to(dtype, copy=True)
        up = tensor(_key(layer, "B")).T.to(dtype, copy=True, memory_format=torch.contiguous_format)
        if not (_is_finite(down) and _is_finite(up)):
            raise InputError(
                f"the update of {layer} holds numbers that are not finite",
                where=str(adapter.folder / WEIGHTS),
            )
        deltas[layer] = Delta(down, up, scale)
    return deltas


def _is_finite(weight: torch.Tensor) -> bool:
    """Whether all numbers are; by the extremes, which takes a twentieth of ``isfinite``'s time."""
    return all(math.isfinite(extreme.item()) for extreme in weight.aminmax())


def check_stamp(folder: Path, stamp: tuple[int, ...]) -> None:
    """Refuse files that are not those that had ``stamp``.

    Raises:
        InputError: they have changed.
    """
    if _stamp(folder) != stamp:
        raise InputError(
            "the adapter's files have changed since it was registered",
            where=str(folder),
            mend="unregister it and register it again",
        )


def _stamp(folder: Path) -> tuple[int, ...]:
    """Changes when a file is written; what is missing is told by those who read it."""
    stats = [path.stat() for name in (adapter_config.NAME, WEIGHTS) if (path := folder / name).is_file()]
    return tuple(number for stat in stats for number in (stat.st_ino, stat.st_size, stat.st_mtime_ns))


def _check_targets(
    config: PeftConfig,
    targets: tuple[str, ...],
    layers: Mapping[str, LayerSize],
    max_rank: int,
    folder: Path,
) -> None:
    where = str(folder / adapter_config.NAME)
    if not targets:
        names = config.target_modules
        raise InputError(
            f"the model has no layer that takes adapters among the target_modules {names}",
            where=where,
            mend=_ANOTHER,
        )
    for layer in targets:
        if config.fan_in_fan_out != layers[layer].transposed:
            raise InputError(
                f"fan_in_fan_out is {str(config.fan_in_fan_out).lower()}, but {layer} is the other way round",
                where=where,
                mend=_ANOTHER,
            )
        if (rank := config.rank(layer)) > max_rank:
            raise InputError(
                f"rank {rank} of {layer} is above engine.max_lora_rank, which is {max_rank}",
                where=where,
                mend=f"set engine.max_lora_rank={rank}",
            )


def _read_shapes(path: Path) -> Shapes:
    shapes = {}
    with _opened(path) as tensors:
        for key in tensors.keys():  # noqa: SIM118 - no mapping
            part = tensors.get_slice(key)
            if part.get_dtype() not in _DTYPES:
                raise InputError(f"{key} is {part.get_dtype()}, not {', '.join(_DTYPES)}", where=str(path))
            shapes[key] = tuple(part.get_shape())
    return shapes


def _opened(path: Path) -> Any:
    try:
        return safe_open(path, framework="pt")
    except (SafetensorError, OSError) as error:
        raise InputError(f"not a readable safetensors file: {error}", where=str(path)) from error


def _key(layer: str, half: str) -> str:
    return f"base_model.model.{layer}.lora_{half}.weight"


def _compare(found: Shapes, expected: Shapes, layers: Mapping[str, LayerSize], folder: Path) -> None:
    problem = ""
    if extra := next((key for key in found if key not in expected), None):
        problem = f"it holds {extra}, {_why_extra(extra, layers)}"
    elif missing := next((key for key in expected if key not in found), None):
        problem = f"it lacks {missing}"
    elif wrong := next((key for key in expected if found[key] != expected[key]), None):
        problem = f"{wrong} has the shape {list(found[wrong])}, not {list(expected[wrong])}"
    if problem:
        raise InputError(
            f"the adapter doesn't fit the model: {problem}", where=str(folder / WEIGHTS), mend=_ANOTHER
        )


def _why_extra(key: str, layers: Mapping[str, LayerSize]) -> str:
    match = _KEY.fullmatch(key)
    if match is None:
        return "which is no LoRA weight of a linear layer"
    if match["layer"] in layers:
        return "which its config doesn't name"
    return "of a layer that the model has not or that takes no adapters"
