"""Say where the time of a step goes, and what the machine's limits would allow.

    python benchmarks/step.py                  # SmolLM2, bfloat16, batches of 1, 8 and 64
    python benchmarks/step.py --batch 32 --dtype float32

Parts are timed by wrapping their functions; what the wrapping itself costs (well below 0.5 ms a step) is in
the rest.
"""

import argparse
import os
import random
import time
from collections import Counter
from collections.abc import Callable
from typing import Any

from environment import QUIET_LOAD, describe_machine

PROMPT, NEW = 128, 64
Row = tuple[str, float]


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--batch", type=int, nargs="+", default=[1, 8, 64])
    parser.add_argument("--model", default="smollm2-135m-instruct", help="as asynckit names models")
    parser.add_argument("--dtype", default="bfloat16", choices=("bfloat16", "float32"))
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    options = parser.parse_args()
    os.environ.setdefault("OMP_NUM_THREADS", str(options.threads))  # before anything imports torch
    machine = describe_machine(options.threads)
    if machine["load_average_before"] > QUIET_LOAD:
        print(f"warning: the load average is {machine['load_average_before']}; nothing else should run")
    print(f"{machine['cpu']}, {options.threads} threads, {options.dtype}, commit {machine['commit']}")
    flops, bandwidth = _limits(options.dtype)
    print(f"limits: {flops / 1e12:.2f} TFLOP/s in a large product, {bandwidth / 1e9:.0f} GB/s read\n")
    profile = Profile(options)
    for batch in options.batch:
        for kind, steps, rows in profile.run(batch):
            print(f"batch {batch}, {kind}: {sum(ms for _, ms in rows):.1f} ms a step ({steps} steps)")
            for part, ms in rows:
                print(f"  {part:<34} {ms:7.2f}")
            print()


def _limits(dtype: str) -> tuple[float, float]:
    """Operations per second of a large matrix product, and bytes per second of a long read."""
    import torch

    size, count = 2048, 1 << 26
    a, b = (torch.randn(size, size).to(getattr(torch, dtype)) for _ in range(2))
    packed = torch.ops.mkldnn._reorder_linear_weight(b, size)  # noqa: SLF001 - as the engine does
    product = torch.ops.mkldnn._linear_pointwise  # noqa: SLF001
    long = torch.ones(count, dtype=torch.int64)
    return (
        2 * size**3 / _fastest(lambda: product(a, packed, None, "none", [], "")),
        8 * count / _fastest(long.sum),
    )


def _fastest(act: Callable[[], object]) -> float:
    seconds = []
    for _ in range(10):
        begin = time.perf_counter()
        act()
        seconds.append(time.perf_counter() - begin)
    return min(seconds)


class Profile:
    """An engine whose parts are timed."""

    def __init__(self, options: argparse.Namespace) -> None:
        from asynckit.engine import engine as engine_module
        from asynckit.engine.config import EngineConfig
        from asynckit.engine.engine import Engine
        from asynckit.engine.linear import PackedLinear
        from asynckit.engine.model import ModelRunner
        from asynckit.engine.native import Kernels
        from asynckit.models.config import ModelConfig
        from asynckit.models.resolve import resolve_model

        self._spent: Counter[str] = Counter()
        self._time(PackedLinear, "forward", "matrix products")
        self._time(Kernels, "attend", "rotate, store and attend")
        self._time(Kernels, "rms_norm", "norms")
        self._time(Kernels, "silu_mul", "gates")
        self._time(ModelRunner, "forward", "forward")
        self._time(engine_module, "sample", "sampler")
        model = ModelConfig(name=options.model)
        tokens = max(options.batch) * (PROMPT + NEW) + 1024  # small enough to have been written to before
        config = EngineConfig(
            dtype=options.dtype,
            device="cpu",
            threads=options.threads,
            max_running=max(options.batch),
            kv_cache_tokens=tokens,
        )
        self._engine = Engine.load(config, model, resolve_model(model))
        self._vocabulary = self._engine.capacity.vocabulary
        for seed in range(2):
            self._steps(max(options.batch), seed)  # warms up, and writes to the whole cache once

    def run(self, batch: int) -> list[tuple[str, int, list[Row]]]:
        """Milliseconds per step by part, of the steps that prefill and of those that only decode."""
        kinds: dict[str, list[Counter[str]]] = {"prefill": [], "decode": []}
        for tokens, spent in self._steps(batch, batch + 2):
            kinds["prefill" if tokens > batch else "decode"].append(spent)
        return [(kind, len(steps), _rows(steps)) for kind, steps in kinds.items() if steps]

    def _time(self, owner: Any, name: str, part: str) -> None:
        function = getattr(owner, name)

        def timed(*arguments: Any, **named: Any) -> Any:
            begin = time.perf_counter()
            result = function(*arguments, **named)
            self._spent[part] += time.perf_counter() - begin  # type: ignore[assignment]
            return result

        setattr(owner, name, timed)

    def _steps(self, batch: int, seed: int) -> list[tuple[int, Counter[str]]]:
        """Tokens and seconds by part of every step of one batch."""
        from asynckit.engine.config import SamplingParams
        from asynckit.engine.request import Request

        generator = random.Random(seed)
        sampling = SamplingParams(temperature=0.0, max_tokens=NEW, ignore_eos=True)
        for index in range(batch):
            prompt = tuple(generator.randrange(self._vocabulary) for _ in range(PROMPT))
            self._engine.add(Request(f"{seed}/{index}", prompt, sampling))
        steps = []
        while self._engine.has_work():
            self._spent.clear()
            begin = time.perf_counter()
            self._engine.step()
            self._spent["step"] = time.perf_counter() - begin  # type: ignore[assignment]
            steps.append((self._engine.statistics().step_tokens, self._spent.copy()))
        return steps


def _rows(steps: list[Counter[str]]) -> list[Row]:
    mean = {part: 1e3 * sum(step[part] for step in steps) / len(steps) for part in sum(steps, Counter())}
    step, forward, sampler = (mean.pop(part) for part in ("step", "forward", "sampler"))
    rows = sorted(mean.items(), key=lambda row: -row[1])
    return [
        *rows,
        ("rest of the model (Python, sums)", forward - sum(mean.values())),
        ("sampler", sampler),
        ("scheduler, events", step - forward - sampler),
    ]


if __name__ == "__main__":
    main()
