"""Rollouts through the real command line, a real Ray and a real (tiny) model."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from uuid import uuid4

import pytest
import torch
from command_line import TINY, Run, environment
from processes import family
from transformers import AutoModelForCausalLM

from asynckit.rollout.record import Trajectory
from asynckit.rollout.sinks import read_trajectories

# Nothing of the real engine matters to most of these runs.
SIMULATED = (
    *("--engine", "simulated", "simulated.vocabulary=300", "simulated.response_tokens=constant(5)"),
    *("simulated.step_seconds=constant(0)", "simulated.sequence_seconds=0"),
)
REWARDS = """
import time
print("reward functions may print while they are imported")

def unlucky(response, prompt):
    if "3 +" in prompt:
        raise ValueError("three is unlucky")
    time.sleep(600 if "4 +" in prompt else 0)
    return {"score": 0.5, "speed": 1}

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


def none_left_behind(mark: str) -> bool:
    """Whether every process of a command with a Ray of its own ends within seconds of the command."""
    deadline = time.monotonic() + 20
    while family(mark):
        if time.monotonic() > deadline:
            return False
        time.sleep(0.2)
    return True


def test_a_rollout_writes_every_sample_with_exact_logprobs(
    asynckit: Run, tiny_llama: Path, sums: Path
) -> None:
    """The promise of the main command: ids, masks and logprobs to trust, and a true summary."""
    mark = uuid4().hex
    done = asynckit(
        *("rollout", "-m", str(tiny_llama), "-p", str(sums), "-n", "3", "-o", "out", "--json"),
        *("sampling.temperature=0.8", *TINY, "ray.address=local"),
        TEST_MARK=mark,
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
    assert none_left_behind(mark)


def test_a_simulated_engine_takes_the_model_s_place(asynckit: Run, sums: Path, tiny_llama: Path) -> None:
    """Everything around the engine is real: prompts' ids, rewards, records, and how the run is resumed."""
    command = ("rollout", "-m", str(tiny_llama), "-p", str(sums), "-n", "3", "-o", "out", "--json")
    done = asynckit(*command, *SIMULATED)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["response_tokens"] == 10 * 3 * 5
    trajectories = list(read_trajectories(sums.parent / "out" / "trajectories"))
    assert {t.engine.name for t in trajectories} == {"simulated"}
    assert len({t.uid for t in trajectories}) == 30
    again = asynckit("rollout", "--resume", "-o", "out", "simulated.response_tokens=constant(6)")
    assert again.returncode == 3, "what the simulated engine makes is part of what the run makes"


def test_a_run_s_config_replays_to_the_same_run(asynckit: Run, tiny_llama: Path, sums: Path) -> None:
    """The config.json of a run, given back with -c, makes the same records on more engines."""
    arguments = ("rollout", "-m", str(tiny_llama), "-p", str(sums), "-n", "2", "sampling.top_k=9", *TINY)
    assert asynckit(*arguments, "-o", "one").returncode == 0
    more = ("rollout.replicas=2", "rollout.format=jsonl")
    done = asynckit("rollout", "-c", "one/config.json", "-o", "two", *more)
    assert done.returncode == 0, done.stderr
    one, two = (
        {t.uid: t.response_ids for t in read_trajectories(sums.parent / out / "trajectories")}
        for out in ("one", "two")
    )
    assert one == two
    assert len(one) == 20


def test_a_reward_that_raises_or_hangs_costs_its_samples_only(
    asynckit: Run, tiny_llama: Path, sums: Path
) -> None:
    """The failed samples are recorded with the reason, the others are kept, the exit code is 1."""
    (sums.parent / "rewards.py").write_text(REWARDS)
    done = asynckit(
        *("rollout", "-m", str(tiny_llama), "-p", str(sums), "-n", "2", "-o", "out", "--json", *SIMULATED),
        *("--reward", "rewards:unlucky", "reward.timeout=1"),
    )
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    assert "three is unlucky" in done.stderr
    summary = json.loads(done.stdout)
    assert summary["groups"] == {"completed": 8, "failed": 2, "stale": 0, "filtered": 0, "cancelled": 0}
    assert any("longer than reward.timeout" in error for error in summary["errors"])
    trajectories = list(read_trajectories(sums.parent / "out" / "trajectories"))
    failed = [t for t in trajectories if t.status == "failed"]
    assert len(trajectories) == 20
    assert len(failed) == 4
    assert sum("three is unlucky" in t.error for t in failed) == 2
    assert all(t.reward is None for t in failed)
    rewards = [(t.reward, t.reward_components) for t in trajectories if t.status != "failed"]
    assert rewards == [(0.5, {"speed": 1.0})] * 16


def test_a_reward_that_a_worker_can_t_load_says_so(asynckit: Run, tiny_llama: Path, sums: Path) -> None:
    """The function's own error reaches the person, not the death of some actor."""
    (sums.parent / "picky.py").write_text(
        "import os, pathlib\n"
        "first = pathlib.Path(__file__).with_name('seen')\n"
        "assert not first.exists(), 'only once'\n"
        "first.touch()\n"
        "def score(response): return 1\n"
    )
    arguments = ("rollout", "-m", str(tiny_llama), "-p", str(sums), "-o", "out", *SIMULATED)
    done = asynckit(*arguments, "--reward", "picky:score")
    assert done.returncode == 4, done.stderr
    assert "only once" in done.stderr
    assert "Traceback" not in done.stderr


def test_prompts_that_can_t_be_used_fail_alone(asynckit: Run, tiny_llama: Path, sums: Path) -> None:
    """One that is too long, and one with an order of roles that the template raises for."""
    picky = sums.parent / "picky-model"
    shutil.copytree(tiny_llama, picky)
    template = (
        "{% if messages[0]['role'] == 'system' %}{{ raise_exception('no system role') }}{% endif %}"
        "{{ messages[0]['content'] }}"
    )
    (picky / "chat_template.jinja").write_text(template)
    user, system = {"role": "user", "content": "1+1="}, {"role": "system", "content": "s"}
    rows = [[user], [system, user], [{**user, "content": "long " * 200}]]
    sums.write_text("".join(json.dumps({"prompt": row, "answer": "2"}) + "\n" for row in rows))
    arguments = ("rollout", "-m", str(picky), "-p", str(sums), "-n", "1", "-o", "out", *SIMULATED)
    done = asynckit(*arguments, "simulated.max_model_len=300", "--json")
    assert done.returncode == 1
    assert any("no system role" in error for error in json.loads(done.stdout)["errors"])
    assert any("leaves no room" in error for error in json.loads(done.stdout)["errors"])
    assert "Traceback" not in done.stderr
    statuses = [t.status for t in read_trajectories(sums.parent / "out" / "trajectories")]
    assert sorted(statuses) == ["completed", "failed", "failed"]


@pytest.mark.parametrize("stop", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_stops_cleanly(tiny_llama: Path, sums: Path, stop: signal.Signals) -> None:
    """Ctrl-C ends in seconds with 130, keeps what is finished, and leaves no Ray process behind."""
    mark = uuid4().hex
    (sums.parent / "rewards.py").write_text(REWARDS)
    command = [
        *(sys.executable, "-m", "asynckit", "rollout", "-m", str(tiny_llama), "-p", str(sums)),
        *("-o", "out", "--reward", "rewards:slow", *SIMULATED),
    ]
    with subprocess.Popen(
        command,
        cwd=sums.parent,
        env=environment(TEST_MARK=mark),
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
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
    assert none_left_behind(mark)


@pytest.mark.embedded
def test_the_embedded_model_answers_a_generated_task(asynckit: Run, tmp_path: Path) -> None:
    """The first thing that anybody runs: SmolLM2 on sums, float32, logprobs within 1e-3 of a forward pass."""
    from asynckit.models.config import ModelConfig
    from asynckit.models.resolve import resolve_model

    done = asynckit(
        *("rollout", "-p", "reasoning_gym:chain_sum", "-n", "4", "-o", "out", "prompts.size=2"),
        *("sampling.max_tokens=16", "engine.dtype=float32"),
    )
    assert done.returncode == 0, done.stderr
    assert "mean reward" in done.stdout
    trajectories = list(read_trajectories(tmp_path / "out" / "trajectories"))
    assert len(trajectories) == 8
    assert recomputed(resolve_model(ModelConfig()).path, trajectories, torch.float32) < 1e-3
