"""What reading adapters ahead gains where every request needs another adapter, and its files are not cached.

Run ``python benchmarks/lora_prefetch.py``. Requests wait outside of the engine, as they do in the server; the
adapters of the next ones are prefetched on one side and not on the other. Sides take turns, each after
dropping the files from the page cache (``--warm`` leaves them there); ratios are taken within a repetition.
"""

import argparse
import json
import os
import random
import tempfile
import time
from collections import deque
from pathlib import Path
from statistics import median

import torch
from environment import QUIET_LOAD, describe_machine
from lora import write_adapter

from asynckit.engine.config import EngineConfig, SamplingParams
from asynckit.engine.engine import Engine
from asynckit.engine.request import Request
from asynckit.models.config import ModelConfig
from asynckit.models.resolve import resolve_model

NEW_TOKENS = 32
AHEAD = 4  # adapters that are named before each step
ROOM = 24  # adapters that fit into memory
ALL = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]


def main() -> None:
    """Measure and print."""
    options = _options()
    config = EngineConfig(device="cpu", max_running=options.batch, kv_cache_tokens=options.batch * 512)
    model_config = ModelConfig(name=options.model)
    machine = describe_machine(torch.get_num_threads())
    print(json.dumps(machine))
    if machine["load_average_before"] > QUIET_LOAD:
        print("Something else is running: don't trust these numbers.")
    with tempfile.TemporaryDirectory(dir=options.folder) as root:
        local = resolve_model(model_config)
        files = _write(Engine.load(config, model_config, local), Path(root), options)
        room = ROOM * max(file.stat().st_size for file in files)
        config = EngineConfig(
            device="cpu",
            max_running=options.batch,
            kv_cache_tokens=options.batch * 512,
            max_loras=options.batch,
            lora_bytes=room,
        )
        engine = Engine.load(config, model_config, local)
        _measure(engine, files, options)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default=ModelConfig().name)
    parser.add_argument("--rank", type=int, default=16)
    parser.add_argument("--targets", nargs="+", default=ALL)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--requests", type=int, default=64)
    parser.add_argument("--repeat", type=int, default=5)
    parser.add_argument("--warm", action="store_true", help="leave the files in the page cache")
    parser.add_argument("--folder", help="where to write the adapters: on the disk that is to be measured")
    return parser.parse_args()


def _write(engine: Engine, root: Path, options: argparse.Namespace) -> list[Path]:
    for index in range(options.requests):
        folder = root / f"adapter-{index}"
        write_adapter(engine.adapters.layers, folder, options.rank, options.targets, seed=index)
    return [root / f"adapter-{index}" / "adapter_model.safetensors" for index in range(options.requests)]


def _measure(engine: Engine, files: list[Path], options: argparse.Namespace) -> None:
    results: dict[bool, list[tuple[float, float, float]]] = {True: [], False: []}
    for repetition in range(-1, options.repeat):  # the first one warms up
        for prefetch in (True, False)[:: -1 if repetition % 2 else 1]:
            for file in files:
                if not options.warm:
                    _drop(file)
                engine.adapters.register(file.parent.name, file.parent)
            result = _run(engine, prefetch, options.batch, options.requests, repetition)
            for file in files:
                engine.adapters.unregister(file.parent.name)
            if repetition >= 0:
                results[prefetch].append(result)
    print("| prefetch | tokens per second | median of steps that load, ms | median of other steps, ms |")
    print("|---|---|---|---|")
    for prefetch, rows in results.items():
        speed, loading, other = (median(column) for column in zip(*rows, strict=True))
        print(f"| {'on' if prefetch else 'off'} | {speed:.0f} | {1e3 * loading:.1f} | {1e3 * other:.1f} |")
    ratios = [on[0] / off[0] for on, off in zip(results[True], results[False], strict=True)]
    print(f"speed with against without: {median(ratios):.3f} ({min(ratios):.3f}-{max(ratios):.3f})")


def _drop(file: Path) -> None:
    """Take a file out of the page cache."""
    descriptor = os.open(file, os.O_RDONLY)
    os.fsync(descriptor)
    os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
    os.close(descriptor)


def _run(engine: Engine, prefetch: bool, batch: int, requests: int, seed: int) -> tuple[float, float, float]:
    """Tokens per second, and median seconds of the steps that load an adapter and of those that don't."""
    waiting = deque(_requests(requests, seed))
    loading: list[float] = []
    other: list[float] = []
    running = tokens = 0
    begin = time.perf_counter()
    while waiting or running:
        while waiting and running < batch:
            engine.add(waiting.popleft())
            running += 1
        before, loads = time.perf_counter(), engine.adapters.statistics().loads
        if prefetch:
            for request in list(waiting)[:AHEAD]:
                engine.adapters.prefetch(request.adapter or "")
        events = engine.step()
        took = time.perf_counter() - before
        (loading if engine.adapters.statistics().loads > loads else other).append(took)
        tokens += len(events)
        running -= sum(event.finish is not None for event in events)
    return tokens / (time.perf_counter() - begin), median(loading), median(other)


def _requests(count: int, seed: int) -> list[Request]:
    generator = random.Random(seed)
    requests = []
    for index in range(count):
        prompt = tuple(generator.randrange(100, 40_000) for _ in range(32))
        # Lengths differ, so that places don't free up all at once.
        length = generator.randint(NEW_TOKENS // 2, NEW_TOKENS * 3 // 2)
        sampling = SamplingParams(temperature=0.0, max_tokens=length, ignore_eos=True)
        requests.append(Request(str(index), prompt, sampling, adapter=f"adapter-{index}"))
    return requests


if __name__ == "__main__":
    main()
