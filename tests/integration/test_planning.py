"""``--dry-run`` and ``--simulate`` through the real command line."""

import json
from pathlib import Path

import pytest
from command_line import Run

SIMULATED = ("--engine", "simulated", "simulated.response_tokens=uniform(2,60)", "simulated.vocabulary=300")
FAST = ("simulated.step_seconds=constant(0.001)", "simulated.sequence_seconds=0")


def test_a_forecast_has_the_run_s_own_responses(asynckit: Run, sums: Path, tiny_llama: Path) -> None:
    """The same prompts, seeds and lengths as the run has; and the run's records then serve a forecast."""
    command = ("rollout", "-m", str(tiny_llama), "-p", str(sums), "-n", "3", *SIMULATED, *FAST, "--json")
    forecast = asynckit(*command, "--simulate")
    assert forecast.returncode == 0, forecast.stderr
    predicted = json.loads(forecast.stdout)["prediction"]
    assert list(sums.parent.iterdir()) == [sums]
    run = asynckit(*command, "-o", "out")
    assert run.returncode == 0, run.stderr
    summary = json.loads(run.stdout)
    assert predicted["response_tokens"] == summary["response_tokens"]
    assert predicted["samples"] == summary["samples"]

    again = asynckit("rollout", "--simulate", "--from-run", "out", "--json", "rollout.replicas=2")
    assert again.returncode == 0, again.stderr
    found = json.loads(again.stdout)
    assert found["n"] == 3
    assert len(found["prediction"]["replica_idle"]) == 2
    assert found["calibration"]["samples"] > 0


def test_a_learner_is_forecast_with_settings_to_paste(asynckit: Run, sums: Path, tiny_llama: Path) -> None:
    """The table, and a line that the same command takes."""
    command = ("rollout", "--simulate", "-m", str(tiny_llama), "-p", str(sums), "--quiet", *SIMULATED)
    learner = ("learner.kind=simulated", "learner.batch_size=2", "rollout.total_rollout_steps=40")
    shown = asynckit(*command, *learner)
    assert shown.returncode == 0, shown.stderr
    (line,) = [line for line in shown.stdout.splitlines() if line.startswith("recommended: ")]
    again = asynckit(*command, *learner, *line.removeprefix("recommended: ").split(), "--json")
    assert again.returncode == 0, again.stderr
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
def test_flags_that_contradict_each_other_are_refused(asynckit: Run, flags: tuple[str, ...]) -> None:
    """Nothing is guessed."""
    assert asynckit("rollout", *flags).returncode == 2
