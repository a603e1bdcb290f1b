"""``measure``: when it stops, what it refuses, and that its intervals hold."""

import gc
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np
import pytest

from asynckit.bench import measure
from asynckit.bench.config import BenchConfig
from asynckit.bench.devices import CpuDevice
from asynckit.bench.results import Timing
from asynckit.bench.simulated_device import SimulatedGpu
from asynckit.bench.timing import Measurement, in_words, run_once
from asynckit.errors import AsynckitError, ConfigError, UsageError

if TYPE_CHECKING:
    from collections.abc import Callable

BRIEF = BenchConfig(device="cpu", max_repetitions=12, min_repetitions=5, warmup_seconds=0.0, cache="hot")


def test_a_function_is_timed_on_the_cpu() -> None:
    """Real time goes in, and what comes out belongs together."""
    found = measure(lambda: sum(range(100)), config=BRIEF, name="sum")
    timing = found.timing
    assert (found.device, timing.clock, timing.cache, found.doubts) == ("cpu", "host", "hot", ())
    assert 0 < timing.minimum <= timing.p5 <= timing.median <= timing.p95
    assert timing.low <= timing.median <= timing.high
    assert 5 <= timing.repetitions == len(timing.samples) <= 12
    assert timing.calls > 1
    assert str(found).startswith("sum: ")


def test_a_cold_call_is_flushed_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """On the CPU, too, each repetition is one call behind a flush; a hot one is behind none."""
    flushes: list[int] = []
    monkeypatch.setattr(CpuDevice, "flush", lambda _: flushes.append(1))
    found = measure(lambda: sum(range(100)), config=replace(BRIEF, cache="cold"))
    assert found.timing.calls == 1
    assert len(flushes) == found.timing.repetitions + found.timing.warmup
    flushes.clear()
    measure(lambda: None, config=BRIEF)
    assert not flushes


@pytest.mark.parametrize("single", [True, False])
def test_each_call_has_inputs_of_its_own(single: bool) -> None:
    """What a call did to its inputs, no other call sees; one input needs no tuple."""

    def made() -> list[int]:
        return [3, 1, 2]

    def sort(given: list[int], *rest: int) -> list[int]:
        assert given == [3, 1, 2]
        assert rest == (() if single else (7,))
        given.sort()
        return given

    setup: Callable[[], Any] = made if single else (lambda: (made(), 7))
    found = measure(sort, setup=setup, config=BRIEF)
    assert not any("cached" in doubt for doubt in found.doubts)


def test_the_check_sees_fresh_inputs_before_and_after() -> None:
    """An output that is right at first and wrong later is found, and the other way round."""
    calls: list[float] = []

    def verdicts(*answers: bool) -> tuple[str, ...]:
        left = iter(answers)
        generator = np.random.default_rng(0)

        def check(output: float, given: float) -> bool:
            calls.append(given)
            assert output == -given
            return next(left)

        return measure(
            lambda given: -given, setup=lambda: float(generator.random()), config=BRIEF, check=check
        ).doubts

    assert verdicts(True, True) == ()
    assert calls[0] != calls[1]
    assert verdicts(False, True) == ("the check says that the output is wrong",)
    assert verdicts(True, False) == ("the check says that the output is wrong after timing",)


def noisy(seed: int, **options: Any) -> Measurement:
    gpu = SimulatedGpu(noise=0.2, seed=seed)
    config = replace(BenchConfig(seed=seed, cache="hot", warmup_seconds=0.0), **options)
    return measure(lambda: gpu.kernel(2e-3), device=gpu, config=config)


def test_it_stops_when_the_median_is_known_well_enough() -> None:
    """A wider error is reached with fewer repetitions; one that can't be reached is admitted."""
    coarse, fine = noisy(0, relative_error=0.05), noisy(0, relative_error=0.01)
    assert coarse.timing.converged
    assert fine.timing.converged
    assert coarse.timing.repetitions < fine.timing.repetitions
    assert fine.timing.relative_error <= 0.01
    never = noisy(0, relative_error=1e-5, max_repetitions=70).timing
    assert (never.repetitions, never.converged) == (70, False)


def test_the_intervals_of_measurements_hold_the_median() -> None:
    """Looking again and again until the interval is narrow leaves it right in at least 90 of 100 runs."""
    truth = 2e-3 * (1 + 0.2 * np.log(2))
    timings = [noisy(seed, relative_error=0.02).timing for seed in range(200)]
    assert all(timing.converged for timing in timings)
    assert np.mean([timing.low <= truth <= timing.high for timing in timings]) >= 0.9


def test_a_slow_function_ends_when_its_time_is_over() -> None:
    """Three repetitions are all that a function of ten seconds gets, and that is said."""
    gpu = SimulatedGpu()
    found = measure(lambda: gpu.kernel(10.0), device=gpu, config=BenchConfig())
    assert (found.timing.repetitions, found.timing.converged) == (3, False)


def test_a_slow_setup_does_not_run_for_hours() -> None:
    """A short function whose inputs take long gets few calls per repetition, and is told to be too short."""
    gpu = SimulatedGpu()

    def setup() -> float:
        gpu.compute(0.06)
        return 1e-9

    found = measure(gpu.kernel, setup=setup, device=gpu, config=BenchConfig(cache="hot"))
    assert found.timing.calls == 1
    assert any("too short" in doubt for doubt in found.doubts)
    assert gpu.seconds() < 20


def test_only_so_many_samples_are_kept() -> None:
    """However many repetitions there are, a timing keeps 2,000, from the first to the last."""
    timing = noisy(0, relative_error=1e-6, max_repetitions=2500, max_seconds=60.0).timing
    assert (timing.repetitions, len(timing.samples)) == (2500, 2000)
    assert timing.samples == tuple(timing.samples)


def test_an_empty_function_has_an_end() -> None:
    """Nothing takes no time at all, and even that is measured."""
    gpu = SimulatedGpu()
    for clock in ("events", "host", "graph"):
        found = measure(lambda: None, device=gpu, clock=clock, config=replace(BRIEF, device="auto"))
        assert found.timing.median < 1e-6
        assert msgspec.json.decode(msgspec.json.encode(found.timing), type=Timing) == found.timing


@pytest.mark.parametrize(
    ("options", "kind", "words"),
    [
        ({"clock": "sundial"}, ConfigError, "must be one of"),
        ({"cache": "lukewarm"}, ConfigError, "must be one of"),
        ({"device": "abacus"}, ConfigError, "must be one of"),
        ({"config": BenchConfig(seed=-1)}, ConfigError, "at least 0"),
        ({"config": BenchConfig(relative_error=0.0)}, ConfigError, "greater than 0"),
        ({"config": BenchConfig(min_repetitions=50, max_repetitions=10)}, ConfigError, "more than"),
        ({"clock": "events", "device": "cpu"}, UsageError, "no clock 'events'"),
        ({"clock": "graph", "device": "cpu"}, UsageError, "no clock 'graph'"),
        ({"clock": "cupti", "device": "cpu"}, UsageError, "no clock 'cupti'"),
    ],
)
def test_what_cannot_be_done_is_refused(
    options: dict[str, Any], kind: type[AsynckitError], words: str
) -> None:
    """Settings outside their bounds and clocks that a CPU lacks, before anything is run."""
    with pytest.raises(kind, match=words):
        measure(pytest.fail, **options)


def test_only_functions_are_timed() -> None:
    """What can't be called is a mistake of the caller's."""
    with pytest.raises(UsageError, match="cannot be called"):
        measure(3, config=BRIEF)  # type: ignore[arg-type]


def test_errors_of_the_function_come_through() -> None:
    """They are the caller's, and the garbage collector runs again after them."""
    calls = iter(range(5))

    def fails() -> None:
        if next(calls) == 4:
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        measure(fails, config=BRIEF)
    assert gc.isenabled()


def test_profilers_see_a_warm_call_in_a_range() -> None:
    """One call warms up, one is inside the range; where there is no profiler, that is all."""
    calls: list[str] = []
    run_once(calls.append, setup=lambda: "called", device="cpu", name="case")
    assert calls == ["called", "called"]


def test_a_measurement_reads_well() -> None:
    """Units are those in which a number is read best, and doubts are below."""
    assert [in_words(seconds) for seconds in (2.5, 1.5e-3, 3.21e-6, 5e-10, 0.0)] == [
        "2.5 s",
        "1.5 ms",
        "3.21 µs",
        "0.5 ns",
        "0 ns",
    ]
    found = measure(lambda given: given > -1, setup=iter(range(99999)).__next__, config=BRIEF, name="one")
    assert not found.trusted
    assert str(found).splitlines()[1].startswith("  doubtful: the output is the same")
