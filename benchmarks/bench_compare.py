"""How often comparisons are right on this machine: identical sides, and one made 10 % slower.

    python benchmarks/bench_compare.py --runs 100 --out benchmarks/results/DATE-compare.json

Every workload is compared with itself (the verdict ought to be SAME) and with itself made to do a tenth more
work (SLOWER), in one process and with a process for each side, all of it in turns.
"""

import argparse
import json
from collections import Counter, defaultdict
from functools import cache
from pathlib import Path
from typing import Any

import torch
from environment import describe_machine

from asynckit.bench.against import compare_configurations, compare_functions
from asynckit.bench.comparisons import Comparison
from asynckit.bench.config import BenchConfig
from asynckit.bench.side_messages import Job

ROUGHLY = 10  # parts of the work, of which the slow-down is one more
WORKLOADS = ("loop", "matmul", "copy")


def loop() -> int:
    """Python alone."""
    return _loop(ROUGHLY)


def loop_slower() -> int:
    """The same with a tenth more work; likewise below."""
    return _loop(ROUGHLY + 1)


def _loop(parts: int) -> int:
    total = 0
    for number in range(1000 * parts):
        total += number * number
    return total


def matmul() -> None:
    """Arithmetic in a cache."""
    _matmul(ROUGHLY)


def matmul_slower() -> None:
    """See above."""
    _matmul(ROUGHLY + 1)


def _matmul(parts: int) -> None:
    left, right = _matrix(192), _matrix(192)
    for _ in range(parts):
        torch.mm(left, right)


def copy() -> None:
    """Memory."""
    _copy(ROUGHLY)


def copy_slower() -> None:
    """See above."""
    _copy(ROUGHLY + 1)


def _copy(parts: int) -> None:
    source, target = _matrix(512), _target(512)
    for _ in range(parts):
        target.copy_(source)


@cache
def _matrix(size: int) -> torch.Tensor:
    return torch.randn(size, size, generator=torch.Generator().manual_seed(0))


@cache
def _target(size: int) -> torch.Tensor:
    return torch.empty(size, size)


def compare(before: str, after: str, processes: bool, config: BenchConfig) -> Comparison:
    """One comparison of two functions of this file."""
    one, other = f"bench_compare:{before}", f"bench_compare:{after}"
    if not processes:
        return compare_functions(one, (other,), config).comparisons[0]
    first, second = (Job(name=name, patterns=(name,), bench=config) for name in (one, other))
    return compare_configurations(first, second).comparisons[0]


def run(runs: int, config: BenchConfig) -> dict[str, list[Comparison]]:
    """All comparisons, by what was compared and how; taking turns, so that all meet the same machine."""
    found = defaultdict(list)
    for number in range(runs):
        for workload in WORKLOADS:
            for processes in (False, True):
                for after in (workload, f"{workload}_slower"):
                    what = f"{workload}, {after}, {'two processes' if processes else 'one process'}"
                    found[what].append(compare(workload, after, processes, config))
                    told = found[what][-1]
                    print(
                        f"{number + 1}/{runs} {what}: {told.verdict} {told.ratio}, {told.rounds} rounds",
                        flush=True,
                    )
    return found


def summarize(found: dict[str, list[Comparison]]) -> list[dict[str, Any]]:
    """For each: verdicts by how often they came, regressions, rounds, and the ratios."""
    return [
        {
            "what": what,
            "verdicts": dict(Counter(str(each.verdict) for each in comparisons)),
            "regressions": sum(each.regression for each in comparisons),
            "rounds": sum(each.rounds for each in comparisons) / len(comparisons),
            "ratios": sorted(round(each.ratio, 4) for each in comparisons if each.ratio),
            "reasons": sorted({each.reason for each in comparisons if each.reason}),
        }
        for what, comparisons in found.items()
    ]


def main() -> None:
    """Compare and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--runs", type=int, default=100)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    config = BenchConfig(device="cpu", cache="hot", warmup_seconds=0.3)
    machine = describe_machine(arguments.threads)
    rows = summarize(run(arguments.runs, config))
    for row in rows:
        print(f"{row['what']}: {row['verdicts']}, {row['rounds']:.0f} rounds")
    if arguments.out:
        arguments.out.write_text(json.dumps({"machine": machine, "rows": rows}, indent=2) + "\n")


if __name__ == "__main__":
    main()
