"""Medians of asynckit.bench.measure beside those of torch.utils.benchmark or, on a GPU, triton's do_bench.

    python benchmarks/bench_timing.py                    # CPU: matmul, copy, a Python function
    python benchmarks/bench_timing.py --device cuda      # GPU: bf16 matmuls and copies, and every clock
    python benchmarks/bench_timing.py --rounds 20 --out benchmarks/results

Both sides measure the same function, in turns and in the other order every second round, by the same method:
on the CPU without flushing caches, with as many threads and as many calls per repetition (on a busy machine,
long repetitions are interrupted more often than short ones); on a GPU one call behind a flush, between two
events. Exit status 1 if the median of the ratios is off by more than --tolerance anywhere.
"""

import argparse
import json
import os
import platform
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import torch

from asynckit.bench import measure
from asynckit.bench.config import BenchConfig
from asynckit.bench.devices import Device, choose_device
from asynckit.bench.statistics import Samples, ratio_interval
from asynckit.bench.timing import in_words

Act = Callable[[], object]
_SECONDS = 0.1  # of each side in each round


@dataclass(frozen=True)
class Result:
    """One function. Times are seconds, medians of the rounds; the ratio is ours over theirs."""

    name: str
    ours: float
    theirs: float
    ratio: float
    low: float
    high: float


def main() -> int:
    """Measure, print, and judge."""
    options = _options()
    torch.set_num_threads(options.threads)
    device = choose_device(options.device)
    config = BenchConfig(
        device=options.device,
        cache="hot" if device.kind == "cpu" else "cold",
        relative_error=0.001,  # never reached: both sides take all of their time
        warmup_seconds=0.1,
        max_seconds=_SECONDS,
        max_repetitions=10**6,
    )
    acts = _on_cpu() if device.kind == "cpu" else _on_gpu()
    theirs = _torch_timer if device.kind == "cpu" else _do_bench
    machine = _machine(device)
    print(", ".join(f"{key} {value}" for key, value in machine.items()))
    results = []
    for name, act in acts.items():
        pairs = _pairs(act, device, config, theirs, options.rounds)
        results.append(_result(name, pairs))
        print(_line(results[-1]), flush=True)
    if device.kind == "cuda":
        _print_clocks(acts, device, config)
    if options.out:
        _write(options.out, {"machine": machine, "results": [asdict(each) for each in results]})
    return int(any(abs(each.ratio - 1) > options.tolerance for each in results))


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--rounds", type=int, default=40)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--tolerance", type=float, default=0.05)
    parser.add_argument("--out", type=Path, help="folder for a dated JSON file")
    return parser.parse_args()


def _on_cpu() -> dict[str, Act]:
    left, right = torch.randn(512, 512), torch.randn(512, 512)
    source, target = torch.randn(1 << 22), torch.empty(1 << 22)
    numbers = list(range(1000))
    return {
        "matmul 512x512 float32": lambda: left @ right,
        "copy 16 MiB": lambda: target.copy_(source),
        "Python: sum of 1000 squares": lambda: sum(number * number for number in numbers),
    }


def _on_gpu() -> dict[str, Act]:
    def matmul(size: int) -> Act:
        left, right = (torch.randn(size, size, device="cuda", dtype=torch.bfloat16) for _ in range(2))
        return lambda: left @ right

    def copy(mebibytes: int) -> Act:
        source = torch.zeros(mebibytes << 20, device="cuda", dtype=torch.uint8)
        target = torch.empty_like(source)
        return lambda: target.copy_(source)

    acts = {f"matmul {size}x{size} bfloat16": matmul(size) for size in (256, 2048, 8192)}
    return {**acts, **{f"copy {size} MiB": copy(size) for size in (16, 1024)}}


def _torch_timer(act: Act, calls: int) -> float:
    from torch.utils.benchmark import Timer

    timer = Timer("act()", globals={"act": act}, num_threads=torch.get_num_threads())
    end, seconds = time.monotonic() + _SECONDS, []
    while time.monotonic() < end:
        seconds.append(timer.timeit(calls).median)
    return float(np.median(seconds))


def _do_bench(act: Act, _: int) -> float:
    from triton.testing import do_bench  # type: ignore[import-not-found]  # not with CPU builds of torch

    return float(do_bench(act, rep=int(_SECONDS * 1e3), return_mode="median")) * 1e-3


def _pairs(
    act: Act, device: Device, config: BenchConfig, theirs: Callable[[Act, int], float], rounds: int
) -> Samples:
    """Seconds of our and their side. Shape: (rounds, 2)."""
    calls = measure(act, device=device, config=config).timing.calls

    def ours(act: Act, _: int) -> float:
        return measure(act, device=device, config=config).timing.median

    taken = []
    for number in range(rounds):
        sides = [(0, ours), (1, theirs)][:: -1 if number % 2 else 1]
        seconds = {side: take(act, calls) for side, take in sides}
        taken.append([seconds[0], seconds[1]])
    return np.array(taken)


def _result(name: str, pairs: Samples) -> Result:
    ours, theirs = np.median(pairs, axis=0).tolist()
    ratio = ratio_interval(pairs[:, 1], pairs[:, 0], confidence=0.95, seed=0)
    return Result(name, ours, theirs, ratio.middle, ratio.low, ratio.high)


def _line(result: Result) -> str:
    return (
        f"{result.name:<30} ours {in_words(result.ours):>10}  theirs {in_words(result.theirs):>10}  "
        f"ratio {result.ratio:.3f} [{result.low:.3f}, {result.high:.3f}]"
    )


def _print_clocks(acts: dict[str, Act], device: Device, config: BenchConfig) -> None:
    """What each clock reads, cold and hot."""
    for name, act in acts.items():
        for clock in ("events", "graph", "host", "cupti"):
            for cache in ("cold", "hot"):
                print(measure(act, device=device, config=config, clock=clock, cache=cache, name=name))


def _machine(device: Device) -> dict[str, Any]:
    name = torch.cuda.get_device_name() if device.kind == "cuda" else platform.processor() or "CPU"
    return {
        "date": datetime.now(UTC).isoformat(timespec="minutes"),
        "device": name,
        "torch": torch.__version__,
        "threads": torch.get_num_threads(),
        "load": round(os.getloadavg()[0], 2),
    }


def _write(folder: Path, results: dict[str, Any]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    name = datetime.now(UTC).strftime("%Y-%m-%dT%H%M-bench-timing.json")
    (folder / name).write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    sys.exit(main())
