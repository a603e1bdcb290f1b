"""Which cases there are, and which of them a person gets."""

import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from asynckit.bench.cases.case import reason_against
from asynckit.bench.config import BenchConfig
from asynckit.bench.subject import Subject
from asynckit.bench.suite import FAMILIES, Suite, share_out
from asynckit.engine.config import EngineConfig
from asynckit.errors import ConfigError, InputError, UsageError


def no_model() -> Subject:
    """For suites whose model must not be asked for."""
    raise AssertionError("no case needs the model here")


def test_families_are_named_after_their_cases(suite: Suite) -> None:
    """Whatever a report calls a case, ``--case`` knows it by that name."""
    for family in FAMILIES:
        cases = family.make(suite)
        assert cases
        assert {case.name for case in cases} == {family.name}
        assert family.help


@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_keys_are_unique(tiny_subject: Subject, device: str) -> None:
    """Rows of two runs are matched by their keys."""
    suite = Suite(
        device, lambda: tiny_subject, BenchConfig(gemm=("64x64x64",)), EngineConfig(dtype="float32")
    )
    keys = [case.key for family in FAMILIES for case in family.make(suite)]
    assert len(set(keys)) == len(keys)


def test_default_suite_has_every_family(suite: Suite) -> None:
    """On a CPU too: what it can't run is there with a reason."""
    cases = suite.cases()
    assert list(dict.fromkeys(case.name for case in cases)) == [family.name for family in FAMILIES]
    against = {case.name: reason_against(case, "cpu", 0) for case in cases if case.needs_gpus}
    assert set(against) == {"launch", "h2d", "d2h", "all-reduce"}
    assert set(against.values()) == {"needs a GPU", "needs several GPUs"}


def test_missing_gpus_are_told() -> None:
    """One GPU is enough for all but what needs several."""
    suite = Suite("cpu", no_model)
    reduce, copy = suite.cases(["all-reduce 64KiB"])[0], suite.cases(["h2d"])[0]
    assert reason_against(reduce, "cuda", 1) == "needs 2 GPUs, and 1 can be seen"
    assert reason_against(reduce, "cuda", 2) == ""
    assert reason_against(copy, "cuda", 1) == ""


@pytest.mark.parametrize(
    ("pattern", "keys"),
    [
        ("copy 64KiB", ["copy 64KiB"]),
        ("copy *mib 1*", ["copy 1MiB", "copy 16MiB"]),
        ("bandwidth 64KiB", ["read 64KiB", "copy 64KiB", "triad 64KiB"]),
        ("launch", ["launch eager x1000", "launch graph x1000"]),
    ],
)
def test_patterns_select(pattern: str, keys: list[str]) -> None:
    """By name or group, and by words of the variant; without a model where none is needed."""
    assert [case.key for case in Suite("cpu", no_model).cases([pattern])] == keys


def test_patterns_keep_their_order_and_repeat_nothing() -> None:
    """A case that two patterns select is measured once."""
    cases = Suite("cpu", no_model).cases(["triad 64KiB", "copy 64KiB", "bandwidth 64KiB"])
    assert [case.name for case in cases] == ["triad", "copy", "read"]


def test_large_cases_run_when_asked_for(suite: Suite) -> None:
    """What would take too long by default, or is of use to few, is there by name."""
    assert "weight-update from files float32" in [case.key for case in suite.cases(["weight-update"])]
    assert "weight-update from files float32" not in [case.key for case in suite.cases()]


@pytest.mark.parametrize(
    ("pattern", "problem", "mend"),
    [
        ("gem", "no case 'gem'", "gemm"),
        ("attentoin", "no case 'attentoin'", "attention"),
        ("", "no case ''", "there is gemm"),
        ("copy 64KB", "no variant with '64KB'", "64KiB"),
        ("copy 64KiB 1MiB", "all of 64KiB, 1MiB", "64KiB"),
    ],
)
def test_near_misses_are_suggested(pattern: str, problem: str, mend: str) -> None:
    """A typing error ends with what was probably meant."""
    with pytest.raises(UsageError) as caught:
        Suite("cpu", no_model).cases([pattern])
    assert problem in caught.value.message
    assert mend in caught.value.mend


def test_given_products_are_measured_first(tiny_subject: Subject) -> None:
    """``bench.gemm`` brings its own shapes, in every dtype whose ceiling is measured."""
    suite = Suite("cpu", lambda: tiny_subject, BenchConfig(gemm=("4x8x16",)), EngineConfig(dtype="bfloat16"))
    assert [case.variant for case in suite.cases(["gemm given"])] == [
        "given 4x8x16 bfloat16",
        "given 4x8x16 float32",
    ]
    with pytest.raises(ConfigError, match="no shape"):
        Suite("cpu", lambda: tiny_subject, BenchConfig(gemm=("4x8",))).cases(["gemm"])


def test_without_lora_compute_only_what_skips_it_is_left(tiny_subject: Subject) -> None:
    """``--no-lora-compute`` has no row in which adapters are computed."""
    suite = Suite("cpu", lambda: tiny_subject, lora_compute=False)
    kinds = [case.variant.split()[0] for case in suite.cases(["lora"])]
    assert kinds == ["off", "skipped"]


@given(st.integers(0, 500), st.floats(0.1, 600))
def test_a_suite_shares_out_its_time(cases: int, seconds: float) -> None:
    """All cases together get no more than there is, and none gets more than was configured."""
    config = share_out(BenchConfig(), cases, seconds)
    assert cases * (config.warmup_seconds + config.max_seconds) <= seconds * (1 + 1e-9)
    assert config.warmup_seconds <= BenchConfig().warmup_seconds
    assert config.max_seconds <= BenchConfig().max_seconds


def test_works_without_ray_zeromq_and_omegaconf() -> None:
    """A GPU machine that only has torch and transformers can list the cases and measure a function."""
    script = (
        "import sys\n"
        "for name in ('ray', 'zmq', 'omegaconf', 'fastapi', 'pyarrow'): sys.modules[name] = None\n"
        "from asynckit.bench import measure\n"
        "from asynckit.bench.suite import Suite, FAMILIES\n"
        "assert 'torch' not in sys.modules and 'transformers' not in sys.modules\n"
        "from asynckit.bench.running import run_case\n"
        "from asynckit.bench.config import BenchConfig\n"
        "config = BenchConfig(min_repetitions=3, max_repetitions=3, warmup_seconds=0.0)\n"
        "case, = Suite('cpu', None).cases(['copy 64KiB'])\n"
        "assert run_case(case, 'cpu', config).timing\n"
        "import asynckit.engine.engine\n"
    )
    subprocess.run([sys.executable, "-c", script], check=True, timeout=120)


def test_the_page_has_every_case_and_group(suite: Suite) -> None:
    """What can be typed after ``--case`` is explained."""
    page = Path(__file__).parents[3].joinpath("docs", "bench-cases.md").read_text(encoding="utf-8")
    cases = [case for family in FAMILIES for case in family.make(suite)]
    for name in {case.name for case in cases} | {case.group for case in cases}:
        assert f"`{name}`" in page


def test_groups_are_those_of_the_rows(suite: Suite) -> None:
    """What is drawn together can be asked for together."""
    for case in suite.cases():
        assert case.key in {each.key for each in suite.cases([case.group])}


def test_functions_are_cases() -> None:
    """What has a colon is imported, and what can't be imported is told."""
    assert Suite("cpu", no_model).cases(["time:time"])[0].key == "time:time"
    with pytest.raises(InputError, match="no 'tme'"):
        Suite("cpu", no_model).cases(["time:tme"])
