"""What ``engine.prefill_chunk`` costs in throughput, and how long it lets those wait who generate.

64 prompts of 128 tokens arrive at once and get 64 tokens each. Throughput is counted in tokens per second of
CPU time too, which others on the machine disturb less.
"""

import argparse
import random
import time
from dataclasses import dataclass
from statistics import median

from environment import describe_machine

from asynckit.engine.config import EngineConfig, SamplingParams
from asynckit.engine.engine import Engine
from asynckit.engine.request import Request
from asynckit.models.config import ModelConfig
from asynckit.models.resolve import resolve_model

_REQUESTS, _PROMPT, _RESPONSE = 64, 128, 64


@dataclass(frozen=True)
class Run:
    """Tokens per second and per CPU second, and the seconds between two tokens of one request."""

    rate: float
    cpu_rate: float
    p99_gap: float
    longest_gap: float


def main() -> None:
    """Take turns between the chunk sizes, print medians and their ratio to the first one's."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--chunks", default="2048,128,256,512")
    parser.add_argument("--repeat", type=int, default=3)
    options = parser.parse_args()
    engines = {chunk: load(chunk) for chunk in map(int, options.chunks.split(","))}
    runs: dict[int, list[Run]] = {chunk: [] for chunk in engines}
    for repetition in range(options.repeat + 1):
        for chunk, engine in engines.items():
            found = run(engine, seed=repetition)
            if repetition:  # the first one warms up
                runs[chunk].append(found)
    print(describe_machine(0))
    print(
        "| prefill_chunk | tokens/s | tokens/CPU s | ratio of these | p99 gap (s) | longest gap (s) |\n"
        + "|---" * 6
        + "|"
    )
    base = 0.0
    for chunk, found_runs in runs.items():
        columns = zip(*[(r.rate, r.cpu_rate, r.p99_gap, r.longest_gap) for r in found_runs], strict=True)
        rate, cpu_rate, p99_gap, longest_gap = map(median, columns)
        base = base or cpu_rate
        ratio = cpu_rate / base
        print(f"| {chunk} | {rate:.0f} | {cpu_rate:.0f} | {ratio:.2f} | {p99_gap:.2f} | {longest_gap:.2f} |")


def load(chunk: int) -> Engine:
    """The default model with a small cache."""
    model = ModelConfig()
    config = EngineConfig(max_model_len=512, kv_cache_tokens=2**14, prefill_chunk=chunk)
    return Engine.load(config, model, resolve_model(model))


def run(engine: Engine, seed: int) -> Run:
    """One burst of requests."""
    draw = random.Random(seed)
    sampling = SamplingParams(temperature=0.0, max_tokens=_RESPONSE, ignore_eos=True)
    for index in range(_REQUESTS):
        prompt = tuple(draw.randrange(1000, 40000) for _ in range(_PROMPT))
        engine.add(Request(f"{seed}/{index}", prompt, sampling))
    last: dict[str, float] = {}
    gaps: list[float] = []
    begin, cpu_begin = time.perf_counter(), time.process_time()
    while engine.has_work():
        events = engine.step()
        now = time.perf_counter()
        gaps += [now - last[event.request_id] for event in events if event.request_id in last]
        last.update((event.request_id, now) for event in events)
    seconds, cpu_seconds = time.perf_counter() - begin, time.process_time() - cpu_begin
    tokens, gaps = _REQUESTS * _RESPONSE, sorted(gaps)
    return Run(tokens / seconds, tokens / cpu_seconds, gaps[len(gaps) * 99 // 100], gaps[-1])


if __name__ == "__main__":
    main()
