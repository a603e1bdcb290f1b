"""``--dry-run`` and ``--simulate`` as they are typed, beside a real run."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from command_line import Run
from typer.testing import CliRunner, Result

from asynckit.cli import app
from asynckit.errors import AsynckitError

Plan = Callable[..., Result]
SIMULATED = ("--engine", "simulated", "simulated.response_tokens=uniform(2,60)", "simulated.vocabulary=300")
FAST = ("simulated.step_seconds=constant(0.001)", "simulated.sequence_seconds=0")


@pytest.fixture
def plan(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Plan:
    """``asynckit rollout …`` in this process, where an error is the exception that it ends with."""
    monkeypatch.chdir(tmp_path)
    return lambda *words: CliRunner().invoke(app, ["rollout", *words])


def test_a_forecast_has_the_run_s_own_responses(
    asynckit: Run, plan: Plan, sums: Path, tiny_llama: Path
) -> None:
    """The same prompts, seeds and lengths as the run has; and the run's records then serve a forecast."""
    command = ("-m", str(tiny_llama), "-p", str(sums), "-n", "3", *SIMULATED, *FAST, "--json")
    forecast = plan(*command, "--simulate")
    assert forecast.exit_code == 0, forecast.stderr
    predicted = json.loads(forecast.stdout)["prediction"]
    assert list(sums.parent.iterdir()) == [sums]
    run = asynckit("rollout", *command, "-o", "out")
    assert run.returncode == 0, run.stderr
    summary = json.loads(run.stdout)
    assert predicted["response_tokens"] == summary["response_tokens"]
    assert predicted["samples"] == summary["samples"]

    again = plan("--simulate", "--from-run", "out", "--json", "rollout.replicas=2")
    assert again.exit_code == 0, again.stderr
    found = json.loads(again.stdout)
    assert found["n"] == 3
    assert len(found["prediction"]["replica_idle"]) == 2
    assert found["calibration"]["samples"] > 0


def test_a_learner_is_forecast_with_settings_to_paste(plan: Plan, sums: Path, tiny_llama: Path) -> None:
    """The table, and a line that the same command takes."""
    command = ("--simulate", "-m", str(tiny_llama), "-p", str(sums), "--quiet", *SIMULATED)
    learner = ("learner.kind=simulated", "learner.batch_size=2", "rollout.total_rollout_steps=40")
    shown = plan(*command, *learner)
    assert shown.exit_code == 0, shown.stderr
    (line,) = [line for line in shown.stdout.splitlines() if line.startswith("recommended: ")]
    again = plan(*command, *learner, *line.removeprefix("recommended: ").split(), "--json")
    assert again.exit_code == 0, again.stderr
    assert json.loads(again.stdout)["settings"] == line.removeprefix("recommended: ")


def test_a_dry_run_says_all_and_writes_nothing(asynckit: Run, sums: Path, tiny_llama: Path) -> None:
    """A list on stdout, the worst error's code at the end."""
    command = ("rollout", "--dry-run", "-m", str(tiny_llama), "-p", str(sums), "engine.device=cpu", "--json")
    good = asynckit(*command)
    assert good.returncode == 0, good.stderr
    assert json.loads(good.stdout)["ok"] is True
    bad = asynckit(*command, "-r", "exact_mach", "engine.max_model_len=4000", "-o", "out")
    assert bad.returncode == 4, bad.stderr
    found = {each["check"]: each["exit_code"] for each in json.loads(bad.stdout)["findings"]}
    assert found["reward"] == 4
    assert found["lengths"] == 3
    assert "exact_match" in bad.stderr
    assert list(sums.parent.iterdir()) == [sums]


@pytest.mark.parametrize(
    "flags",
    [
        ("--simulate", "--dry-run"),
        ("--simulate", "--overwrite"),
        ("--from-run", "out"),
        ("--simulate", "--from-run", "none"),
    ],
)
def test_flags_that_contradict_each_other_are_refused(plan: Plan, flags: tuple[str, ...]) -> None:
    """Nothing is guessed."""
    refused = plan(*flags).exception
    assert isinstance(refused, AsynckitError)
    assert refused.exit_code == 2
