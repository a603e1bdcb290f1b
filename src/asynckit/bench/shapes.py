"""The sizes of a model's matrix products, from its configuration alone."""

import re
from dataclasses import dataclass
from typing import Any

from asynckit.errors import ConfigError, InputError

ROWS = (1, 8, 64, 2048)
"""Rows of a product: one sequence that decodes, small and large batches of them, and prefill."""

# Families whose MLP is one product up and one down. All others of today multiply a gate with it.
_UNGATED = {
    *("bloom", "codegen", "falcon", "gpt2", "gpt_bigcode", "gpt_neo", "gpt_neox", "gptj", "mpt", "opt"),
    *("nemotron", "persimmon", "phi", "stablelm_alpha", "starcoder2"),
}
_GIVEN = re.compile(r"(\d+)x(\d+)x(\d+)")


@dataclass(frozen=True)
class ModelShape:
    """A decoder-only transformer.

    Attributes:
        name: of the model.
        hidden: width of a token's vector.
        intermediate: width inside the MLP; of one expert where there are several.
        layers: how many.
        heads: that query.
        kv_heads: of keys and values.
        head_dim: width of a head.
        vocabulary: tokens.
        max_positions: tokens of the longest sequence.
        gated: whether the MLP multiplies a gate with what goes up.
        experts: of a mixture; 0 where every token takes the same way.
    """

    name: str
    hidden: int
    intermediate: int
    layers: int
    heads: int
    kv_heads: int
    head_dim: int
    vocabulary: int
    max_positions: int
    gated: bool = True
    experts: int = 0


@dataclass(frozen=True)
class Product:
    """``x @ weight.T``, where x is ``[rows, inputs]``.

    Attributes:
        name: ``qkv``, ``o``, ``gate_up`` (``up`` where there is no gate), ``down`` or ``lm_head``.
        inputs: K.
        outputs: N.
        count: how many of them one pass through the model has.
    """

    name: str
    inputs: int
    outputs: int
    count: int = 1

    @property
    def weights(self) -> int:
        """Numbers in one weight matrix."""
        return self.inputs * self.outputs


def products(shape: ModelShape) -> tuple[Product, ...]:
    """The products of a pass, neighbours fused as engines do; of one expert where there are several."""
    queries, keys = shape.heads * shape.head_dim, shape.kv_heads * shape.head_dim
    up = Product("gate_up", shape.hidden, 2 * shape.intermediate, shape.layers)
    if not shape.gated:
        up = Product("up", shape.hidden, shape.intermediate, shape.layers)
    return (
        Product("qkv", shape.hidden, queries + 2 * keys, shape.layers),
        Product("o", queries, shape.hidden, shape.layers),
        up,
        Product("down", shape.intermediate, shape.hidden, shape.layers),
        Product("lm_head", shape.hidden, shape.vocabulary),
    )


def read_shape(config: Any, name: str) -> ModelShape:
    """The shape that a Hugging Face configuration describes.

    Args:
        config: a ``PretrainedConfig``, or anything with its attributes.
        name: of the model.

    Raises:
        InputError: a size is missing, or no positive whole number.
    """
    text = config.get_text_config() if hasattr(config, "get_text_config") else config
    hidden, heads = _size(text, "hidden_size", name), _size(text, "num_attention_heads", name)
    experts = _experts(text)
    return ModelShape(
        name=name,
        hidden=hidden,
        intermediate=_intermediate(text, hidden, experts, name),
        layers=_size(text, "num_hidden_layers", name),
        heads=heads,
        kv_heads=_optional(text, "num_key_value_heads", heads, name),
        head_dim=_optional(text, "head_dim", hidden // heads, name),
        vocabulary=_size(text, "vocab_size", name),
        max_positions=_size(text, "max_position_embeddings", name),
        gated=getattr(text, "model_type", "") not in _UNGATED,
        experts=experts,
    )


def read_product(text: str) -> tuple[int, Product]:
    """Rows and product of ``MxNxK``, such as ``64x4096x4096``.

    Raises:
        ConfigError: it is something else.
    """
    match = _GIVEN.fullmatch(text.strip().lower())
    sizes = [int(size) for size in match.groups()] if match else []
    if not sizes or not all(1 <= size <= 2**24 for size in sizes):
        raise ConfigError(
            f"{text!r} is no shape of a matrix product",
            where="bench.gemm",
            mend="write MxNxK, such as 64x4096x4096: [64, 4096] times the transpose of [4096, 4096]",
        )
    rows, outputs, inputs = sizes
    return rows, Product("given", inputs, outputs)


def _intermediate(config: Any, hidden: int, experts: int, name: str) -> int:
    if experts and getattr(config, "moe_intermediate_size", None):
        return _size(config, "moe_intermediate_size", name)
    own = "n_inner" if hasattr(config, "n_inner") else "intermediate_size"
    if own == "intermediate_size" and not hasattr(config, own):
        own = "ffn_dim" if hasattr(config, "ffn_dim") else own
    return _optional(config, own, 4 * hidden, name)


def _experts(config: Any) -> int:
    names = ("num_local_experts", "num_experts", "n_routed_experts")
    return max((number for each in names if (number := getattr(config, each, None) or 0) > 1), default=0)


def _optional(config: Any, field: str, default: int, name: str) -> int:
    return default if getattr(config, field, None) is None else _size(config, field, name)


def _size(config: Any, field: str, name: str) -> int:
    value = getattr(config, field, None)
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        found = "has none" if value is None else f"says {value!r}"
        raise InputError(
            f"the model's configuration must say its {field}, and {found}",
            where=name,
            mend="use a decoder-only transformer",
        )
    return value
