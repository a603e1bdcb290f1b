"""Prompt logprobs through the whole engine: every token scored, whatever the chunks and company."""

from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM

from asynckit.engine.config import EngineConfig, SamplingParams
from asynckit.engine.engine import Engine
from asynckit.engine.request import Request, TokenEvent
from asynckit.models.config import ModelConfig
from asynckit.models.resolve import resolve_model


@pytest.mark.parametrize("budget", [7, 40, 2048])
def test_prompt_logprobs_equal_a_plain_forward_pass(tiny_llama: Path, budget: int) -> None:
    """In small chunks, beside others, with several samples and with a prefix that is cached already."""
    model = ModelConfig(name=str(tiny_llama))
    config = EngineConfig(
        dtype="float32",
        device="cpu",
        max_running=6,
        max_step_tokens=budget,
        block_size=16,
        kv_cache_tokens=1024,
    )
    engine = Engine.load(config, model, resolve_model(model))
    reference = AutoModelForCausalLM.from_pretrained(tiny_llama, dtype=torch.float32)
    generator = torch.Generator().manual_seed(0)
    prompts = [
        tuple(torch.randint(4, 250, (length,), generator=generator).tolist()) for length in (1, 9, 30, 55)
    ]
    unscored = len(prompts)
    prompts.append(prompts[2])
    for index, prompt in enumerate(prompts):
        wanted = None if index == unscored else 3
        params = SamplingParams(temperature=0.7, max_tokens=4, prompt_logprobs=wanted, ignore_eos=True)
        engine.add(Request(str(index), prompt, params, n=3 if index == 3 else 1))
    seen: dict[tuple[int, int], list[TokenEvent]] = {}
    while engine.has_work():
        for event in engine.step():
            seen.setdefault((int(event.request_id), event.sample_index), []).append(event)
    for (index, _), events in seen.items():
        assert all(event.prompt_logprobs == () for event in events[1:])
        if index == unscored:
            assert events[0].prompt_logprobs == ()
            continue
        with torch.inference_mode():
            expected = (reference(torch.tensor([prompts[index]])).logits[0] / 0.7).log_softmax(-1)
        first, *rest = events[0].prompt_logprobs
        assert first is None
        assert len(rest) == len(prompts[index]) - 1
        for position, score in enumerate(rest):
            assert score is not None
            assert score.token_id == prompts[index][position + 1]
            assert score.logprob == pytest.approx(expected[position, score.token_id].item(), abs=1e-4)
            assert len(score.top_logprobs) == 3
