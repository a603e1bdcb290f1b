"""From a case to its row, whatever the case does."""

from dataclasses import replace

import pytest
import torch

from asynckit.bench.cases.case import Case, Prepared
from asynckit.bench.config import BenchConfig
from asynckit.bench.counting import Counts
from asynckit.bench.running import failed, profile_case, run_case
from asynckit.bench.subject import Subject
from asynckit.bench.suite import FAMILIES, Family, Suite
from asynckit.errors import InputError, UsageError, WorkFailed


class Recorded:
    """A case's function that counts, and knows whether it was closed."""

    def __init__(self) -> None:
        self.made_for = ""
        self.calls = 0
        self.closed = False
        self.error: BaseException | None = None

    def make(self, device: str) -> Prepared:
        """Prepare it."""
        self.made_for = device
        return Prepared(self.call, close=self.close)

    def call(self) -> None:
        """Count, or fail."""
        self.calls += 1
        if self.error:
            raise self.error

    def close(self) -> None:
        """Give nothing back."""
        self.closed = True

    def case(self) -> Case:
        """The case of it."""
        return Case("made", "up", "group", self.make, Counts(flops=2.0, tokens=3.0), {"size": 1})


def test_row_of_a_case(quick: BenchConfig) -> None:
    """The row says what the case says, and how long it took."""
    recorded = Recorded()
    row = run_case(recorded.case(), "cpu", quick)
    assert (row.key, row.group, row.device, row.parameters) == ("made up", "group", "cpu", {"size": 1})
    assert (row.flops, row.bytes, row.tokens, row.reason) == (2.0, None, 3.0, "")
    assert row.timing
    assert row.timing.median > 0
    assert recorded.made_for == "cpu"
    assert recorded.calls >= 3
    assert recorded.closed
    assert not failed(row)


def test_what_the_machine_lacks_is_no_failure(quick: BenchConfig) -> None:
    """A GPU's case on a CPU is a row without a timing, and nothing is prepared for it."""
    recorded = Recorded()
    case = Case("made", "", "group", recorded.make, needs_gpus=1)
    row = run_case(case, "cpu", quick)
    assert (row.timing, row.reason, row.trusted) == (None, "needs a GPU", True)
    assert not recorded.made_for
    assert not failed(row)
    assert profile_case(case, "cpu") == "needs a GPU"


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (RuntimeError("no memory"), "RuntimeError: no memory ("),
        (InputError("odd", mend="mend it"), "odd (mend it)"),
    ],
)
def test_a_failing_case_costs_its_row(quick: BenchConfig, error: BaseException, told: str) -> None:
    """The row says what happened and where, and what was prepared is given back."""
    recorded = Recorded()
    recorded.error = error
    row = run_case(recorded.case(), "cpu", quick)
    assert failed(row)
    assert row.timing is None
    assert told in row.reason
    assert not row.trusted
    assert recorded.closed


def test_an_interrupt_stops_everything(quick: BenchConfig) -> None:
    """Ctrl-C is no failure of a case."""
    recorded = Recorded()
    recorded.error = KeyboardInterrupt()
    with pytest.raises(KeyboardInterrupt):
        run_case(recorded.case(), "cpu", quick)
    assert recorded.closed


def test_a_clock_that_the_device_lacks_is_no_failure_of_a_case(quick: BenchConfig) -> None:
    """It is the same for every case, so the first one ends the command."""
    with pytest.raises(UsageError, match="clock"):
        run_case(Recorded().case(), "cpu", replace(quick, clock="events"))


def test_what_a_case_prints_is_kept_off_stdout(quick: BenchConfig, capfd: pytest.CaptureFixture[str]) -> None:
    """There may be one JSON document on stdout and nothing else."""
    case = Case("made", "", "group", lambda _: Prepared(lambda: print("noise")))  # noqa: T201
    assert run_case(case, "cpu", quick).timing
    out, err = capfd.readouterr()
    assert not out
    assert "noise" in err


def test_profiling_runs_a_case_once() -> None:
    """Once to warm up, once to look at."""
    recorded = Recorded()
    assert profile_case(recorded.case(), "cpu") == ""
    assert recorded.calls == 2
    assert recorded.closed


def test_a_case_that_cannot_be_profiled_says_why() -> None:
    """One line with its name, and what was prepared is given back."""
    recorded = Recorded()
    recorded.error = RuntimeError("no memory")
    with pytest.raises(WorkFailed, match="failed: RuntimeError: no memory") as caught:
        profile_case(recorded.case(), "cpu")
    assert caught.value.where == "made up"
    assert recorded.closed


@pytest.mark.parametrize(
    "pattern",
    [
        "gemm M=8",
        "bandwidth 64KiB",
        "launch",
        "attention",
        "sampling",
        "logprobs",
        "h2d",
        "all-reduce",
        "engine",
    ],
)
def test_every_case_of_the_cpu_runs(suite: Suite, quick: BenchConfig, pattern: str) -> None:
    """Each ends with a timing or with what it needs."""
    for case in suite.cases([pattern]):
        row = run_case(case, "cpu", quick)
        assert row.timing or row.reason.startswith("needs"), row.reason


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("family", FAMILIES, ids=lambda family: str(family.name))
def test_every_case_of_a_gpu_runs(tiny_subject: Subject, quick: BenchConfig, family: Family) -> None:
    """The same cases on hardware; those for several GPUs may say that there is one."""
    suite = Suite("cuda", lambda: tiny_subject)
    for case in family.make(suite):
        row = run_case(case, "cuda", quick)
        assert row.timing or row.reason.startswith("needs 2 GPUs"), row.reason
    suite.close()
