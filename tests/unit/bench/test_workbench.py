"""One side of a comparison in this process: a GPU in virtual time, and cases that fail."""

from functools import partial

import pytest

from asynckit.bench.cases.case import Case, Prepared
from asynckit.bench.compare import Verdict
from asynckit.bench.config import BenchConfig
from asynckit.bench.pairs import compare_sides
from asynckit.bench.simulated_device import SimulatedGpu
from asynckit.bench.workbench import Workbench
from asynckit.errors import ConfigError, WorkFailed

CONFIG = BenchConfig(cache="hot", warmup_seconds=0.01)


def case(gpu: SimulatedGpu, seconds: float, name: str = "kernel", closed: list[str] | None = None) -> Case:
    def make(_device: str) -> Prepared:
        close = partial((closed if closed is not None else []).append, name)
        return Prepared(partial(gpu.kernel, seconds), close=close)

    return Case(name=name, variant="", group="simulated", make=make)


def bench(gpu: SimulatedGpu, *cases: Case) -> Workbench:
    return Workbench("side", cases, gpu, CONFIG)


@pytest.mark.parametrize(("factor", "verdict"), [(1.0, Verdict.SAME), (1.1, Verdict.SLOWER)])
@pytest.mark.parametrize("clock", ["events", "graph", "host"])
def test_kernels_are_compared_by_every_clock(factor: float, verdict: Verdict, clock: str) -> None:
    """A GPU's events and graphs serve comparisons as they serve measurements; its noise is seen through."""
    gpu = SimulatedGpu(seed=1)
    sides = [
        Workbench(str(seconds), [case(gpu, seconds)], gpu, BenchConfig(cache="hot", clock=clock))
        for seconds in (200e-6, factor * 200e-6)
    ]
    found = compare_sides(sides[0], sides[1], CONFIG)
    assert found.device == "cuda"
    assert found.comparisons[0].verdict is verdict


def test_a_case_is_closed_when_another_is_opened() -> None:
    """Two models never fill the memory together."""
    gpu = SimulatedGpu()
    closed: list[str] = []
    side = bench(gpu, case(gpu, 1e-4, "one", closed), case(gpu, 1e-4, "two", closed))
    side.open("one")
    assert closed == []
    side.open("two")
    assert closed == ["one"]
    side.close()
    assert closed == ["one", "two"]


def test_a_case_that_fails_has_a_reason() -> None:
    """Whatever it raises is told; the side goes on."""
    gpu = SimulatedGpu()

    def lose(_device: str) -> Prepared:
        raise MemoryError("no room")

    side = bench(gpu, Case(name="lost", variant="", group="", make=lose), case(gpu, 1e-4))
    assert side.open("lost").reason.startswith("failed: MemoryError: no room")
    assert not side.open("kernel").reason
    assert side.seconds() > 0


def test_a_case_that_fails_later_is_told() -> None:
    """A round that raises is no time."""
    gpu, left = SimulatedGpu(), [True]

    def work() -> None:
        gpu.kernel(1e-4)
        if not left:
            raise ValueError("worn out")

    side = bench(gpu, Case(name="tired", variant="", group="", make=lambda _: Prepared(work)))
    side.open("tired")
    left.clear()
    with pytest.raises(WorkFailed, match="failed in a later round: ValueError: worn out"):
        side.seconds()


def test_what_needs_more_gpus_is_not_made() -> None:
    """The reason is the one that reports give."""
    side = bench(
        SimulatedGpu(), Case(name="all", variant="", group="", make=pytest.fail, missing="needs weights")
    )
    assert side.open("all").reason == "needs weights"


def test_a_case_that_ends_the_process_is_told() -> None:
    """What a person's function does with sys.exit costs its case, and not the comparison."""
    side = bench(
        SimulatedGpu(), Case(name="quits", variant="", group="", make=lambda _: Prepared(partial(exit, 0)))
    )
    assert side.open("quits").reason.startswith("failed: SystemExit: 0")


def test_settings_that_contradict_each_other_are_refused_at_once() -> None:
    """Not as an error of each case."""
    with pytest.raises(ConfigError, match=r"more than bench\.max_repetitions"):
        Workbench("a", [], SimulatedGpu(), BenchConfig(max_repetitions=10))
