"""Small random LoRA adapters, in folders as PEFT saves them, made without PEFT."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

TINY_LLAMA = {
    "q_proj": (64, 64),
    "k_proj": (64, 32),
    "v_proj": (64, 32),
    "o_proj": (64, 64),
    "gate_proj": (64, 128),
    "up_proj": (64, 128),
    "down_proj": (128, 64),
}
SMOLLM2 = {
    "q_proj": (576, 576),
    "k_proj": (576, 192),
    "v_proj": (576, 192),
    "o_proj": (576, 576),
    "gate_proj": (576, 1536),
    "up_proj": (576, 1536),
    "down_proj": (1536, 576),
}


def save_random_adapter(
    folder: Path,
    *,
    layers: int = 2,
    sizes: Mapping[str, tuple[int, int]] = TINY_LLAMA,
    rank: int = 8,
    targets: Sequence[str] = ("q_proj", "v_proj"),
    seed: int = 0,
    deviation: float = 0.1,
) -> Path:
    """Write an adapter of a Llama whose two halves are random; returns ``folder``, which must not exist.

    Args:
        folder: where it goes.
        layers: of the model: 2 for the tiny one of the tests, 30 for SmolLM2-135M.
        sizes: inputs and outputs of the model's products, by name.
        rank: of the adapter.
        targets: which products it changes.
        seed: other seeds give other adapters.
        deviation: standard deviation of its numbers; the larger, the more it changes.
    """
    import torch
    from safetensors.torch import save_file

    generator = torch.Generator().manual_seed(seed)
    weights = {}
    for layer in range(layers):
        for target in targets:
            part = "mlp" if target in ("gate_proj", "up_proj", "down_proj") else "self_attn"
            key = f"base_model.model.model.layers.{layer}.{part}.{target}.lora_"
            inputs, outputs = sizes[target]
            weights[f"{key}A.weight"] = torch.randn(rank, inputs, generator=generator) * deviation
            weights[f"{key}B.weight"] = torch.randn(outputs, rank, generator=generator) * deviation
    folder.mkdir(parents=True)
    save_file(weights, folder / "adapter_model.safetensors")
    config = {"peft_type": "LORA", "r": rank, "lora_alpha": 2 * rank, "target_modules": list(targets)}
    (folder / "adapter_config.json").write_text(json.dumps(config), encoding="utf-8")
    return folder


def save_random_smollm2_adapter(folder: Path, *, rank: int = 8, seed: int = 0) -> Path:
    """An adapter of SmolLM2-135M that changes its text."""
    return save_random_adapter(folder, layers=30, sizes=SMOLLM2, rank=rank, seed=seed, deviation=0.02)
