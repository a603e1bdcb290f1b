"""What the engine gives without a server around it, and what PEFT makes of a model and an adapter."""

import warnings
from collections.abc import Sequence
from pathlib import Path

from asynckit.engine.config import EngineConfig, SamplingParams
from asynckit.engine.engine import Engine
from asynckit.engine.request import Request
from asynckit.models.config import ModelConfig
from asynckit.models.resolve import resolve_model


def greedy(
    model: Path, prompts: Sequence[Sequence[int]], tokens: int, *, tokenizer: Path | None = None
) -> list[list[int]]:
    """The likeliest tokens after each prompt, in float32; ``tokenizer`` is for folders without one."""
    config = ModelConfig(name=str(model), tokenizer=str(tokenizer or model))
    engine = Engine.load(EngineConfig(dtype="float32"), config, resolve_model(config))
    for index, ids in enumerate(prompts):
        engine.add(Request(str(index), tuple(ids), SamplingParams(temperature=0, max_tokens=tokens)))
    found: list[list[int]] = [[] for _ in prompts]
    while engine.has_work():
        for event in engine.step():
            if event.token_id is not None:
                found[int(event.request_id)].append(event.token_id)
    engine.close()
    return found


def save_merged(model: Path, adapter: Path, folder: Path) -> Path:
    """Write the model that PEFT merges the adapter into; returns ``folder``."""
    import torch
    from transformers import AutoModelForCausalLM

    with warnings.catch_warnings():  # PEFT's own use of what transformers has deprecated
        warnings.simplefilter("ignore", FutureWarning)
        from peft import PeftModel

        base = AutoModelForCausalLM.from_pretrained(model, dtype=torch.float32)
        PeftModel.from_pretrained(base, adapter).merge_and_unload().save_pretrained(folder)
    return folder
