"""The dry run: every problem is in the list, and the worst one decides the exit code."""

import socket
import sys
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
from openai_server import Fault, OpenAIServer

from asynckit.config.schema import Root
from asynckit.errors import ConfigError, DependencyError, InputError, RequestError, UsageError, WorkFailed
from asynckit.rollout.config import RolloutConfig
from asynckit.rollout.openai_config import OpenAIConfig
from asynckit.rollout.planning.dry_run import dry_run
from asynckit.rollout.planning.findings import Findings
from asynckit.rollout.planning.resource_checks import record_bytes
from asynckit.rollout.planning.reward_trial import try_reward
from asynckit.rollout.prompting.prompts import Prompt
from asynckit.rollout.scoring.rewards import Failure, RewardInput, Score

PROMPT = Prompt(0, "1 + 1 =", None, "2", "sums", {}, "sums:1")
REWARDS = """
import os, sys, time
print("rewards print while they are imported")

def one(response): return 1
def raises(response): raise ValueError("no")
def hangs(response): time.sleep(600)
def dies(response): os._exit(3)
def forks(response):
    if os.fork() == 0: time.sleep(600)
    time.sleep(600)
"""


def tried(name: str, folder: Path) -> Score | Failure:
    (folder / "dry_run_rewards.py").write_text(REWARDS)
    return try_reward(
        f"dry_run_rewards:{name}",
        RewardInput("2", PROMPT),
        import_paths=(str(folder),),
        args={},
        load_seconds=100.0,
        call_seconds=60.0 if name in {"one", "raises", "dies"} else 0.2,
    )


def test_a_reward_is_tried_in_another_process(tmp_path: Path) -> None:
    """Its score or its failure comes back, and this process has not imported it."""
    assert tried("one", tmp_path) == Score(1.0)
    failed = tried("raises", tmp_path)
    assert isinstance(failed, Failure)
    assert "ValueError: no" in failed.error
    assert "dry_run_rewards" not in sys.modules


@pytest.mark.parametrize(
    ("name", "kind"), [("hangs", InputError), ("forks", InputError), ("dies", WorkFailed)]
)
def test_a_reward_that_never_answers_is_an_error(name: str, kind: type, tmp_path: Path) -> None:
    """A dry run ends, whatever a reward does."""
    with pytest.raises(kind):
        tried(name, tmp_path)


def test_a_reward_that_is_none_is_the_same_error_as_in_a_run(tmp_path: Path) -> None:
    """The child's error is raised here."""
    with pytest.raises(InputError, match="onee"):
        tried("onee", tmp_path)


def test_the_worst_error_is_raised() -> None:
    """The highest exit code, and the first of equal ones; none where nothing is bad."""
    found = Findings()
    found.note("a", "fine")
    found.raise_worst()
    first = InputError("first")
    assert found.attempt("b", lambda: raising(first)) is None
    found.bad("c", InputError("second"))
    found.bad("d", UsageError("third"))
    with pytest.raises(InputError) as caught:
        found.raise_worst()
    assert caught.value is first
    assert [each["exit_code"] for each in found.to_dict()["findings"]] == [None, 4, 4, 2]
    assert found.to_dict()["ok"] is False


def raising(error: Exception) -> None:
    raise error


def test_records_take_what_they_are_expected_to_take() -> None:
    """The estimate grows with samples and their lengths, and JSON lines take more than Parquet."""
    few = RolloutConfig(n=2)
    encoded = [(1,) * 50] * 10
    small = record_bytes(encoded, 10, 100, few)
    assert record_bytes(encoded, 10, 200, few) > small
    assert record_bytes(encoded * 2, 20, 100, few) > small
    assert record_bytes(encoded, 10, 100, replace(few, format="jsonl")) > small
    assert record_bytes(encoded, 1000, 100, few) > 50 * small / 6


def checked(folder: Path, model: Path, **sections: Any) -> Findings:
    """A dry run with the tiny model and a file of sums."""
    file = folder / "sums.jsonl"
    if not file.exists():
        lines = [f'{{"prompt": "{i} + 1 = ", "answer": "{i + 1}"}}' for i in range(10)]
        file.write_text("\n".join(lines) + "\n")
    root = Root()
    parts: dict[str, Any] = {
        "model": replace(root.model, name=str(model)),
        "engine": root.engine,
        "simulated": root.simulated,
        "openai": root.openai,
        "sampling": root.sampling,
        "prompts": replace(root.prompts, source=str(file)),
        "reward": root.reward,
        "rollout": replace(root.rollout, out=str(folder / "out"), engine="simulated"),
        "async_training": root.async_training,
        "learner": root.learner,
        "ray": root.ray,
        **sections,
    }
    return dry_run(**parts, identity="x", overwrite=False, resume=False, quiet=True)


def the_bad(found: Findings) -> dict[str, str]:
    """What each failed check says."""
    return {finding.check: finding.text for finding in found.found if finding.error}


def statuses(found: Findings) -> dict[str, str]:
    return {finding.check: finding.status for finding in found.found}


def test_a_sound_run_passes_every_check_and_nothing_is_written(tmp_path: Path, tiny_llama: Path) -> None:
    """Nine checks, none bad."""
    found = checked(tmp_path, tiny_llama)
    assert set(statuses(found).values()) == {"ok"}
    assert len(found.found) == 9
    assert sorted(path.name for path in tmp_path.iterdir()) == ["sums.jsonl"]


def test_all_problems_are_found_at_once(tmp_path: Path, tiny_llama: Path) -> None:
    """One that is found does not hide the others."""
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "thesis.tex").touch()
    root = Root()
    found = checked(
        tmp_path,
        tiny_llama,
        learner=replace(root.learner, kind="simulated", step_seconds="slow"),
        sampling=replace(root.sampling, min_tokens=500),
        reward=replace(root.reward, name="exact_mach"),
        ray=replace(root.ray, num_cpus=1),
        rollout=replace(root.rollout, out=str(tmp_path / "out"), cpus_per_replica=2.0, engine="simulated"),
    )
    bad = {finding.check: type(finding.error) for finding in found.found if finding.error}
    assert bad == {
        "settings": ConfigError,
        "lengths": RequestError,
        "reward": InputError,
        "run directory": UsageError,
        "ray": DependencyError,
    }
    with pytest.raises(DependencyError):
        found.raise_worst()


def test_what_depends_on_a_failed_check_is_skipped(tmp_path: Path) -> None:
    """It says what it would have needed."""
    root = Root()
    found = checked(
        tmp_path, tmp_path / "nothing", prompts=replace(root.prompts, source=str(tmp_path / "none.jsonl"))
    )
    assert statuses(found) == {
        "settings": "ok",
        "prompts": "bad",
        "model": "bad",
        "lengths": "skipped",
        "reward": "skipped",
        "run directory": "ok",
        "disk": "skipped",
        "memory": "ok",
        "ray": "ok",
    }


def test_prompts_that_would_be_refused_are_counted(tmp_path: Path, tiny_llama: Path) -> None:
    """By the engine's own rule; within --max-failures they are only worth a note."""
    lines = ['{"prompt": "1 = ", "answer": "1"}', f'{{"prompt": "{"9 " * 200}", "answer": "2"}}']
    (tmp_path / "sums.jsonl").write_text("\n".join(lines) + "\n")
    root = Root()
    small = replace(root.engine, max_model_len=100)
    found = checked(tmp_path, tiny_llama, engine=small)
    bad = next(finding for finding in found.found if finding.error)
    assert bad.check == "lengths"
    assert "1 of 2 prompts would be refused" in bad.text
    assert bad.error
    assert bad.error.where.endswith("sums.jsonl:2")
    allowed = replace(root.rollout, engine="simulated", out=str(tmp_path / "out"), max_failures=4)
    assert not any(
        finding.error for finding in checked(tmp_path, tiny_llama, engine=small, rollout=allowed).found
    )


def test_a_real_engine_s_memory_is_checked(tmp_path: Path, tiny_llama: Path) -> None:
    """A KV cache that no machine has is found before the weights are loaded."""
    root = Root()
    torch = replace(root.rollout, out=str(tmp_path / "out"))
    on_cpu = replace(root.engine, device="cpu")
    assert statuses(checked(tmp_path, tiny_llama, rollout=torch, engine=on_cpu))["memory"] == "ok"
    huge = replace(on_cpu, kv_cache_tokens=10**12)
    assert statuses(checked(tmp_path, tiny_llama, rollout=torch, engine=huge))["memory"] == "bad"


def with_engine(folder: Path, engine: str) -> RolloutConfig:
    return replace(Root().rollout, out=str(folder / "out"), engine=engine)


def test_a_server_is_asked_whether_it_will_do(tmp_path: Path, tiny_llama: Path) -> None:
    """One that is there, with what it has; no weights and no memory are needed here."""
    with OpenAIServer(tiny_llama) as server:
        found = checked(
            tmp_path,
            tiny_llama,
            openai=OpenAIConfig(base_urls=server.url),
            rollout=with_engine(tmp_path, "openai"),
        )
    assert not the_bad(found)
    said = {finding.check: finding.text for finding in found.found}
    assert server.url in said["engine"]
    assert "no weights are needed" in said["model"]
    assert statuses(found)["memory"] == "ok"
    assert statuses(found)["lengths"] == "skipped"


def test_a_server_that_will_not_do_is_found(tmp_path: Path, tiny_llama: Path) -> None:
    """Nobody behind the address, and a server without token ids."""
    rollout = with_engine(tmp_path, "openai")
    with socket.socket() as unused:  # bound but not listening
        unused.bind(("127.0.0.1", 0))
        nobody = OpenAIConfig(base_urls=f"http://127.0.0.1:{unused.getsockname()[1]}")
        bad = the_bad(checked(tmp_path, tiny_llama, openai=nobody, rollout=rollout))
    assert bad.keys() == {"engine"}
    assert "no connection" in bad["engine"]
    with OpenAIServer(tiny_llama) as server:
        server.lasting = Fault(change=lambda choice: choice.pop("token_ids") and None)
        there = OpenAIConfig(base_urls=server.url)
        bad = the_bad(checked(tmp_path, tiny_llama, openai=there, rollout=rollout))
    assert bad.keys() == {"engine"}
    assert "no token_ids" in bad["engine"]


@pytest.mark.skipif(find_spec("vllm") is not None, reason="vLLM is installed")
def test_a_missing_vllm_is_found(tmp_path: Path, tiny_llama: Path) -> None:
    """Before a run has started anything."""
    found = checked(tmp_path, tiny_llama, rollout=with_engine(tmp_path, "vllm"))
    (error,) = (finding.error for finding in found.found if finding.check == "engine")
    assert isinstance(error, DependencyError)
    assert "vLLM is not installed" in error.message


def test_settings_that_contradict_each_other_are_found(tmp_path: Path, tiny_llama: Path) -> None:
    """Taking turns with nobody, and an environment that there is none of."""
    rollout = replace(with_engine(tmp_path, "simulated"), mode="sync", environment="calculatr")
    bad = the_bad(checked(tmp_path, tiny_llama, rollout=rollout))
    assert bad.keys() == {"settings", "environment"}
    assert "without a learner" in bad["settings"]
    assert "calculatr" in bad["environment"]
