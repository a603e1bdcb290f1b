"""A person's own function as a case: found, given its inputs, refused in words where that can't be."""

import importlib
import sys
from pathlib import Path

import pytest

from asynckit.bench.cases.functions import function_case, names_function
from asynckit.bench.config import BenchConfig
from asynckit.bench.running import run_case
from asynckit.errors import InputError

MODULE = """
import itertools
numbers = itertools.count()
seen = []
def plain(): seen.append(())
def add(a, b=1): seen.append((a, b)); return a + b
def named(*, a): seen.append(a); return a
async def later(): pass
def slowly(): yield 1
def one(): return next(numbers)
def pair(device): return next(numbers), device
def reset(size=3): seen.clear()
def keywords(): return {"a": next(numbers)}
def needs_much(a, b, c): pass
class Thing:
    def method(self): pass
text = "no function"
"""


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> str:
    """A module in the working folder, by a name that no other test uses."""
    name = f"own_{abs(hash(request.node.nodeid))}"
    (tmp_path / f"{name}.py").write_text(MODULE, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    return name


def run(pattern: str, quick: BenchConfig) -> list[object]:
    """Measure it; returns what the function was called with."""
    case = function_case(pattern)
    row = run_case(case, "cpu", quick)
    assert row.timing, row.reason
    seen: list[object] = importlib.import_module(pattern.partition(":")[0]).seen
    return seen


def test_a_function_without_arguments(own: str, quick: BenchConfig) -> None:
    """Called as it is."""
    assert set(run(f"{own}:plain", quick)) == {()}
    assert function_case(f"{own}:plain").key == f"{own}:plain"


def test_a_hook_makes_each_calls_inputs(own: str, quick: BenchConfig) -> None:
    """Never the same inputs twice."""
    seen = run(f"{own}:add@one", quick)
    assert len(set(seen)) == len(seen) >= 3


def test_a_hook_may_ask_for_the_device(own: str) -> None:
    """A tuple is positional arguments; a hook with a parameter is told where the inputs belong."""
    prepared = function_case(f"{own}:add@pair").make("cuda")
    assert prepared.setup
    assert prepared.setup()[1] == "cuda"  # type: ignore[index]


def test_a_hook_may_give_keywords(own: str, quick: BenchConfig) -> None:
    """A dict is keyword arguments."""
    seen = run(f"{own}:named@keywords", quick)
    assert len(set(seen)) == len(seen) >= 3


def test_a_hook_may_only_prepare(own: str, quick: BenchConfig) -> None:
    """One that returns nothing gives no arguments, and its own defaults stay."""
    assert run(f"{own}:plain@reset", quick) == [()]


def test_a_hook_of_another_module(own: str, quick: BenchConfig) -> None:
    """A hook can be named with its module."""
    assert run(f"{own}:add@{own}:one", quick)


@pytest.mark.parametrize(
    ("rest", "problem"),
    [
        (":add", "missing a required argument: 'a'"),
        (":needs_much", "missing a required argument"),
        (":later", "is async"),
        (":slowly", "a generator"),
        (":text", "not a function"),
        (":nothing", "has no 'nothing'"),
        (":add@", "no set-up hook"),
        (":add@nothing", "has no 'nothing'"),
        (":add@needs_much", "missing a required argument"),
        (":Thing.method", "missing a required argument: 'self'"),
    ],
)
def test_what_cannot_be_timed_is_refused(own: str, rest: str, problem: str) -> None:
    """Before anything is measured, and with the mend."""
    with pytest.raises(InputError, match=problem) as caught:
        function_case(own + rest)
    assert caught.value.mend


def test_missing_modules_are_told() -> None:
    """A module that is not there is no traceback."""
    with pytest.raises(InputError, match="no module 'not_there_at_all'"):
        function_case("not_there_at_all:function")


def test_functions_in_c_have_no_signature(quick: BenchConfig) -> None:
    """What doesn't say its arguments is tried."""
    assert run_case(function_case("time:perf_counter_ns"), "cpu", quick).timing


def test_names_of_functions_and_cases() -> None:
    """A colon before any hook makes it a function."""
    assert names_function("module:function")
    assert names_function("module:function@hook")
    assert not names_function("gemm qkv")
    assert not names_function("gemm@module:hook")
