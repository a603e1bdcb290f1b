"""Rollouts with a learner in the loop: versions, their bound, and weights that really change."""

import asyncio
import json
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
import torch
from command_line import TINY, Run, environment
from processes import PARTS, family, kill
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM

from asynckit.models.config import ModelConfig
from asynckit.rollout.config import LearnerConfig
from asynckit.rollout.record import Trajectory
from asynckit.rollout.simulated_learner import SimulatedLearner
from asynckit.rollout.sinks import read_trajectories

# Long-tailed, so that groups finish out of order and versions change while they run.
SIMULATED = (
    "--engine",
    "simulated",
    "simulated.response_tokens=lognormal(6,60)",
    "simulated.step_seconds=constant(0.005)",
    "learner.kind=simulated",
    "learner.batch_size=2",
    "learner.step_seconds=constant(0.1)",
    "async_training.trigger_parameter_sync_step=1",
    "rollout.n=2",
)
REWARD = "def parity(response):\n    return float(len(response) % 2)\n"


def ages(records: list[Trajectory]) -> set[int]:
    """How many versions old the tokens were that the learner had."""
    return {
        t.consumed_version - version
        for t in records
        if t.consumed_version is not None
        for _, _, version in t.version_spans
    }


def records(run: Path) -> list[Trajectory]:
    """A run's records; none of them is there twice."""
    found = list(read_trajectories(run / "trajectories"))
    assert len({each.uid for each in found}) == len(found)
    return found


@pytest.mark.parametrize(
    ("settings", "bound"),
    [
        (("rollout.mode=sync",), 0),
        (("async_training.staleness_threshold=1",), 1),
        (("async_training.staleness_threshold=2", "async_training.policy=wait", "rollout.replicas=2"), 2),
        (("async_training.staleness_threshold=1", "async_training.partial_rollout=false"), 1),
        (("async_training.staleness_threshold=1", "async_training.on_update=restart"), 1),
    ],
    ids=["sync", "pace", "wait", "drained", "restart"],
)
def test_no_token_is_older_than_the_bound(
    asynckit: Run, tiny_llama: Path, sums: Path, tmp_path: Path, settings: tuple[str, ...], bound: int
) -> None:
    """Every group is used once, and no token of it is older than it may be."""
    done = asynckit(
        "rollout", "-m", str(tiny_llama), "-p", str(sums), "-r", "none", "--out", "r", *SIMULATED, *settings
    )
    assert done.returncode == 0, done.stderr
    found = records(tmp_path / "r")
    assert len(found) == 20
    assert all(each.consumed_version is not None for each in found)
    assert max(ages(found)) <= bound
    # Two groups a version, so ten groups make five.
    assert Counter(each.consumed_version for each in found) == dict.fromkeys(range(5), 4)


def test_what_comes_too_late_ends_as_stale(
    asynckit: Run, tiny_llama: Path, sums: Path, tmp_path: Path
) -> None:
    """With drop nobody waits for a straggler: its samples are recorded, and nobody trains on them."""
    arguments = (
        "rollout",
        "-m",
        str(tiny_llama),
        "-p",
        str(sums),
        "-r",
        "none",
        "--out",
        "r",
        "--json",
        *SIMULATED,
    )
    drop = (
        "async_training.policy=drop",
        "async_training.max_staleness=0",
        "async_training.staleness_threshold=2",
    )
    done = asynckit(*arguments, *drop)
    assert done.returncode == 0, done.stderr
    groups = json.loads(done.stdout)["groups"]
    found = records(tmp_path / "r")
    assert ages(found) == {0}
    stale = [each for each in found if each.status == "stale"]
    assert len(stale) == 2 * groups["stale"] > 0
    assert all(each.consumed_version is None for each in stale)
    assert groups["stale"] + groups["completed"] == 10


def test_groups_without_a_signal_are_replaced(
    asynckit: Run, tiny_llama: Path, sums: Path, tmp_path: Path
) -> None:
    """As many groups as were asked for have rewards that differ; which ones doesn't depend on their order."""
    (tmp_path / "rewards.py").write_text(REWARD)
    arguments = ("rollout", "-m", str(tiny_llama), "-p", str(sums), "-r", "rewards:parity", "--json")
    found = []
    for out, replicas in (("a", 1), ("b", 2)):
        filtering = ("rollout.filter_groups=true", f"rollout.replicas={replicas}", *SIMULATED[:4])
        done = asynckit(*arguments, "--out", out, *filtering, "rollout.n=2")
        assert done.returncode == 0, done.stderr
        groups = json.loads(done.stdout)["groups"]
        assert groups["completed"] == 10
        assert groups["filtered"] > 0
        found.append(records(tmp_path / out))
    for run in found:
        for each in run:
            assert (each.status == "filtered") == (each.advantage == 0.0)
    assert {(each.uid, each.status) for each in found[0]} == {(each.uid, each.status) for each in found[1]}


def test_every_token_has_the_logprob_of_the_weights_that_sampled_it(
    asynckit: Run, tiny_llama: Path, sums: Path, tmp_path: Path
) -> None:
    """Weights change in mid-response; the records say where, and the old and new weights confirm it."""
    learner = ("learner.kind=simulated", "learner.batch_size=1", "learner.change_weights=true")
    quick = ("learner.step_seconds=constant(0)", "async_training.trigger_parameter_sync_step=1")
    ahead = ("async_training.staleness_threshold=3", "async_training.on_update=recompute_kv")
    settings = (*TINY, *learner, *quick, *ahead, "sampling.max_tokens=64", "rollout.n=2")
    done = asynckit("rollout", "-m", str(tiny_llama), "-p", str(sums), "-r", "none", "--out", "r", *settings)
    assert done.returncode == 0, done.stderr
    found = records(tmp_path / "r")
    assert any(len(each.version_spans) > 1 for each in found), "no update came while something was generated"
    assert worst_difference(tiny_llama, found, LearnerConfig(kind="simulated", change_weights=True)) < 1e-3


def worst_difference(folder: Path, found: list[Trajectory], config: LearnerConfig) -> float:
    """Between the recorded logprobs and those of a forward pass with the weights of each token's version."""
    worst, learner = 0.0, SimulatedLearner(config, ModelConfig(name=str(folder)))
    for version in {version for each in found for _, _, version in each.version_spans}:
        model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
        weights = asyncio.run(learner.weights(version)) or load_file(folder / "model.safetensors")
        model.load_state_dict(weights, strict=False)
        for each in found:
            ids = torch.tensor([each.prompt_ids + each.response_ids])
            with torch.inference_mode():
                logits = model(ids).logits[0, len(each.prompt_ids) - 1 : -1].float()
            chosen = logits.log_softmax(-1)[range(len(each.response_ids)), each.response_ids]
            difference = (chosen - torch.tensor(each.logprobs)).abs()
            for start, end, sampled_by in each.version_spans:
                if sampled_by == version:
                    worst = max(worst, difference[start:end].max().item())
    return worst


def test_a_killed_run_gives_the_learner_every_group_once(
    tiny_llama: Path, sums: Path, tmp_path: Path
) -> None:
    """First the learner dies, then everything; resumed, it has version by version, within the bound."""
    arguments = ["rollout", "-m", str(tiny_llama), "-p", str(sums), "-r", "none", "--out", "r", *SIMULATED]
    command = [sys.executable, "-m", "asynckit"]
    settings, mark = ["async_training.staleness_threshold=1", "rollout.part_samples=4"], uuid4().hex
    options: dict[str, Any] = {
        "cwd": tmp_path,
        "env": environment(TEST_MARK=mark),
        "stdout": subprocess.DEVNULL,
    }
    with subprocess.Popen([*command, *arguments, *settings], start_new_session=True, **options) as process:
        deadline = time.monotonic() + 90
        while not list(tmp_path.glob("r/trajectories/part-*")):
            assert process.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.02)
        kill(pid for pid, name in family(mark).items() if PARTS["learner"] in name)  # which Ray restarts
        while len(list(tmp_path.glob("r/trajectories/part-*"))) < 2:
            assert process.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.02)
        kill(family(mark))
    done = subprocess.run(
        [*command, "rollout", "--resume", "--out", "r"], check=False, timeout=120, **options
    )
    assert done.returncode == 0
    found = records(tmp_path / "r")
    assert max(ages(found)) <= 1
    assert Counter(each.consumed_version for each in found) == dict.fromkeys(range(5), 4)
