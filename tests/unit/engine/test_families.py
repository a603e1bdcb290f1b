"""Model families: each runs right or is refused, never silently wrong."""

from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from tiny_models import GPT2, QWEN2_SLIDING, SMALL, save_tokenizer

from asynckit.engine.config import EngineConfig, SamplingParams
from asynckit.engine.engine import Engine
from asynckit.engine.request import Request
from asynckit.errors import InputError
from asynckit.models.config import ModelConfig
from asynckit.models.resolve import resolve_model

LLAMA3 = {
    "rope_theta": 10_000.0,
    "rope_type": "llama3",
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 64,
}
RUN: dict[str, tuple[str, dict[str, Any]]] = {
    "llama": ("LlamaConfig", SMALL),
    "llama, one kv head, tied, biased": (
        "LlamaConfig",
        {
            **SMALL,
            "num_key_value_heads": 1,
            "tie_word_embeddings": True,
            "attention_bias": True,
            "mlp_bias": True,
        },
    ),
    "llama, scaled rope": ("LlamaConfig", {**SMALL, "rope_parameters": LLAMA3}),
    "qwen2": ("Qwen2Config", SMALL),
    "qwen2, sliding": (
        "Qwen2Config",
        {**SMALL, **QWEN2_SLIDING},
    ),
    "qwen3": ("Qwen3Config", SMALL),
    "mistral": ("MistralConfig", {**SMALL, "sliding_window": 16}),
    "gemma": ("GemmaConfig", SMALL),
    "gemma3": ("Gemma3TextConfig", {**SMALL, "sliding_window": 16}),
    "gpt2": ("GPT2Config", GPT2),
}
REFUSED: dict[str, tuple[str, dict[str, Any]]] = {
    "gemma2": ("Gemma2Config", SMALL),
    "longrope": (
        "LlamaConfig",
        {
            **SMALL,
            "rope_parameters": {
                "rope_theta": 10_000.0,
                "rope_type": "longrope",
                "short_factor": [1.0] * 8,
                "long_factor": [3.0] * 8,
                "factor": 4.0,
                "original_max_position_embeddings": 64,
            },
        },
    ),
    # Their sliding windows are in their masks alone.
    "qwen2 moe, sliding": (
        "Qwen2MoeConfig",
        {
            **SMALL,
            "num_experts": 2,
            "num_experts_per_tok": 1,
            "moe_intermediate_size": 32,
            "shared_expert_intermediate_size": 32,
            "use_sliding_window": True,
            "sliding_window": 48,
        },
    ),
    "phimoe, sliding": (
        "PhimoeConfig",
        {**SMALL, "num_local_experts": 2, "num_experts_per_tok": 1, "sliding_window": 48},
    ),
    "gpt-oss": ("GptOssConfig", {**SMALL, "num_local_experts": 2, "num_experts_per_tok": 1}),
    "mamba": ("MambaConfig", {"hidden_size": 64, "num_hidden_layers": 2}),
    "bert": ("BertConfig", {key: value for key, value in SMALL.items() if key != "num_key_value_heads"}),
}


def build(folder: Path, family: tuple[str, dict[str, Any]]) -> Path:
    config_class, values = family
    vocabulary = save_tokenizer(folder)
    config = getattr(transformers, config_class)(vocab_size=vocabulary, **values)
    torch.manual_seed(0)
    transformers.AutoModelForCausalLM.from_config(config).save_pretrained(folder)
    return folder


def load(folder: Path, dtype: str) -> Engine:
    model = ModelConfig(name=str(folder))
    config = EngineConfig(dtype=dtype, device="cpu", block_size=16, kv_cache_tokens=2048, max_step_tokens=50)
    return Engine.load(config, model, resolve_model(model))


@pytest.mark.parametrize("name", RUN)
def test_greedy_tokens_equal_generate(name: str, tmp_path: Path) -> None:
    """Token for token in float32, prompts shorter and longer than windows, blocks and chunks."""
    folder = build(tmp_path, RUN[name])
    engine = load(folder, "float32")
    reference = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    prompts = [tuple(range(4, 4 + length)) for length in (1, 7, 30, 120)]
    for index, prompt in enumerate(prompts):
        engine.add(Request(str(index), prompt, SamplingParams(temperature=0.0, max_tokens=20)))
    found: dict[str, list[int]] = {}
    while engine.has_work():
        for event in engine.step():
            assert event.token_id is not None, event
            found.setdefault(event.request_id, []).append(event.token_id)
    for index, prompt in enumerate(prompts):
        ids = torch.tensor([prompt])
        output = reference.generate(
            ids, attention_mask=torch.ones_like(ids), do_sample=False, max_new_tokens=20, pad_token_id=0
        )
        assert found[str(index)] == output[0, len(prompt) :].tolist()


@pytest.mark.parametrize("name", ["llama", "qwen3", "gemma", "gpt2"])
def test_bfloat16_loads_and_agrees_with_the_model_s_own_code(name: str, tmp_path: Path) -> None:
    """The check at load runs in bfloat16 too, with packed weights; it raises where they differ."""
    assert load(build(tmp_path, RUN[name]), "bfloat16").version == 0


@pytest.mark.parametrize("name", REFUSED)
def test_what_can_t_be_run_right_is_refused(name: str, tmp_path: Path) -> None:
    """With a sentence that says why, before any request."""
    folder = build(tmp_path, REFUSED[name])
    with pytest.raises(InputError, match="can't"):
        load(folder, "float32")
