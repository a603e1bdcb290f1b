"""vLLM beside asynckit: how settings are translated, and where vLLM is installed, what it samples."""

import asyncio
import importlib.util
from pathlib import Path

import pytest
from tiny_models import save_tokenizer

from asynckit.engine.config import EngineConfig, SamplingParams
from asynckit.engine.request import Finish, OnUpdate, Request
from asynckit.errors import ConfigError, DependencyError, RequestError
from asynckit.models.config import ModelConfig
from asynckit.models.resolve import LocalModel, resolve_model
from asynckit.models.tokenizer import load_tokenizer
from asynckit.rollout.engines.vllm_engine import VLLMGenerator, choose_logprobs, engine_arguments

INSTALLED = importlib.util.find_spec("vllm") is not None
LOCAL = LocalModel("m", Path("/m"), "")


def test_logprobs_are_read_where_they_mean_what_ours_mean() -> None:
    """Before everything else at temperature 1 and 0, after it where the temperature alone acts."""
    assert choose_logprobs(SamplingParams()) == "raw_logprobs"
    assert choose_logprobs(SamplingParams(temperature=0.0, repetition_penalty=1.2)) == "raw_logprobs"
    assert choose_logprobs(SamplingParams(temperature=1.0, top_k=5)) == "raw_logprobs"
    assert choose_logprobs(SamplingParams(temperature=0.7)) == "processed_logprobs"


@pytest.mark.parametrize(
    ("sampling", "words"),
    [
        (SamplingParams(temperature=0.7, top_p=0.9), "after cuts"),
        (SamplingParams(temperature=0.7, presence_penalty=1.0), "after cuts"),
        (SamplingParams(temperature=0.001), "round temperature"),
        (SamplingParams(top_logprobs=3), "top_logprobs"),
        (SamplingParams(regex="a+"), "regex"),
    ],
)
def test_what_has_no_right_logprobs_is_refused(sampling: SamplingParams, words: str) -> None:
    """Rather than recorded under another meaning."""
    with pytest.raises(RequestError, match=words):
        choose_logprobs(sampling)


def test_the_engine_s_settings_are_translated() -> None:
    """Batch, context and cache sizes as they are for asynckit's own engine."""
    config = EngineConfig(
        dtype="float32", max_running=7, max_model_len=99, kv_cache_tokens=100, block_size=16
    )
    found = engine_arguments(config, ModelConfig(name="/m"), LOCAL, "raw_logprobs")
    assert (found["model"], found["tokenizer"], found["dtype"]) == ("/m", "/m", "float32")
    assert (found["max_num_seqs"], found["max_model_len"], found["max_num_batched_tokens"]) == (7, 99, 2048)
    assert (found["num_gpu_blocks_override"], found["block_size"]) == (7, 16)
    with pytest.raises(ConfigError, match="same bits"):
        engine_arguments(EngineConfig(deterministic=True), ModelConfig(), LOCAL, "raw_logprobs")


@pytest.mark.skipif(INSTALLED, reason="vLLM is installed")
async def test_without_vllm_the_error_says_what_to_do(tiny_llama: Path) -> None:
    """The package is no dependency of asynckit."""
    model = ModelConfig(name=str(tiny_llama))
    local = resolve_model(model)
    with pytest.raises(DependencyError, match="not installed") as caught:
        await VLLMGenerator.open(EngineConfig(), model, local, SamplingParams(), load_tokenizer(local, model))
    assert "--engine openai" in caught.value.mend


@pytest.mark.slow
@pytest.mark.filterwarnings("default")  # vLLM's own, and of what it imports
@pytest.mark.skipif(not INSTALLED, reason="needs vLLM, which is no dependency of asynckit")
async def test_samples_have_the_model_s_own_logprobs(tmp_path: Path) -> None:
    """Confirmed by a forward pass of transformers; cancelled and aborted requests end."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(0)
    shape = {"hidden_size": 128, "intermediate_size": 128, "num_hidden_layers": 2, "num_attention_heads": 2}
    spread = {"initializer_range": 0.2, "max_position_embeddings": 512, "eos_token_id": 0}
    # Heads of 64, as vLLM's kernels for CPUs don't take smaller ones.
    network = LlamaForCausalLM(LlamaConfig(vocab_size=save_tokenizer(tmp_path), **shape, **spread))
    network.save_pretrained(tmp_path)
    model = ModelConfig(name=str(tmp_path))
    local = resolve_model(model)
    config = EngineConfig(dtype="float32", max_running=8, max_model_len=256, kv_cache_tokens=8192)
    sampling = SamplingParams(temperature=0.7, max_tokens=12, seed=3)
    generator = await VLLMGenerator.open(config, model, local, sampling, load_tokenizer(local, model))
    found = await generator.generate(Request("one", (5, 6, 7), sampling, n=4))
    again = await generator.generate(Request("two", (5, 6, 7), sampling, n=4))
    assert [done.token_ids for done in found] == [done.token_ids for done in again]
    assert len({tuple(done.token_ids) for done in found}) == 4
    for done in found:
        ids = torch.tensor([[5, 6, 7, *done.token_ids]])
        with torch.inference_mode():
            expected = (network(ids).logits[0, 2:-1] / 0.7).log_softmax(-1)
        chosen = expected[range(len(done.token_ids)), done.token_ids]
        assert done.logprobs == pytest.approx(chosen.tolist(), abs=1e-3)
    long = Request("long", (5, 6, 7), SamplingParams(temperature=0.7, max_tokens=200, ignore_eos=True), n=2)
    waiting = asyncio.create_task(generator.generate(long))
    await asyncio.wait([waiting], timeout=0.1)
    await generator.update_weights(1, None, OnUpdate.ABORT)
    assert {done.finish for done in await waiting} <= {Finish.ABORT, Finish.LENGTH}
    await generator.close()
