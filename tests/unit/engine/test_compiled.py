"""Layers through torch.compile: the same tokens, with new weights and adapters too; refusals that help."""

import os
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM

from asynckit.engine.compiled import check_compile, compile_layers
from asynckit.engine.config import EngineConfig, SamplingParams
from asynckit.engine.engine import Engine
from asynckit.engine.request import Request
from asynckit.errors import ConfigError, DependencyError
from asynckit.models.config import ModelConfig
from asynckit.models.resolve import resolve_model

CONFIG = EngineConfig(
    dtype="float32",
    device="cpu",
    optimize=False,
    max_running=4,
    max_step_tokens=40,
    max_model_len=128,
    block_size=16,
    kv_cache_tokens=1024,
)
COMPILED = replace(CONFIG, compile=True)
CPU = torch.device("cpu")


def load(folder: Path, config: EngineConfig) -> Engine:
    model = ModelConfig(name=str(folder))
    return Engine.load(config, model, resolve_model(model))


def greedy(engine: Engine, name: str, adapter: str | None = None) -> dict[str, list[int | None]]:
    """Prompts of several lengths, so that passes of many sizes run."""
    params = SamplingParams(temperature=0.0, max_tokens=10, ignore_eos=True)
    for length in (1, 7, 60):
        prompt = tuple(range(4, 4 + length))
        engine.add(Request(f"{name}{length}", prompt, params, adapter=adapter if length == 7 else None))
    found: dict[str, list[int | None]] = {}
    while engine.has_work():
        for event in engine.step():
            found.setdefault(event.request_id, []).append(event.token_id)
    return found


def has_compiler() -> bool:
    try:
        check_compile(COMPILED, CPU)
    except DependencyError:
        return False
    return True


@pytest.mark.slow
@pytest.mark.skipif(not has_compiler(), reason="torch.compile needs a C++ compiler")
@pytest.mark.filterwarnings("ignore:.is_gradient_checkpointing. is deprecated:FutureWarning")  # PEFT's own
@pytest.mark.filterwarnings(
    "ignore:.torch.jit.script_method. is deprecated:DeprecationWarning"
)  # torch's own
def test_compiled_layers_give_the_same_greedy_tokens(tiny_llama: Path, tmp_path: Path) -> None:
    """Also with new weights and beside a request with an adapter; in passes of one row and of many."""
    base = AutoModelForCausalLM.from_pretrained(tiny_llama, dtype=torch.float32)
    new = {name: 1.1 * each for name, each in base.named_parameters()}
    options = LoraConfig(r=4, target_modules=["q_proj", "up_proj"], init_lora_weights=False)
    get_peft_model(base, options).save_pretrained(str(tmp_path))
    torch._dynamo.utils.counters.clear()
    results = []
    for config in (CONFIG, COMPILED):
        engine = load(tiny_llama, config)
        found = greedy(engine, "plain ")
        engine.adapters.register("adapter", tmp_path)
        found |= greedy(engine, "adapted ", "adapter") | greedy(engine, "again ")
        engine.update_weights(1, new)
        results.append(found | greedy(engine, "updated "))
    assert results[0] == results[1]
    assert results[0]["adapted 7"] != results[0]["again 7"] != results[0]["updated 7"]
    assert torch._dynamo.utils.counters["frames"]["ok"] > 0


def test_kernels_that_can_t_be_traced_are_refused(tiny_llama: Path) -> None:
    """The error says which setting to change."""
    with pytest.raises(ConfigError, match=r"engine\.optimize=false"):
        load(tiny_llama, replace(COMPILED, optimize=True))


def test_a_missing_compiler_is_said_at_load(monkeypatch: pytest.MonkeyPatch) -> None:
    """Not in the middle of the first pass."""
    monkeypatch.setenv("CXX", os.devnull + "/none")
    with pytest.raises(DependencyError, match="CXX"):
        check_compile(COMPILED, CPU)


def test_a_model_without_known_layers_is_refused(tiny_llama: Path) -> None:
    """Compiling nothing would pass for success."""
    model = AutoModelForCausalLM.from_pretrained(tiny_llama)
    model.model.layers = torch.nn.ModuleList()
    with pytest.raises(ConfigError, match="no decoder layers"):
        compile_layers(model)
