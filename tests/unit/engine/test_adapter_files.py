"""Adapters on disk: what PEFT saves is understood, everything else is refused with the reason."""

import json
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from asynckit.engine.adapter_config import PeftConfig
from asynckit.engine.adapter_files import LayerSize, open_adapter, read_deltas
from asynckit.errors import InputError

LAYERS = {
    f"model.layers.{index}.{name}": LayerSize(8, width, transposed=False)
    for index in range(2)
    for name, width in (("self_attn.q_proj", 8), ("self_attn.v_proj", 4), ("mlp.up_proj", 16))
}
CONFIG = {
    "peft_type": "LORA",
    "r": 2,
    "lora_alpha": 4,
    "target_modules": ["q_proj", "v_proj"],
    "bias": "none",
}
UP = "base_model.model.model.layers.0.mlp.up_proj.lora_A.weight"
Q_A = "base_model.model.model.layers.0.self_attn.q_proj.lora_A.weight"
Q_B = "base_model.model.model.layers.1.self_attn.q_proj.lora_B.weight"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A whole adapter of rank 2 for q_proj and v_proj."""
    generator = torch.Generator().manual_seed(0)
    weights = {}
    for name, size in LAYERS.items():
        if name.endswith(("q_proj", "v_proj")):
            weights[f"base_model.model.{name}.lora_A.weight"] = torch.randn(
                2, size.inputs, generator=generator
            )
            weights[f"base_model.model.{name}.lora_B.weight"] = torch.randn(
                size.outputs, 2, generator=generator
            )
    save_file(weights, tmp_path / "adapter_model.safetensors")
    (tmp_path / "adapter_config.json").write_text(json.dumps(CONFIG))
    return tmp_path


def configure(folder: Path, **options: Any) -> None:
    (folder / "adapter_config.json").write_text(json.dumps({**CONFIG, **options}))


def rewrite(folder: Path, change: Callable[[dict[str, torch.Tensor]], object]) -> None:
    path = folder / "adapter_model.safetensors"
    weights = {key: tensor.clone() for key, tensor in load_file(path).items()}
    change(weights)
    save_file(weights, path)


def test_an_adapter_is_read_as_it_was_saved(folder: Path) -> None:
    """Both halves, the scale, and copies that outlive a change of the file."""
    file = open_adapter(folder, LAYERS, 64)
    assert file.size == 2 * (2 * 8 + 8 * 2 + 2 * 8 + 4 * 2)
    assert set(file.scales.values()) == {2.0}
    deltas = read_deltas(file, torch.float32)
    weights = {key: tensor.clone() for key, tensor in load_file(folder / "adapter_model.safetensors").items()}
    path = folder / "adapter_model.safetensors"
    path.write_bytes(b"\0" * path.stat().st_size)
    assert torch.equal(deltas["model.layers.0.self_attn.q_proj"].down, weights[Q_A])
    assert torch.equal(deltas["model.layers.1.self_attn.q_proj"].up, weights[Q_B].T)
    assert all(delta.up.is_contiguous() for delta in deltas.values())


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"peft_type": "IA3"}, "peft_type is IA3"),
        ({"use_dora": True}, "use_dora is set"),
        ({"bias": "lora_only"}, "biases of its own"),
        ({"modules_to_save": ["lm_head"]}, "modules_to_save is set"),
        ({"init_lora_weights": "pissa_niter_4"}, "changes the model's own weights"),
        ({"layer_replication": [[0, 1]]}, "layer_replication is set"),
        ({"an_option_of_tomorrow": 3}, "an_option_of_tomorrow is set to 3"),
        ({"r": 0}, r"Expected `int` >= 1 - at `\$.r`"),
        ({"r": "eight"}, r"at `\$.r`"),
        ({"lora_alpha": float("nan")}, "not a finite number"),
        ({"target_modules": None}, r"at `\$.target_modules`"),
        ({"target_modules": "(q"}, "not the config of a LoRA adapter"),
        ({"rank_pattern": {"(q": 3}}, "not the config of a LoRA adapter"),
        ({"target_modules": ["query"]}, "no layer that takes adapters"),
        ({"target_modules": ["embed_tokens"]}, "no layer that takes adapters"),
        ({"fan_in_fan_out": True}, "fan_in_fan_out is true, but"),
        ({"r": 128}, "rank 128 of model.layers.0.self_attn.q_proj is above engine.max_lora_rank"),
        ({"r": 4}, "has the shape"),
        ({"target_modules": ["q_proj"]}, "which its config doesn't name"),
        ({"target_modules": ["q_proj", "v_proj", "up_proj"]}, "lacks .*up_proj"),
        ({"layers_to_transform": [0]}, "which its config doesn't name"),
    ],
)
def test_configs_that_would_give_something_else_are_refused(
    folder: Path, options: dict[str, Any], words: str
) -> None:
    """Left out in silence, any of these would make wrong tokens."""
    configure(folder, **options)
    with pytest.raises(InputError, match=words) as refusal:
        open_adapter(folder, LAYERS, 64)
    assert "adapter_" in refusal.value.where


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda w: w.pop(Q_B), "it lacks .*layers.1.*q_proj.lora_B"),
        (lambda w: w.update({Q_A: torch.zeros(2, 9)}), r"has the shape \[2, 9\], not \[2, 8\]"),
        (lambda w: w.update({Q_B: torch.zeros(8, 3)}), r"has the shape \[8, 3\], not \[8, 2\]"),
        (lambda w: w.update({Q_A: torch.zeros(2, 8, dtype=torch.int8)}), "is I8, not F32"),
        (lambda w: w.update({UP: torch.zeros(2, 8)}), "which its config doesn't name"),
        (lambda w: w.update({"lm_head.weight": torch.zeros(2)}), "no LoRA weight of a linear layer"),
        (
            lambda w: w.update({Q_A.replace("layers.0", "layers.7"): torch.zeros(2, 8)}),
            "of a layer that the model has not",
        ),
    ],
)
def test_weights_of_another_model_are_refused(
    folder: Path, change: Callable[[dict[str, torch.Tensor]], object], words: str
) -> None:
    """Missing, extra and misshapen tensors are told by name."""
    rewrite(folder, change)
    with pytest.raises(InputError, match=words) as refusal:
        open_adapter(folder, LAYERS, 64)
    assert refusal.value.where.endswith("adapter_model.safetensors")


def test_files_that_are_missing_or_broken_are_refused(folder: Path, tmp_path: Path) -> None:
    """Each with its own reason; pickled weights are never opened."""
    with pytest.raises(InputError, match="no such adapter folder"):
        open_adapter(tmp_path / "nowhere", LAYERS, 64)
    weights = folder / "adapter_model.safetensors"
    whole = weights.read_bytes()
    weights.write_bytes(whole[:-5])
    with pytest.raises(InputError, match="bytes where its header says"):
        open_adapter(folder, LAYERS, 64)
    weights.write_bytes(b"nonsense, and more of it")
    with pytest.raises(InputError, match="not a safetensors file"):
        open_adapter(folder, LAYERS, 64)
    weights.unlink()
    with pytest.raises(InputError, match=r"no adapter_model\.safetensors$|no adapter_model\.safetensors "):
        open_adapter(folder, LAYERS, 64)
    (folder / "adapter_model.bin").write_bytes(pickle.dumps({}))
    with pytest.raises(InputError, match=r"adapter_model\.bin is pickled and never loaded"):
        open_adapter(folder, LAYERS, 64)
    (folder / "adapter_config.json").write_text("{")
    with pytest.raises(InputError, match="not valid JSON"):
        open_adapter(folder, LAYERS, 64)
    (folder / "adapter_config.json").unlink()
    with pytest.raises(InputError, match=r"has no adapter_config\.json"):
        open_adapter(folder, LAYERS, 64)


def test_numbers_that_are_not_finite_in_the_model_s_precision_are_refused(folder: Path) -> None:
    """1e6 fits float32 but not float16."""
    rewrite(folder, lambda w: w[Q_A].fill_(1e6))
    file = open_adapter(folder, LAYERS, 64)
    read_deltas(file, torch.bfloat16)
    with pytest.raises(InputError, match="q_proj holds numbers that are not finite"):
        read_deltas(file, torch.float16)


@pytest.mark.parametrize(
    "options",
    [
        {"target_modules": ["q_proj", "mlp.up_proj", "model.layers.1.self_attn.v_proj"]},
        {"target_modules": "all-linear"},
        {"target_modules": r".*\.1\..*_proj"},
        {"target_modules": ["q_proj", "v_proj"], "exclude_modules": ["layers.0.self_attn.v_proj"]},
        {"target_modules": ["q_proj", "v_proj"], "exclude_modules": r".*0.*"},
        {"target_modules": ["q_proj", "up_proj"], "layers_to_transform": 1},
        {"target_modules": ["q_proj"], "layers_to_transform": [0, 3], "layers_pattern": "layers"},
        {"target_modules": ["up_proj"], "rank_pattern": {"layers.1.mlp.up_proj": 5}, "use_rslora": True},
        {"target_modules": ["up_proj"], "alpha_pattern": {"1.*up_proj": 5}, "rank_pattern": {"up_proj": 3}},
    ],
)
def test_layers_ranks_and_scales_are_peft_s(options: dict[str, Any]) -> None:
    """The same layers, ranks and factors as PEFT gives them, for every way to name them."""
    from peft import LoraConfig, inject_adapter_in_model

    model = torch.nn.Module()
    for name, size in LAYERS.items():
        parent = model
        *path, leaf = name.split(".")
        for part in path:
            if not hasattr(parent, part):
                parent.add_module(part, torch.nn.Module())
            parent = getattr(parent, part)
        parent.add_module(leaf, torch.nn.Linear(size.inputs, size.outputs))
    if options["target_modules"] == "all-linear":
        peft_options = {**options, "target_modules": ["q_proj", "v_proj", "up_proj"]}
    else:
        peft_options = options
    inject_adapter_in_model(LoraConfig(r=4, lora_alpha=6, **peft_options), model)
    expected = {
        name: (module.r["default"], module.scaling["default"])
        for name, module in model.named_modules()
        if hasattr(module, "scaling")
    }
    config = PeftConfig(r=4, lora_alpha=6, **options)
    assert {name: (config.rank(name), config.scale(name)) for name in config.targets(LAYERS)} == expected
