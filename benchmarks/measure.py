"""Timing several sides so that they can be compared: interleaved, warmed up, with medians."""

import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import Any, Protocol

from workloads import Kind, Workload

_SETTLE_SECONDS = 0.3  # threads of the side before spin for a while after their last work


class Side(Protocol):
    """Something that runs workloads."""

    @property
    def name(self) -> str:
        """As it is called in the results."""

    def serves(self, workload: Workload) -> bool:
        """Whether this side can run it."""

    def run(self, workload: Workload) -> float:
        """Seconds from the first request to the last token."""

    def close(self) -> None:
        """Free what it holds."""


Seconds = dict[str, list[float]]


def time_sides(sides: Sequence[Side], kind: Kind, repeat: int, vocabulary: int) -> Seconds:
    """Seconds of each side that can run the workload, one per repetition.

    Sides take turns, in the other order every second time, so that a drift of the machine meets all of them.
    A first round over one batch warms up and is not counted.
    """
    warm_up = kind.draw(-1, vocabulary).head(kind.slots)
    able = [side for side in sides if side.serves(warm_up)]
    for side in able:
        side.run(warm_up)
    seconds: Seconds = {side.name: [] for side in able}
    for repetition in range(repeat):
        workload = kind.draw(repetition, vocabulary)
        for side in able[:: -1 if repetition % 2 else 1]:
            time.sleep(_SETTLE_SECONDS)
            seconds[side.name].append(side.run(workload))
    return seconds


def time_first_tokens(names: Sequence[str], model: Path, dtype: str, threads: int, repeat: int) -> Seconds:
    """Seconds from starting a process to its first token, file caches warmed by a run that is not counted."""
    seconds: Seconds = {name: [] for name in names}
    for repetition in range(repeat + 1):
        for name in names:
            took = _time_process(name, model, dtype, threads)
            if repetition:
                seconds[name].append(took)
    return seconds


def _time_process(name: str, model: Path, dtype: str, threads: int) -> float:
    script = Path(__file__).parent / "first_token.py"
    options = ["--model", str(model), "--dtype", dtype, "--threads", str(threads)]
    begin = time.perf_counter()
    with subprocess.Popen([sys.executable, script, name, *options], stdout=subprocess.PIPE) as process:
        assert process.stdout
        line = process.stdout.readline()
        took = time.perf_counter() - begin
    assert line == b"first token\n", f"{name} ended with exit code {process.returncode}"
    return took


def compare(seconds: Seconds, ours: str, tokens: Sequence[int]) -> list[dict[str, Any]]:
    """How each side compares with ours.

    Args:
        seconds: of each side, one per repetition.
        ours: name of our side.
        tokens: generated in each repetition, the same for all sides.

    Returns:
        For each other side its and our median tokens per second, and the ratio of the speeds within each
        repetition as median, smallest and largest.
    """
    rows = []
    for name, theirs in seconds.items():
        if name == ours:
            continue
        ratios = [peer / own for own, peer in zip(seconds[ours], theirs, strict=True)]
        rows.append(
            {
                "peer": name,
                "ours_tokens_per_second": _speed(tokens, seconds[ours]),
                "peer_tokens_per_second": _speed(tokens, theirs),
                "ratio": median(ratios),
                "ratio_range": [min(ratios), max(ratios)],
            }
        )
    return rows


def _speed(tokens: Sequence[int], seconds: Sequence[float]) -> float:
    return median(count / took for count, took in zip(tokens, seconds, strict=True))
