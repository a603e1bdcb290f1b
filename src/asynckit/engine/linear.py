"""Layers made fast: neighbours fused, weights packed for oneDNN, norms and gates in one pass.

The model's own code stays as it is: it calls ``q_proj(x)``, ``k_proj(x)`` and ``v_proj(x)`` one after the
other, and the parts of a :class:`FusedLinear` answer from one matrix product. Where a replacement does more
than a linear layer, it is tried against what it replaces, because model families differ in details.
"""

import functools
from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

from asynckit.engine.native import Kernels
from asynckit.engine.weights import WeightSlots

# What torch's own compiler calls for packed weights; the ops have no public name.
_pack = torch.ops.mkldnn._reorder_linear_weight  # noqa: SLF001
_multiply = torch.ops.mkldnn._linear_pointwise  # noqa: SLF001

FUSED = (("q_proj", "k_proj", "v_proj"), ("gate_proj", "up_proj"))
# oneDNN picks the packed layout for a number of rows; this one serves single rows and full batches alike.
_PACKED_ROWS = 64


class PackedLinear(nn.Module):
    """``x @ weight.T + bias`` with the weights in oneDNN's blocked layout.

    Args:
        weight: ``[out, in]``, bfloat16 or float32 on the CPU.
        bias: ``[out]`` or None.
    """

    def __init__(self, weight: torch.Tensor, bias: torch.Tensor | None) -> None:
        super().__init__()
        self.out_features, self.in_features = weight.shape
        self.bias = bias
        self._dtype = weight.dtype
        self.load(weight)

    def load(self, weight: torch.Tensor) -> None:
        """Take new weights of the same shape; the old ones are freed."""
        self._packed = _pack(weight.to(self._dtype).contiguous(), _PACKED_ROWS)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """``[..., in]`` to ``[..., out]``."""
        return _multiply(x, self._packed, self.bias, "none", [], "")  # type: ignore[no-any-return]


class FusedLinear:
    """Several linear layers with the same input as one product.

    The first part that is asked computes them all; the result is kept until the last part has been answered.
    It is tied to the identity of the input tensor, so a part asked out of turn still gets the right answer.
    """

    def __init__(self, linear: nn.Module, sizes: Sequence[int]) -> None:
        self.linear = linear
        self.sizes = list(sizes)
        self._input: torch.Tensor | None = None
        self._outputs: tuple[torch.Tensor, ...] = ()
        self._new: dict[int, torch.Tensor] = {}

    def part(self, x: torch.Tensor, index: int) -> torch.Tensor:
        """What the layer at ``index`` makes of ``x``."""
        if self._input is not x:
            self._outputs = self.linear(x).split(self.sizes, -1)
            self._input = x
        output = self._outputs[index]
        if index == len(self.sizes) - 1:
            self._input, self._outputs = None, ()
        return output

    def load(self, index: int, weight: torch.Tensor) -> None:
        """Take new weights of one part; packed weights are made when all parts have arrived."""
        if not isinstance(self.linear, PackedLinear):
            self._slice(self.linear.weight, index).copy_(weight)
            return
        self._new[index] = weight
        if len(self._new) == len(self.sizes):
            parts, self._new = self._new, {}  # nothing is left for the next update, should this one fail here
            self.linear.load(torch.cat([parts[each] for each in range(len(self.sizes))]))

    def load_bias(self, index: int, bias: torch.Tensor) -> None:
        """Take the new bias of one part."""
        self._slice(self.linear.bias, index).copy_(bias)

    def _slice(self, whole: Any, index: int) -> Any:
        begin = sum(self.sizes[:index])
        return whole.data[begin : begin + self.sizes[index]]


class FusedPart(nn.Module):
    """Stands in for one of the fused layers."""

    def __init__(self, fused: FusedLinear, index: int) -> None:
        super().__init__()
        self.fused = fused
        self.index = index

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """``[..., in]`` to this part's ``[..., out]``."""
        return self.fused.part(x, self.index)


class NativeRMSNorm(nn.Module):
    """Llama's RMS norm in one pass over memory."""

    def __init__(self, weight: nn.Parameter, epsilon: float, kernels: Kernels) -> None:
        super().__init__()
        self.weight = weight
        self._epsilon = epsilon
        self._kernels = kernels

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Normalizes the last dimension."""
        return self._kernels.rms_norm(x, self.weight, self._epsilon)


class NativeGatedMLP(nn.Module):
    """``down(silu(gate(x)) * up(x))`` with gate and up in one product."""

    def __init__(self, gate_up: nn.Module, down: nn.Module, kernels: Kernels) -> None:
        super().__init__()
        self.gate_up = gate_up
        self.down_proj = down
        self._kernels = kernels

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """``[..., hidden]`` to ``[..., hidden]``."""
        return self.down_proj(self._kernels.silu_mul(self.gate_up(x)))  # type: ignore[no-any-return]


def optimize(model: nn.Module, kernels: Kernels | None, slots: WeightSlots) -> None:
    """Replace a CPU model's linear layers, norms and gated MLPs by faster ones that compute the same.

    Where their weights went is added to ``slots``; what stays in place is not.
    """
    for path, module in list(model.named_modules()):
        for names in FUSED:
            _fuse(module, path, names, slots)
    for path, module in list(model.named_modules()):
        for name, child in module.named_children():
            if type(child) is nn.Linear and _packable(child.weight):
                _pack_child(module, path, name, child, slots)
    if kernels:
        for parent, name, child in _children(model):
            if type(child).__name__.endswith("RMSNorm"):
                _replace_norm(parent, name, child, kernels)
            elif type(child).__name__.endswith("MLP"):
                _replace_mlp(parent, name, child, kernels)


def _children(model: nn.Module) -> list[tuple[nn.Module, str, nn.Module]]:
    return [(parent, name, child) for parent in model.modules() for name, child in parent.named_children()]


def _pack_child(parent: nn.Module, path: str, name: str, linear: nn.Linear, slots: WeightSlots) -> None:
    packed = PackedLinear(linear.weight, linear.bias)
    setattr(parent, name, packed)
    slots.add(_join(path, name, "weight"), packed.load)
    if packed.bias is not None:
        slots.add(_join(path, name, "bias"), packed.bias.data.copy_)


def _join(*parts: str) -> str:
    return ".".join(part for part in parts if part)


def _fuse(module: nn.Module, path: str, names: Sequence[str], slots: WeightSlots) -> None:
    layers = [getattr(module, name, None) for name in names]
    if not all(type(layer) is nn.Linear for layer in layers):
        return
    linears: list[nn.Linear] = layers  # type: ignore[assignment]
    if (
        len({layer.in_features for layer in linears}) > 1
        or len({layer.bias is None for layer in linears}) > 1
    ):
        return
    weight = torch.cat([layer.weight for layer in linears])
    bias = None if linears[0].bias is None else torch.cat([layer.bias for layer in linears])
    fused = FusedLinear(_linear(weight, bias), [layer.out_features for layer in linears])
    for index, name in enumerate(names):
        setattr(module, name, FusedPart(fused, index))
        slots.add(_join(path, name, "weight"), functools.partial(fused.load, index))
        if bias is not None:
            slots.add(_join(path, name, "bias"), functools.partial(fused.load_bias, index))


def _linear(weight: torch.Tensor, bias: torch.Tensor | None) -> nn.Module:
    if _packable(weight):
        return PackedLinear(weight, bias)
    linear = nn.Linear(weight.shape[1], weight.shape[0], bias=bias is not None, device="meta")
    linear.weight = nn.Parameter(weight, requires_grad=False)
    if bias is not None:
        linear.bias = nn.Parameter(bias, requires_grad=False)
    return linear


def _packable(weight: torch.Tensor) -> bool:
    return (
        weight.dtype in (torch.bfloat16, torch.float32)
        and weight.device.type == "cpu"
        and torch.backends.mkldnn.is_available()  # type: ignore[no-untyped-call]
    )


def _replace_norm(parent: nn.Module, name: str, norm: nn.Module, kernels: Kernels) -> None:
    epsilon, weight = getattr(norm, "variance_epsilon", None), getattr(norm, "weight", None)
    if epsilon is not None and weight is not None:
        fast = NativeRMSNorm(weight, epsilon, kernels)
        _replace_if_equal(parent, name, fast, weight.numel(), weight.dtype)


def _replace_mlp(parent: nn.Module, name: str, mlp: nn.Module, kernels: Kernels) -> None:
    gate, down = getattr(mlp, "gate_proj", None), getattr(mlp, "down_proj", None)
    if isinstance(gate, FusedPart) and isinstance(down, nn.Linear | PackedLinear):
        fast = NativeGatedMLP(gate.fused.linear, down, kernels)
        _replace_if_equal(parent, name, fast, down.out_features, kernels.dtype)


@torch.inference_mode()
def _replace_if_equal(parent: nn.Module, name: str, fast: nn.Module, size: int, dtype: torch.dtype) -> None:
    """Put ``fast`` in place of the child if both make the same of the same input, up to rounding."""
    x = torch.linspace(-3, 3, 4 * size, dtype=dtype).view(4, size)
    expected, found = getattr(parent, name)(x).float(), fast(x).float()
    tolerance = expected.abs().max().item() * (2**-6 if dtype is torch.bfloat16 else 1e-5)
    if torch.allclose(found, expected, rtol=0, atol=tolerance):
        setattr(parent, name, fast)
