"""What LoRA adapters cost: the same requests with 0, 5 and 64 adapters in turn, a thousand registered.

Run ``python benchmarks/lora.py``. Adapters are random, of rank 8 on ``q_proj`` and ``v_proj`` (``--rank``,
``--targets``). Each repetition runs all sides one after the other; ratios are taken within a repetition.
"""

import argparse
import json
import random
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import median

import torch
from environment import QUIET_LOAD, describe_machine
from safetensors.torch import save_file

from asynckit.engine.adapter_files import LayerSize
from asynckit.engine.config import EngineConfig, SamplingParams
from asynckit.engine.engine import Engine
from asynckit.engine.request import Request
from asynckit.models.config import ModelConfig
from asynckit.models.resolve import resolve_model

REGISTERED = 1000
HOT = (0, 5, 64)


def main() -> None:
    """Measure and print."""
    options = _options()
    model_config = ModelConfig(name=options.model)
    config = EngineConfig(device="cpu", max_running=options.batch, kv_cache_tokens=options.batch * 512)
    engine = Engine.load(config, model_config, resolve_model(model_config))
    machine = describe_machine(torch.get_num_threads())
    print(json.dumps(machine))
    if machine["load_average_before"] > QUIET_LOAD:
        print("Something else is running: don't trust these numbers.")
    with tempfile.TemporaryDirectory() as folder:
        _register(engine, Path(folder), options.rank, options.targets)
        _measure(engine, options.batch, options.repeat)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default=ModelConfig().name)
    parser.add_argument("--rank", type=int, default=8)
    parser.add_argument("--targets", nargs="+", default=["q_proj", "v_proj"])
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--repeat", type=int, default=5)
    return parser.parse_args()


def _register(engine: Engine, root: Path, rank: int, targets: Sequence[str]) -> None:
    """Write as many adapters as are ever in use, and register them under a thousand names."""
    folders = [root / str(index) for index in range(max(HOT))]
    for index, folder in enumerate(folders):
        write_adapter(engine.adapters.layers, folder, rank, targets, seed=index)
    begin = time.perf_counter()
    for index in range(REGISTERED):
        engine.adapters.register(f"adapter-{index}", folders[index % len(folders)])
    print(f"{REGISTERED} adapters registered in {time.perf_counter() - begin:.2f} s")


def write_adapter(
    layers: Mapping[str, LayerSize], folder: Path, rank: int, targets: Sequence[str], seed: int
) -> None:
    """Write an adapter of random numbers that fits a model with these layers."""
    generator = torch.Generator().manual_seed(seed)
    weights = {}
    for name, size in layers.items():
        if name.rsplit(".", 1)[1] in targets:
            key = f"base_model.model.{name}.lora_"
            weights[f"{key}A.weight"] = torch.randn(rank, size.inputs, generator=generator) / 50
            weights[f"{key}B.weight"] = torch.randn(size.outputs, rank, generator=generator) / 50
    folder.mkdir()
    save_file(weights, folder / "adapter_model.safetensors")
    config = {"peft_type": "LORA", "r": rank, "lora_alpha": 2 * rank, "target_modules": list(targets)}
    (folder / "adapter_config.json").write_text(json.dumps(config), encoding="utf-8")


def _measure(engine: Engine, batch: int, repeat: int) -> None:
    whole: dict[int, list[float]] = {hot: [] for hot in HOT}
    steps: dict[int, list[float]] = {hot: [] for hot in HOT}
    for repetition in range(-1, repeat):  # the first one warms up
        for hot in HOT[:: -1 if repetition % 2 else 1]:
            seconds, step = _run(engine, hot, batch, seed=repetition)
            if repetition >= 0:
                whole[hot].append(seconds)
                steps[hot].append(step)
    print("| adapters | decode step, ms | of the speed without | of the speed with 5 (range) |")
    print("|---|---|---|---|")
    for hot in HOT:
        without, five = (
            [theirs / own for own, theirs in zip(whole[hot], whole[other], strict=True)] for other in (0, 5)
        )
        print(
            f"| {hot} | {1e3 * median(steps[hot]):.1f} | {median(without):.3f} "
            f"| {median(five):.3f} ({min(five):.3f}-{max(five):.3f}) |"
        )


def _run(engine: Engine, hot: int, batch: int, seed: int) -> tuple[float, float]:
    """Seconds for ``batch`` prompts of 128 tokens and 64 new ones each, and the median full decode step."""
    generator = random.Random(seed)
    for index in range(batch):
        prompt = tuple(generator.randrange(100, 40_000) for _ in range(128))
        sampling = SamplingParams(temperature=0.0, max_tokens=64, ignore_eos=True)
        adapter = f"adapter-{index % hot}" if hot else None
        engine.add(Request(str(index), prompt, sampling, adapter=adapter))
    steps = []
    begin = time.perf_counter()
    while engine.has_work():
        before = time.perf_counter()
        engine.step()
        if engine.statistics().step_tokens == batch:
            steps.append(time.perf_counter() - before)
    return time.perf_counter() - begin, median(steps)


if __name__ == "__main__":
    main()
