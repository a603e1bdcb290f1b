"""Rollouts with environments: real processes, a real Ray and a tiny model that says anything."""

import re
import shlex
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest
import torch
from command_line import TINY, Run
from transformers import AutoModelForCausalLM, AutoTokenizer

from asynckit.rollout.episodes import calculator
from asynckit.rollout.record import Trajectory
from asynckit.rollout.sinks import read_trajectories

# The end-of-text token is likely, so that turns end by it, and others reach their limit.
SHORT = (*TINY, "prompts.chat=true", "sampling.max_tokens=24", "sampling.logit_bias.0=12", "rollout.n=3")

ENVIRONMENTS = '''
import os
import time
from pathlib import Path


class Counter:
    """Answers twice, whatever it hears, with what it knows."""

    def __init__(self, ground_truth, seed):
        self.truth, self.seed, self.heard = ground_truth, seed, []

    async def step(self, text):
        self.heard.append(text)
        return None if len(self.heard) == 3 else f"{self.truth} {self.seed % 1000} {len(self.heard)}"

    def reward(self):
        return len(self.heard)

    def close(self):
        with Path(__file__).with_name("closed").open("a") as file:
            file.write("x")


class Endless:
    def step(self, text):
        return "go on"


class Unlucky:
    """Has a fate that depends on the prompt."""

    def __init__(self, messages):
        self.fate = messages[-1]["content"][0]

    def step(self, text):
        if self.fate == "1":
            raise ValueError("one is unlucky")
        if self.fate == "2":
            time.sleep(600)
        if self.fate == "3":
            os._exit(3)
        if self.fate == "4":
            return 4


def score(messages, response):
    assert messages[-1] == {"role": "assistant", "content": response}
    return len(messages)
'''


def run(asynckit: Run, model: Path, sums: Path, *arguments: str) -> tuple[int, str, list[Trajectory]]:
    """The exit code of a rollout with the environments above, what it said, and its records."""
    (sums.parent / "mine.py").write_text(ENVIRONMENTS)
    done = asynckit("rollout", "-m", str(model), "-p", str(sums), "-o", "out", *SHORT, *arguments)
    return done.returncode, done.stderr, list(read_trajectories(sums.parent / "out" / "trajectories"))


def worst_difference(folder: Path, found: list[Trajectory]) -> float:
    """Between the logprobs of sampled tokens and those of one plain forward pass per sample."""
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    worst = 0.0
    for each in found:
        ids = torch.tensor([each.prompt_ids + each.response_ids])
        with torch.inference_mode():
            logits = model(ids).logits[0, len(each.prompt_ids) - 1 : -1]
        chosen = logits.log_softmax(-1)[range(len(each.response_ids)), each.response_ids]
        sampled = torch.tensor(each.response_mask, dtype=torch.bool)
        worst = max(worst, (chosen - torch.tensor(each.logprobs))[sampled].abs().max().item())
    return worst


def test_tokens_are_those_of_the_conversation_and_their_logprobs_exact(
    asynckit: Run, tiny_llama: Path, sums: Path
) -> None:
    """One pass over prompt and response confirms every sampled token, and the template every other."""
    tokenizer = AutoTokenizer.from_pretrained(tiny_llama)
    digits = [0, *tokenizer.convert_tokens_to_ids(list("0123456789"))]  # one way to encode what they spell
    named = ("rollout.environment=mine:Counter", "-r", "environment", "sampling.min_tokens=2")
    only = f"sampling.allowed_token_ids={digits}"
    code, said, found = run(asynckit, tiny_llama, sums, *named, only)
    assert code == 0, said
    assert len(found) == 30
    assert worst_difference(tiny_llama, found) < 1e-3
    for each in found:
        if each.status == "truncated":
            assert (each.stop_reason, each.messages[-1]["role"]) == ("length", "assistant")
            continue
        assert (each.status, each.stop_reason, each.turns, each.reward) == ("completed", "stop", 3, 3.0)
        assert each.messages[2]["content"].split()[::2] == [each.ground_truth, "1"]
        encoded = tokenizer.apply_chat_template(each.messages, return_dict=True)["input_ids"]
        assert encoded == each.prompt_ids + each.response_ids
    assert any(each.status == "completed" for each in found)
    assert (sums.parent / "closed").read_text() == "x" * len(found)
    again = run(asynckit, tiny_llama, sums, *named, only, "--overwrite", "rollout.replicas=2")
    ids = ({each.uid: each.response_ids for each in records} for records in (found, again[2]))
    assert next(ids) == next(ids), "the same run gives the same tokens, however many engines there are"


def test_what_an_environment_does_wrong_costs_its_samples(
    asynckit: Run, tiny_llama: Path, sums: Path
) -> None:
    """It raises, hangs, dies or talks nonsense: the sample says why, and the others come through."""
    named = ("rollout.environment=mine:Unlucky", "-r", "mine:score", "rollout.environment_timeout=1")
    code, said, found = run(asynckit, tiny_llama, sums, *named, "--max-failures", "30")
    assert code == 0, said
    assert worst_difference(tiny_llama, found) < 1e-3
    errors = Counter(
        (each.messages[0]["content"][0], each.error.split("(")[0].strip()) for each in found if each.error
    )
    assert errors.keys() == {
        ("1", "the environment's step raised ValueError: one is unlucky"),
        ("2", "the environment took longer than rollout.environment_timeout=1 s"),
        ("3", "the environment's process died"),
        ("4", "mine:Unlucky: step returned int"),
    }
    for each in found:
        assert each.response_ids, "what was said is kept"
        if each.error:
            assert (each.status, each.stop_reason, each.reward) == ("failed", "error", None)
        else:
            assert each.reward == 2.0


def test_a_restarted_group_has_tokens_of_one_version(asynckit: Run, tiny_llama: Path, sums: Path) -> None:
    """Weights that come in the middle of a conversation begin it anew, environments included."""
    learner = ("learner.kind=simulated", "learner.batch_size=1", "learner.step_seconds=constant(0.05)")
    often = ("async_training.trigger_parameter_sync_step=1", "async_training.staleness_threshold=3")
    simulated = ("--engine", "simulated", "simulated.vocabulary=300", "simulated.eos_token_id=0")
    lengths = ("simulated.response_tokens=uniform(4,20)", "simulated.step_seconds=constant(0.01)")
    code, said, found = run(
        *(asynckit, tiny_llama, sums, "-r", "environment", "rollout.environment=mine:Counter"),
        *(*learner, *often, *simulated, *lengths, "async_training.on_update=restart"),
    )
    assert code == 0, said
    assert all(len(each.version_spans) == 1 for each in found)
    assert {each.turns for each in found} == {3}
    assert len({each.min_version for each in found}) > 1
    assert len((sums.parent / "closed").read_text()) > len(found), "no group began again"


def documented() -> dict[str, str]:
    """The modules that the page shows, by name, and the arguments of its command."""
    page = (Path(__file__).parents[2] / "docs" / "environments.md").read_text(encoding="utf-8")
    modules = dict(re.findall(r"^```python\n# (\w+\.py)\n(.*?)^```$", page, re.DOTALL | re.MULTILINE))
    (command,) = re.findall(r"^asynckit (rollout .* --out .*)$", page, re.MULTILINE)
    return {**modules, "command": command}


def test_the_documented_environment_is_the_built_in_one() -> None:
    """What a person copies from the page is what we run."""
    assert documented()["my_environment.py"] == Path(calculator.__file__).read_text(encoding="utf-8")


@pytest.mark.embedded
def test_the_documented_example_runs_as_shown(asynckit: Run, tmp_path: Path) -> None:
    """The built-in model calls the tool, reads what it says, and answers with it."""
    shown = documented()
    for name in ("my_environment.py", "make_sums.py"):
        (tmp_path / name).write_text(shown[name])
    subprocess.run([sys.executable, "make_sums.py"], cwd=tmp_path, check=True, timeout=60)
    done = asynckit(*shlex.split(shown["command"]))
    assert done.returncode == 0, done.stderr
    found = list(read_trajectories(tmp_path / "runs" / "tools" / "trajectories"))
    said = ["<tool_call>12 * 7</tool_call>", "84", "The answer is 84."]
    assert any([message["content"] for message in each.messages[-3:]] == said for each in found)
    assert {each.messages[-2]["role"] for each in found if each.turns == 2} == {"tool"}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("rollout.environment=mine:Countre",), "did you mean Counter"),
        (("-r", "environment"), "no environment to give the reward"),
    ],
)
def test_what_can_be_known_is_said_before_anything_is_generated(
    asynckit: Run, tiny_llama: Path, sums: Path, arguments: tuple[str, ...], message: str
) -> None:
    """With the exit code of a wrong input or setting, and without a run directory."""
    (sums.parent / "mine.py").write_text(ENVIRONMENTS)
    done = asynckit("rollout", "-m", str(tiny_llama), "-p", str(sums), "-o", "out", *SHORT, *arguments)
    assert done.returncode in {3, 4}
    assert message in done.stderr
    assert not (sums.parent / "out").exists()
