"""``measure``: how long a function takes, and how sure that is.

A measurement goes through five stages. The function is called once, which compiles and allocates. It is
checked: what it returns, on which streams it works (:mod:`asynckit.bench.checks`). The number of calls per
repetition is chosen so that the clock can tell. Repetitions are thrown away until they are stable. Then they
count, until the interval of the median is as narrow as was asked for, or the time or the repetitions are
spent. However narrow the interval, each of the last two goes on for a while: noise comes in stretches, within
which times are alike.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np

from asynckit.bench import checks
from asynckit.bench.clocks import (
    CuptiWatch,
    Eager,
    EventWatch,
    HostWatch,
    Replayed,
    Running,
    Watch,
    Work,
    as_gpu,
)
from asynckit.bench.config import BenchConfig
from asynckit.bench.devices import Device, choose_device
from asynckit.bench.results import Timing
from asynckit.bench.statistics import (
    WINDOW,
    Interval,
    Samples,
    drift,
    is_stable,
    median_interval,
    outlier_share,
    repetitions_needed,
)
from asynckit.bounds import violations
from asynckit.errors import ConfigError, UsageError

MOST_SAMPLES = 2000  # that a Timing keeps
_RESOLUTIONS = 1000  # of the clock, that a repetition should last
_SHORTEST = 100e-6  # seconds of a repetition, whatever the clock: beside it, what calling costs is small
_FEWEST = 3  # repetitions, however slow
_LONGEST = 0.05  # seconds of the host for a repetition, after which it gets no more calls
_A_WHILE = 0.1  # seconds; noise comes in stretches of milliseconds
_MOST = 1e6  # as a share, of what is no number where the median is 0: JSON has no infinity
_GROWTH = 1.25  # of the count between two looks at the interval: each look is a chance to stop on luck


@dataclass(frozen=True)
class Measurement:
    """How long a function takes, and what speaks against believing it.

    Attributes:
        name: of the function.
        device: ``cuda`` or ``cpu``.
        timing: seconds of one call.
        doubts: what the checks found, in words; empty where nothing.
        peak_memory_bytes: of the device during one call; None where unknown.
    """

    name: str
    device: str
    timing: Timing
    doubts: tuple[str, ...] = ()
    peak_memory_bytes: int | None = None

    @property
    def trusted(self) -> bool:
        """Whether the checks found nothing."""
        return not self.doubts

    def __str__(self) -> str:
        timing = self.timing
        text = (
            f"{self.name}: {in_words(timing.median)} ± {timing.relative_error:.1%} "
            f"({timing.repetitions} x {timing.calls} calls, {self.device}, {timing.clock}, {timing.cache})"
        )
        return "\n  doubtful: ".join((text, *self.doubts))


def measure(
    function: Callable[..., Any],
    *,
    setup: Callable[[], Any] | None = None,
    device: str | Device | None = None,
    clock: str | None = None,
    cache: str | None = None,
    config: BenchConfig | None = None,
    check: Callable[..., bool] | None = None,
    name: str = "",
) -> Measurement:
    """Time a function.

    Args:
        function: what is timed; called with what ``setup`` returns, else without arguments.
        setup: returns fresh inputs of one call, a tuple of them or the only one. Its time doesn't count.
            Where it is given, outputs are checked to change with the inputs.
        device: ``auto``, ``cuda``, ``cpu`` or a device; else ``config.device``.
        clock: ``auto``, ``events``, ``graph``, ``host`` or ``cupti``; else ``config.clock``.
        cache: ``cold`` flushes the caches before each repetition, which is then a single call; ``hot``
            doesn't. Else ``config.cache``.
        config: how long and how exactly to measure.
        check: called as ``check(output, *inputs)`` before and after timing, with the inputs as the function
            left them; says whether the output is right.
        name: for messages; else that of the function.

    Raises:
        ConfigError: a setting is outside its bounds.
        UsageError: the device has no such clock.
        DependencyError: there is no such device.
        Exception: whatever the function, ``setup`` or ``check`` raise.
    """
    config = _settled(config or BenchConfig(), device, clock, cache)
    on = choose_device(config.device) if device is None or isinstance(device, str) else device
    config = replace(config, clock=_clock(config.clock, on))
    work = Work(function, setup)
    running, new_watch = parts(on, work, config.clock)
    _start(on, work)
    memory = on.peak_memory(Eager(work).ready(1))
    doubts = [*checks.before(on, work, config.clock), *checks.wrong(work, check)]
    timing, found = _time(on, running, new_watch, config)
    doubts += [*found, *checks.wrong(work, check, after=True)]
    shown = name or getattr(function, "__qualname__", type(function).__name__)
    return Measurement(shown, on.kind, timing, tuple(dict.fromkeys(doubts)), memory)


def run_once(
    function: Callable[..., Any],
    *,
    setup: Callable[[], Any] | None = None,
    device: str | Device = "auto",
    name: str = "",
) -> None:
    """Run a function once inside an NVTX range of its name, for nsys and ncu; once before, to warm up.

    Args:
        function: what is profiled.
        setup: as in :func:`measure`.
        device: ``auto``, ``cuda``, ``cpu`` or a device.
        name: of the range; else that of the function.

    Raises:
        DependencyError: there is no such device.
        Exception: whatever the function or ``setup`` raise.
    """
    on = choose_device(device) if isinstance(device, str) else device
    work = Work(function, setup)
    _start(on, work)
    act = Eager(work).ready(1)
    on.synchronize()
    with on.range(name or getattr(function, "__qualname__", type(function).__name__)):
        act()
        on.synchronize()


def _settled(config: BenchConfig, device: object, clock: str | None, cache: str | None) -> BenchConfig:
    """The settings with what the arguments say, within their bounds."""
    config = replace(
        config,
        device=device if isinstance(device, str) else config.device,
        clock=clock or config.clock,
        cache=cache or config.cache,
    )
    check_settings(config)
    return config


def check_settings(config: BenchConfig) -> None:
    """Refuse settings that nothing can be measured with.

    Raises:
        ConfigError: one is outside its bounds, or two contradict each other.
    """
    for setting, problem in violations(config):
        raise ConfigError(f"bench.{setting} {problem}", where=f"bench.{setting}")
    if config.min_repetitions > config.max_repetitions:
        raise ConfigError(
            f"bench.min_repetitions is {config.min_repetitions}, more than bench.max_repetitions "
            f"({config.max_repetitions})",
            where="bench.min_repetitions",
            mend="lower it, or raise the other",
        )


def _clock(clock: str, device: Device) -> str:
    if clock == "auto":
        return "events" if device.kind == "cuda" else "host"
    return clock


def _start(device: Device, work: Work) -> None:
    """Call it for the first time, which may compile, load and allocate."""
    if not callable(work.function):
        raise UsageError(f"{work.function!r} cannot be called", where="function")
    Eager(work).ready(1)()
    device.synchronize()


def _time(
    device: Device, running: Running, new_watch: Callable[[], Watch], config: BenchConfig
) -> tuple[Timing, list[str]]:
    """The timing, and what it shows against itself."""
    cold = config.cache == "cold"
    calls = 1 if cold else _calls(device, running, new_watch)
    watch = new_watch()

    def take() -> float:
        return watch.seconds(running.ready(calls), cold=cold) / calls

    warmup = _warm_up(take, device, config)
    samples, interval = _sample(take, device, config)
    timing = _timing(samples, interval, config, calls, warmup)
    return timing, checks.after(watch, timing, config.relative_error)


def parts(device: Device, work: Work, clock: str) -> tuple[Running, Callable[[], Watch]]:
    """How the function is run, and what makes a watch: a new one for each number of calls."""
    if clock == "host":
        return Eager(work), partial(HostWatch, device)
    gpu = as_gpu(device, clock)
    if clock == "cupti":
        return Eager(work), partial(CuptiWatch, gpu)
    return (Replayed(work, gpu) if clock == "graph" else Eager(work)), partial(EventWatch, gpu)


def _calls(device: Device, running: Running, new_watch: Callable[[], Watch]) -> int:
    """How many calls a repetition needs so that the clock can tell how long it took.

    Not as many as would keep the host busy for long, in ``setup`` or launching: the clock sees none of it.
    """
    calls, most = 1, running.most_calls
    while True:
        watch = new_watch()
        target = max(_RESOLUTIONS * watch.resolution, _SHORTEST)
        watch.seconds(running.ready(calls), cold=False)  # captures graphs, and teaches an EventWatch
        begin = device.now()
        took = min(watch.seconds(running.ready(calls), cold=False) for _ in range(2))
        if took >= target or calls == most or device.now() - begin > 2e9 * _LONGEST:
            return calls
        # At most tenfold: a short repetition says little about a long one.
        wanted = calls * min(10.0, 1.1 * target / took) if took > 0 else calls * 10.0
        calls = min(most, max(calls + 1, math.ceil(wanted)))


def _warm_up(take: Callable[[], float], device: Device, config: BenchConfig) -> int:
    """Repeat until times are stable, or the time for it is over; how many repetitions that took.

    One at least: the first teaches an EventWatch.
    """
    begin = device.now()
    end = begin + config.warmup_seconds * 1e9
    times = [take()]
    while device.now() < end and len(times) < config.max_repetitions:
        times.append(take())
        settled = is_stable(np.array(times[-2 * WINDOW :]), config.relative_error)
        if settled and device.now() >= begin + _A_WHILE * 1e9:
            break
    return len(times)


def _sample(take: Callable[[], float], device: Device, config: BenchConfig) -> tuple[Samples, Interval]:
    """Repeat until the median is known well enough, or until time or repetitions are spent."""
    times: list[float] = []
    look = config.min_repetitions
    begin = device.now()
    while True:
        times.append(take())
        passed = (device.now() - begin) * 1e-9
        spent = len(times) >= config.max_repetitions or (
            passed >= config.max_seconds and len(times) >= _FEWEST
        )
        if not spent and (len(times) < look or passed < _A_WHILE):
            continue
        samples = np.array(times)
        interval = median_interval(samples, config.confidence, config.seed)
        if spent or interval.relative_error <= config.relative_error:
            return samples, interval
        needed = repetitions_needed(interval, len(times), config.relative_error)
        look = min(config.max_repetitions, max(needed, math.ceil(len(times) * _GROWTH)))


def _timing(samples: Samples, interval: Interval, config: BenchConfig, calls: int, warmup: int) -> Timing:
    exact = interval.relative_error <= config.relative_error
    p5, p95 = np.quantile(samples, [0.05, 0.95])
    kept = np.linspace(0, samples.size - 1, min(samples.size, MOST_SAMPLES)).astype(int)
    return Timing(
        median=interval.middle,
        low=interval.low,
        high=interval.high,
        p5=float(p5),
        p95=float(p95),
        minimum=float(samples.min()),
        relative_error=min(interval.relative_error, _MOST),
        repetitions=samples.size,
        calls=calls,
        warmup=warmup,
        outliers=outlier_share(samples),
        drift=min(drift(samples), _MOST),
        converged=exact and samples.size >= config.min_repetitions,
        clock=config.clock,
        cache=config.cache,
        samples=tuple(samples[kept].tolist()),
    )


def in_words(seconds: float) -> str:
    """Seconds in the unit in which they are read best."""
    for unit, size in (("s", 1.0), ("ms", 1e-3), ("µs", 1e-6)):
        if seconds >= size:
            return f"{seconds / size:.4g} {unit}"
    return f"{seconds * 1e9:.4g} ns"
