"""Rollouts through the real command line, a real Ray and a real (tiny) model."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from command_line import TINY, Run, environment
from transformers import AutoModelForCausalLM

from asynckit.rollout.record import Trajectory
from asynckit.rollout.sinks import read_trajectories

REWARDS = """
import time
print("reward functions may print while they are imported")

def raises_on_three(response, prompt):
    if "3 +" in prompt:
        raise ValueError("three is unlucky")
    return 1.0

def hangs_on_three(response, prompt):
    time.sleep(600 if "3 +" in prompt else 0)
    return {"score": 0.5, "speed": 1}

def slowly(response):
    time.sleep(1)
    return 1

def slow(response):
    time.sleep(600)
    return 0.0
"""


def recomputed(folder: Path, trajectories: list[Trajectory], dtype: torch.dtype) -> float:
    """The largest difference between recorded logprobs and those of one plain forward pass per sample."""
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=dtype)
    worst = 0.0
    for t in trajectories:
        ids = torch.tensor([t.prompt_ids + t.response_ids])
        with torch.inference_mode():
            logits = model(ids).logits[0, len(t.prompt_ids) - 1 : -1].float()
        temperature = t.sampling["temperature"]
        chosen = (logits / temperature).log_softmax(-1)[range(len(t.response_ids)), t.response_ids]
        worst = max(worst, (chosen - torch.tensor(t.logprobs)).abs().max().item())
    return worst


def ray_processes() -> set[int]:
    """Process ids of everything that belongs to a Ray."""
    found = set()
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                command = (entry / "cmdline").read_text()
            except OSError:
                continue  # it ended while we looked
            if "raylet" in command or "gcs_server" in command or command.startswith("ray::"):
                found.add(int(entry.name))
    return found


def none_left_behind(before: set[int]) -> bool:
    """Whether every Ray process that is new since ``before`` ends within seconds of the command's end."""
    deadline = time.monotonic() + 20
    while ray_processes() - before:
        if time.monotonic() > deadline:
            return False
        time.sleep(0.2)
    return True


def test_a_rollout_writes_every_sample_with_exact_logprobs(
    asynckit: Run, tiny_llama: Path, sums: Path
) -> None:
    """The promise of the main command: ids, masks and logprobs to trust, and a true summary."""
    before = ray_processes()
    done = asynckit(
        *("rollout", "-m", str(tiny_llama), "-p", str(sums), "-n", "3", "-o", "out", "--json"),
        *("sampling.temperature=0.8", *TINY),
    )
    assert done.returncode == 0, done.stderr
    summary = json.loads(done.stdout)
    assert summary["groups"] == {"completed": 10, "failed": 0, "stale": 0, "filtered": 0, "cancelled": 0}
    assert summary["submitted"] == 10
    trajectories = list(read_trajectories(sums.parent / "out" / "trajectories"))
    assert len({t.uid for t in trajectories}) == len(trajectories) == 30
    for t in trajectories:
        assert len(t.response_ids) == len(t.response_mask) == len(t.logprobs) > 0
        assert t.status in {"completed", "truncated"}
        assert t.messages[0]["content"].endswith("+ 1 = ")
    assert recomputed(tiny_llama, trajectories, torch.float32) < 1e-3
    assert summary["response_tokens"] == sum(len(t.response_ids) for t in trajectories)
    assert json.loads((sums.parent / "out" / "summary.json").read_text()) == summary
    assert json.loads((sums.parent / "out" / "config.json").read_text())["config"]["rollout"]["n"] == 3
    assert none_left_behind(before)


def test_a_simulated_engine_takes_the_model_s_place(asynckit: Run, sums: Path, tiny_llama: Path) -> None:
    """Everything around the engine is real: prompts' ids, rewards, records, and how the run is resumed."""
    command = [
        "rollout",
        "--engine",
        "simulated",
        "-m",
        str(tiny_llama),
        "-p",
        str(sums),
        "-n",
        "3",
        "-o",
        "out",
    ]
    settings = [
        "simulated.response_tokens=constant(5)",
        "simulated.vocabulary=300",
        "simulated.step_seconds=constant(0)",
    ]
    done = asynckit(*command, *settings, "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["response_tokens"] == 10 * 3 * 5
    trajectories = list(read_trajectories(sums.parent / "out" / "trajectories"))
    assert {t.engine.name for t in trajectories} == {"simulated"}
    assert len({t.uid for t in trajectories}) == 30
    again = asynckit("rollout", "--resume", "-o", "out", "simulated.response_tokens=constant(6)")
    assert again.returncode == 3, "what the simulated engine makes is part of what the run makes"


def test_the_same_seed_gives_the_same_trajectories(asynckit: Run, tiny_llama: Path, sums: Path) -> None:
    """Two runs with one seed differ in timing only, whatever the number of engines; another seed differs."""

    def run(out: str, *settings: str) -> dict[str, list[int]]:
        files = ("-p", str(sums), "-o", out, "rollout.format=jsonl")
        done = asynckit("rollout", "-m", str(tiny_llama), *files, *TINY, *settings)
        assert done.returncode == 0, done.stderr
        return {t.uid: t.response_ids for t in read_trajectories(sums.parent / out / "trajectories")}

    first = run("one")
    assert run("two", "rollout.replicas=2") == first
    assert run("other", "sampling.seed=1") != first


def test_a_run_s_config_replays_to_the_same_run(asynckit: Run, tiny_llama: Path, sums: Path) -> None:
    """The config.json of a run, given back with -c, makes the same records."""
    arguments = ("rollout", "-m", str(tiny_llama), "-p", str(sums), "-n", "2", "sampling.top_k=9", *TINY)
    assert asynckit(*arguments, "-o", "one").returncode == 0
    done = asynckit("rollout", "-c", "one/config.json", "-o", "two")
    assert done.returncode == 0, done.stderr
    one, two = (
        {t.uid: t.response_ids for t in read_trajectories(sums.parent / out / "trajectories")}
        for out in ("one", "two")
    )
    assert one == two


def test_a_reward_that_raises_fails_its_samples_and_the_run(
    asynckit: Run, tiny_llama: Path, sums: Path
) -> None:
    """The failed samples are recorded with the reason, the others are kept, the exit code is 1."""
    (sums.parent / "rewards.py").write_text(REWARDS)
    arguments = ("rollout", "-m", str(tiny_llama), "-p", str(sums), "-n", "2", *TINY)
    done = asynckit(*arguments, "-o", "out", "--reward", "rewards:raises_on_three")
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    assert "three is unlucky" in done.stderr
    trajectories = list(read_trajectories(sums.parent / "out" / "trajectories"))
    failed = [t for t in trajectories if t.status == "failed"]
    assert len(trajectories) == 20
    assert len(failed) == 2
    assert all("three is unlucky" in t.error and t.reward is None for t in failed)
    assert all(t.reward == 1.0 for t in trajectories if t.status != "failed")


def test_a_reward_that_hangs_costs_its_samples_only(asynckit: Run, tiny_llama: Path, sums: Path) -> None:
    """A call over reward.timeout is ended, and allowed failures leave exit code 0."""
    (sums.parent / "rewards.py").write_text(REWARDS)
    done = asynckit(
        *("rollout", "-m", str(tiny_llama), "-p", str(sums), "-n", "1", "-o", "out", "--json"),
        *("--max-failures", "1", "--reward", "rewards:hangs_on_three", "reward.timeout=1", *TINY),
    )
    assert done.returncode == 0, done.stderr
    summary = json.loads(done.stdout)
    assert summary["groups"] == {"completed": 9, "failed": 1, "stale": 0, "filtered": 0, "cancelled": 0}
    assert any("longer than reward.timeout" in error for error in summary["errors"])
    components = [
        t.reward_components for t in read_trajectories(sums.parent / "out" / "trajectories") if t.reward
    ]
    assert components == [{"speed": 1.0}] * 9


def test_slow_rewards_are_no_stall(asynckit: Run, tiny_llama: Path, sums: Path) -> None:
    """A run whose rewards take longer than the stall time-out in total is healthy."""
    (sums.parent / "rewards.py").write_text(REWARDS)
    done = asynckit(
        *("rollout", "-m", str(tiny_llama), "-p", str(sums), "-n", "8", "-o", "out", "--json", *TINY),
        *("--reward", "rewards:slowly", "prompts.limit=1", "rollout.stall_timeout=4"),
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["mean_reward"] == 1.0


def test_a_reward_that_a_worker_can_t_load_says_so(asynckit: Run, tiny_llama: Path, sums: Path) -> None:
    """The function's own error reaches the person, not the death of some actor."""
    (sums.parent / "picky.py").write_text(
        "import os, pathlib\n"
        "first = pathlib.Path('seen')\n"
        "assert not first.exists(), 'only once'\n"
        "first.touch()\n"
        "def score(response): return 1\n"
    )
    path = str(sums.parent)
    done = asynckit(
        *("rollout", "-m", str(tiny_llama), "-p", str(sums), "-o", "out", "--reward", "picky:score", *TINY),
        PYTHONPATH=path,
    )
    assert done.returncode == 4, done.stderr
    assert "only once" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_prompt_that_the_template_refuses_fails_alone(asynckit: Run, tiny_llama: Path, sums: Path) -> None:
    """Templates raise for role orders they don't know; that is one prompt's failure."""
    picky = sums.parent / "picky-model"
    shutil.copytree(tiny_llama, picky)
    template = "{% if messages[0]['role'] == 'system' %}{{ raise_exception('no system role') }}{% endif %}x"
    (picky / "chat_template.jinja").write_text(template)
    rows = [
        [{"role": "user", "content": "1+1="}],
        [{"role": "system", "content": "s"}, {"role": "user", "content": "?"}],
    ]
    sums.write_text("".join(json.dumps({"prompt": row, "answer": "2"}) + "\n" for row in rows))
    done = asynckit("rollout", "-m", str(picky), "-p", str(sums), "-n", "1", "-o", "out", *TINY)
    assert done.returncode == 1
    assert "no system role" in done.stderr
    assert "Traceback" not in done.stderr
    statuses = {t.status for t in read_trajectories(sums.parent / "out" / "trajectories")}
    assert "failed" in statuses
    assert len(statuses) == 2


def test_a_prompt_that_is_too_long_fails_alone(asynckit: Run, tiny_llama: Path, sums: Path) -> None:
    """One impossible prompt does not take the others down."""
    with sums.open("a") as file:
        file.write(json.dumps({"prompt": "long " * 2000, "answer": "1"}) + "\n")
    done = asynckit("rollout", "-m", str(tiny_llama), "-p", str(sums), "-n", "1", "-o", "out", *TINY)
    assert done.returncode == 1
    assert "leaves no room" in done.stderr
    statuses = [t.status for t in read_trajectories(sums.parent / "out" / "trajectories")]
    assert sorted(statuses).count("failed") == 1
    assert len(statuses) == 11


@pytest.mark.parametrize("stop", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_stops_cleanly(tiny_llama: Path, sums: Path, stop: signal.Signals) -> None:
    """Ctrl-C ends in seconds with 130, keeps what is finished, and leaves no Ray process behind."""
    before = ray_processes()
    (sums.parent / "rewards.py").write_text(REWARDS)
    command = [
        *(sys.executable, "-m", "asynckit", "rollout", "-m", str(tiny_llama), "-p", str(sums)),
        *("-o", "out", "--reward", "rewards:slow", *TINY),
    ]
    with subprocess.Popen(
        command, cwd=sums.parent, env=environment(), stderr=subprocess.PIPE, text=True, start_new_session=True
    ) as process:
        log = sums.parent / "out" / "logs" / "attempt-1" / "task-runner.log"
        deadline = time.monotonic() + 120
        while not (log.is_file() and "is ready" in log.read_text()):
            assert process.poll() is None, process.stderr.read() if process.stderr else ""
            assert time.monotonic() < deadline
            time.sleep(0.2)
        if stop is signal.SIGINT:
            os.killpg(process.pid, stop)  # as from a terminal, which sends it to the whole group
        else:
            process.send_signal(stop)
        _, error = process.communicate(timeout=60)
    assert process.returncode == 130, error
    assert "Traceback" not in error
    summary = json.loads((sums.parent / "out" / "summary.json").read_text())
    assert summary["status"] == "interrupted"
    assert sum(summary["groups"].values()) == summary["submitted"] == 10
    assert none_left_behind(before)


@pytest.mark.embedded
def test_the_embedded_model_answers_a_generated_task(asynckit: Run, tmp_path: Path) -> None:
    """The first thing that anybody runs: SmolLM2 on sums, float32, logprobs within 1e-3 of a forward pass."""
    from asynckit.models.config import ModelConfig
    from asynckit.models.resolve import resolve_model

    done = asynckit(
        *("rollout", "-p", "reasoning_gym:chain_sum", "-n", "4", "-o", "out", "prompts.size=3"),
        *("sampling.max_tokens=24", "engine.dtype=float32"),
    )
    assert done.returncode == 0, done.stderr
    assert "mean reward" in done.stdout
    trajectories = list(read_trajectories(tmp_path / "out" / "trajectories"))
    assert len(trajectories) == 12
    assert recomputed(resolve_model(ModelConfig()).path, trajectories, torch.float32) < 1e-3
