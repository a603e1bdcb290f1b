"""Parts that several tests share: tiny random models with a real tokenizer, built once per session."""

import os
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from tiny_models import save_tokenizer

# Before torch is imported, here and in the processes that tests start: threads that spin while they wait take
# the cores away from the other processes of a test.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

pytest_plugins = ["tokenizer_fixtures"]


# How long an example takes says more about the machine than about the code.
settings.register_profile("asynckit", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("asynckit")


@pytest.fixture(scope="session")
def tiny_llama(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A local folder with a random Llama of 4 heads, 2 key/value heads and 2 layers, and its tokenizer."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    folder = tmp_path_factory.mktemp("models") / "tiny-llama"
    vocabulary = save_tokenizer(folder)
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=vocabulary,
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=512,
        initializer_range=0.3,  # far from uniform logits, so that greedy paths differ between prompts
        eos_token_id=0,
        bos_token_id=0,
        pad_token_id=0,
    )
    LlamaForCausalLM(config).save_pretrained(folder)
    return folder
