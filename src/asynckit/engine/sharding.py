"""Which part of a model each rank holds (Shoeybi et al. 2019, "Megatron-LM").

Query, key and value heads and the columns of the gated MLP are shared out evenly. The layers behind them take
the matching part of their inputs, so what they make is a part of a sum, and a hook sums it over the ranks.
Everything else, embeddings and norms, every rank has whole. Adapters are cut in the same way: what an adapter
adds in front of the sum is a part of it too.
"""

import functools
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn
from transformers import PreTrainedModel

from asynckit.engine.adapter_files import Delta, LayerSize
from asynckit.engine.parallel import Ranks
from asynckit.engine.weights import WeightSlots
from asynckit.errors import ConfigError

# Layers whose outputs are shared out, and the one whose inputs those are.
_GROUPS = ((("q_proj", "k_proj", "v_proj"), "o_proj"), (("gate_proj", "up_proj"), "down_proj"))
_SIZES = ("num_attention_heads", "num_key_value_heads", "intermediate_size")


def check_sizes(config: Any, size: int, where: str) -> None:
    """Refuse to share a model out among ``size`` ranks if that doesn't come out even.

    Every rank needs key/value heads of its own: they are never held twice.

    Raises:
        ConfigError: says among how many it can be shared out.
    """
    sizes = {name: getattr(config, name, None) for name in _SIZES}
    known = {name: number for name, number in sizes.items() if isinstance(number, int)}
    uneven = [f"{name} is {number}" for name, number in known.items() if number % size]
    if uneven:
        common = math.gcd(*known.values())
        possible = [str(number) for number in range(1, min(common, 64) + 1) if common % number == 0]
        raise ConfigError(
            f"{size} processes can't hold this model together: {', '.join(uneven)}",
            where=where,
            mend=f"use a tensor parallelism of {' or '.join(possible)}",
        )


class Shards:
    """One rank's part of a model.

    Args:
        model: as loaded; its layers are cut.
        weights: where the model's weights are; new ones are cut in the same way from now on.
        ranks: this process and the others.
        folder: of the model, for error messages.

    Raises:
        ConfigError: the model's layers are not those of a Llama-like model.
    """

    def __init__(self, model: PreTrainedModel, weights: WeightSlots, ranks: Ranks, folder: Path) -> None:
        self._ranks = ranks
        self._cut_of: dict[str, int] = {}  # 0 where a layer's outputs are shared out, 1 where its inputs are
        layers = int(model.config.num_hidden_layers)
        for columns, row in _GROUPS:
            groups = [
                (path, found)
                for path, module in model.named_modules()
                if (found := _linears(module, columns, row))
            ]
            if len(groups) != layers:
                raise ConfigError(
                    f"{ranks.size} processes can't hold this model together: its layers don't have "
                    f"{', '.join((*columns, row))} each",
                    where=str(folder),
                    mend="use a tensor parallelism of 1, or a model such as Llama, Qwen, Mistral or Gemma",
                )
            for path, found in groups:
                for name, linear in found.items():
                    self._cut(f"{path}.{name}", linear, int(name == row), weights)

    def sum_up(self, model: nn.Module) -> None:
        """Let each layer whose inputs are shared out give the sum of all ranks; the model is ready to run."""
        for name, dimension in self._cut_of.items():
            if dimension == 1:
                model.get_submodule(name).register_forward_hook(self._sum)

    def whole(self, name: str, size: LayerSize) -> LayerSize:
        """The size that a layer has over all ranks."""
        factors = {0: (1, self._ranks.size), 1: (self._ranks.size, 1)}
        inputs, outputs = factors.get(self._cut_of.get(name, -1), (1, 1))
        return LayerSize(size.inputs * inputs, size.outputs * outputs, size.transposed)

    def cut(self, deltas: Mapping[str, Delta]) -> dict[str, Delta]:
        """This rank's part of an adapter."""
        return {name: self._cut_delta(delta, self._cut_of.get(name)) for name, delta in deltas.items()}

    def _cut_delta(self, delta: Delta, dimension: int | None) -> Delta:
        if dimension is None:
            return delta
        if dimension == 0:
            return Delta(delta.down, self._part(delta.up, 1), delta.scale)
        return Delta(self._part(delta.down, 1), delta.up, delta.scale)

    def _part(self, whole: torch.Tensor, dimension: int) -> torch.Tensor:
        width = whole.shape[dimension] // self._ranks.size
        return whole.narrow(dimension, self._ranks.rank * width, width).contiguous()

    def _bias(self, whole: torch.Tensor, dimension: int) -> torch.Tensor:
        """A bias behind a sum must be added once."""
        if dimension == 0:
            return self._part(whole, 0)
        return whole if self._ranks.rank == 0 else torch.zeros_like(whole)

    def _cut(self, path: str, linear: nn.Linear, dimension: int, weights: WeightSlots) -> None:
        self._cut_of[path] = dimension
        cut_weight = functools.partial(self._part, dimension=dimension)
        # Copied, so that the whole weight can go.
        linear.weight = nn.Parameter(cut_weight(linear.weight.data).clone(), requires_grad=False)
        linear.out_features, linear.in_features = linear.weight.shape
        weights.cut(f"{path}.weight", cut_weight)
        if linear.bias is not None:
            cut_bias = functools.partial(self._bias, dimension=dimension)
            linear.bias = nn.Parameter(cut_bias(linear.bias.data).clone(), requires_grad=False)
            weights.cut(f"{path}.bias", cut_bias)

    def _sum(self, _module: nn.Module, _inputs: object, part: torch.Tensor) -> torch.Tensor:
        return self._ranks.sum(part)


def _linears(module: nn.Module, columns: tuple[str, ...], row: str) -> dict[str, nn.Linear]:
    """The layers of one group in a module; empty if it has not all of them."""
    found = {name: getattr(module, name, None) for name in (*columns, row)}
    linears = {name: layer for name, layer in found.items() if type(layer) is nn.Linear}
    return linears if len(linears) == len(found) else {}
