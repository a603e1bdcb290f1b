"""Shapes of models' matrix products, held against the models themselves."""

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from transformers import (
    AutoModelForCausalLM,
    GemmaConfig,
    GPT2Config,
    LlamaConfig,
    Qwen2Config,
    Qwen3MoeConfig,
)

from asynckit.bench.shapes import ROWS, Product, products, read_product, read_shape
from asynckit.errors import ConfigError, InputError

SMALL = {
    "vocab_size": 320,
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 24,
    "tie_word_embeddings": False,
}


def weights_of_linear_layers(config: Any) -> int:
    """Numbers in every linear layer of the model that transformers makes of a configuration."""
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(config)
    # GPT-2 keeps its layers' weights in a class of its own.
    layers = [module for module in model.modules() if type(module).__name__ in ("Linear", "Conv1D")]
    return sum(layer.weight.numel() for layer in layers)


@pytest.mark.parametrize(
    "config",
    [
        LlamaConfig(**SMALL),
        Qwen2Config(**{**SMALL, "head_dim": 16}),
        GemmaConfig(**SMALL),
        GPT2Config(n_embd=64, n_layer=2, n_head=4, vocab_size=320),
    ],
    ids=lambda config: str(config.model_type),
)
def test_products_are_those_of_the_model(config: Any) -> None:
    """Every weight of every linear layer is in exactly one product, whatever the family."""
    shape = read_shape(config, "model")
    assert sum(each.weights * each.count for each in products(shape)) == weights_of_linear_layers(config)


def test_sizes_of_smollm2() -> None:
    """The products of the embedded model, written out by hand."""
    config = SimpleNamespace(
        hidden_size=576,
        intermediate_size=1536,
        num_hidden_layers=30,
        num_attention_heads=9,
        num_key_value_heads=3,
        vocab_size=49152,
        max_position_embeddings=8192,
    )
    assert products(read_shape(config, "SmolLM2")) == (
        Product("qkv", 576, 960, 30),
        Product("o", 576, 576, 30),
        Product("gate_up", 576, 3072, 30),
        Product("down", 1536, 576, 30),
        Product("lm_head", 576, 49152),
    )
    assert ROWS == (1, 8, 64, 2048)


def test_mixture_has_the_products_of_one_expert() -> None:
    """Experts are counted, and the MLP's products are as wide as one of them."""
    config = Qwen3MoeConfig(**SMALL, num_experts=8, moe_intermediate_size=32)
    shape = read_shape(config, "mixture")
    assert shape.experts == 8
    assert shape.intermediate == 32


@pytest.mark.parametrize("value", [None, 0, -1, "64", True, 1.5])
def test_missing_and_wrong_sizes_are_refused(value: Any) -> None:
    """A configuration without a usable size is told by the name of the field."""
    config = SimpleNamespace(**SMALL, max_position_embeddings=128)
    config.hidden_size = value
    with pytest.raises(InputError, match="hidden_size"):
        read_shape(config, "broken")


def test_given_product() -> None:
    """MxNxK is rows, outputs and inputs."""
    assert read_product(" 64X4096x1024 ") == (64, Product("given", 1024, 4096))


@pytest.mark.parametrize("text", ["", "64x64", "0x1x1", "1x2x3x4", "axbxc", "1x1x-1", "99999999x1x1"])
def test_what_is_no_product_is_refused(text: str) -> None:
    """Typing errors end before anything is measured."""
    with pytest.raises(ConfigError, match="no shape"):
        read_product(text)
