"""``asynckit bench-cuda`` as CI runs it, on a machine without a GPU."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from command_line import environment
from made_reports import made_report

from asynckit.bench.formats import write_report

QUICK = ("bench.max_seconds=0.2", "bench.warmup_seconds=0.05", "bench.cache=hot")
FUNCTIONS = """
def short():
    return sum(range(2000))


def other():
    return sum(range(2000))


def long():
    return sum(range(8000))


def prints():
    print("aloud")
"""


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where a person's functions are."""
    (tmp_path / "mine.py").write_text(FUNCTIONS)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def run(*arguments: str, code: int = 0, **variables: str) -> subprocess.CompletedProcess[str]:
    ended = subprocess.run(
        [sys.executable, "-m", "asynckit", "bench-cuda", *arguments, "--quiet"],
        check=False,
        capture_output=True,
        text=True,
        timeout=120,
        env=environment(CUDA_VISIBLE_DEVICES="", **variables),
    )
    assert ended.returncode == code, ended.stderr
    return ended


def report(*arguments: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(run(*arguments, "--json", *QUICK).stdout)
    return found


def test_without_a_gpu_every_row_says_so(folder: Path) -> None:
    """The banner is on stderr, and what needs a GPU has no times and a reason."""
    ended = run("--case", "copy 64KiB", "--case", "h2d", "--out", "now.json", "--json", *QUICK)
    assert "no GPU: " in ended.stderr
    found = json.loads(ended.stdout)
    assert json.loads((folder / "now.json").read_bytes()) == found
    assert {row["device"] for row in found["rows"]} == {"cpu"}
    timed = {row["case"]: row["timing"] is not None for row in found["rows"]}
    assert timed == {"copy": True, "h2d": False}
    assert {row["reason"] for row in found["rows"] if row["case"] == "h2d"} == {"needs a GPU"}
    assert found["environment"]["cpu"]["model"]


def test_cuda_that_is_not_there_ends_with_5_and_why() -> None:
    ended = run("--device", "cuda", code=5)
    assert "torch is for CPUs only" in ended.stderr or "CUDA_VISIBLE_DEVICES='' hides" in ended.stderr


def test_a_function_that_is_slower_ends_with_6() -> None:
    """And one that is as fast does not."""
    found = run("--case", "mine:long", "--against", "mine:short", "--json", code=6)
    (comparison,) = json.loads(found.stdout)["comparisons"]
    assert comparison["verdict"] == "SLOWER"
    assert "1 case is slower than mine:short" in found.stderr
    run("--case", "mine:other", "--against", "mine:short", "--threshold", "0.5")


def test_what_functions_print_does_not_mix_with_the_json() -> None:
    """Neither when they are measured nor when they are compared."""
    json.loads(run("--case", "mine:prints", "--json", *QUICK).stdout)
    compared = run("--case", "mine:prints", "--against", "mine:prints", "--json", "--threshold", "9", *QUICK)
    assert json.loads(compared.stdout)["comparisons"]


def test_settings_that_contradict_each_other_end_with_3() -> None:
    """Before anything is measured."""
    refused = run("--case", "mine:short", "bench.max_repetitions=10", code=3)
    assert "bench.min_repetitions" in refused.stderr


def test_reports_from_elsewhere_are_shown_and_compared_without_a_gpu(folder: Path) -> None:
    """But never with times of another device."""
    write_report(made_report(), folder / "h100.json")
    run("--report", "h100.json", "--out", "h100.html")
    assert "<svg" in (folder / "h100.html").read_text()
    same = json.loads(run("--report", "h100.json", "--baseline", "h100.json", "--json").stdout)
    assert not any(each["regression"] for each in same["comparisons"])
    refused = run("--case", "copy 64KiB", "--baseline", "h100.json", *QUICK, code=5)
    assert "h100.json" in refused.stderr


def test_what_would_be_ignored_is_refused_before_measuring(folder: Path) -> None:
    """Not after minutes of measuring, and nothing is shown that wasn't asked for."""
    write_report(made_report(), folder / "h100.json")
    assert "a saved report is shown whole" in run("--report", "h100.json", "--case", "gemm", code=2).stderr
    assert "nothing is measured" in run("--env", "--case", "gemm", code=2).stderr
    assert "there is no folder" in run("--case", "mine:short", "--out", "no/a.json", code=2).stderr
    refused = run("--case", "mine:missing", "--baseline", "h100.json", code=5)  # before the case is looked at
    assert "h100.json" in refused.stderr


def test_what_can_be_measured_is_listed() -> None:
    found = json.loads(run("--list", "--case", "bandwidth", "--json").stdout)
    assert {row["case"].split()[0] for row in found["cases"]} == {"read", "copy", "triad"}
    wrong = run("--case", "gemmm", code=2)
    assert "did you mean gemm?" in wrong.stderr


def test_a_profile_runs_each_case_once() -> None:
    """Where nobody profiles, ranges cost nothing."""
    found = json.loads(run("--profile", "--case", "mine:short", "--json").stdout)
    assert found["ran"] == ["mine:short"]
