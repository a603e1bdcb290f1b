"""Rollouts at a server, through the real command line and a real Ray."""

import json
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from command_line import TINY, Run, environment
from openai_server import FINE, Fault, OpenAIServer

from asynckit.rollout.record import Trajectory
from asynckit.rollout.sinks import read_trajectories


@pytest.fixture
def server(tiny_llama: Path) -> Iterator[OpenAIServer]:
    with OpenAIServer(tiny_llama, api_key="s3cret-key") as server:
        yield server


def records(run: Path) -> dict[tuple[str, int], Trajectory]:
    """The records by prompt and sample."""
    found = list(read_trajectories(run / "trajectories"))
    assert len({each.uid for each in found}) == len(found)
    return {(each.messages[0]["content"], each.sample_index): each for each in found}


def without_weights(model: Path, folder: Path) -> Path:
    """The model's tokenizer alone."""
    folder.mkdir()
    for file in model.iterdir():
        if "tokenizer" in file.name or file.suffix == ".jinja":
            (folder / file.name).write_bytes(file.read_bytes())
    return folder


def test_a_server_gives_the_records_that_the_engine_itself_gives(
    asynckit: Run, server: OpenAIServer, tiny_llama: Path, sums: Path
) -> None:
    """Ids, masks and logprobs, from a machine that has no weights; the key is in no file."""
    common = ("-p", str(sums), "-n", "1", "engine.deterministic=true", "sampling.temperature=0.8", *TINY)
    tokenizer = without_weights(tiny_llama, sums.parent / "tokenizer")
    there = asynckit(
        *("rollout", "--engine", "openai", "-m", str(tokenizer), "-o", "there", "--json", *common),
        f"openai.base_urls={server.url}/v1",
        ASYNCKIT_OPENAI__API_KEY="s3cret-key",
    )
    assert there.returncode == 0, there.stderr
    here = asynckit("rollout", "-m", str(tiny_llama), "-o", "here", *common)
    assert here.returncode == 0, here.stderr
    own, found = records(sums.parent / "here"), records(sums.parent / "there")
    assert own.keys() == found.keys()
    assert len(found) == 10
    for key, each in found.items():
        assert each.engine.name == "openai"
        assert each.response_ids == own[key].response_ids
        assert each.prompt_ids == own[key].prompt_ids
        assert each.logprobs == pytest.approx(own[key].logprobs, abs=1e-4)
        assert (each.status, each.stop_reason) == (own[key].status, own[key].stop_reason)
        assert each.version_spans == [(0, len(each.response_ids), 0)]
        assert each.timing.end
        assert each.timing.end > (each.timing.start or 0.0)
    for file in (sums.parent / "there").rglob("*"):
        assert not file.is_file() or b"s3cret-key" not in file.read_bytes()


def test_a_lost_server_ends_the_run_which_goes_on_when_it_is_back(
    asynckit: Run, shared_ray: dict[str, str], server: OpenAIServer, tiny_llama: Path, sums: Path
) -> None:
    """Exit code 5 within the limit, what was finished stays, and nothing is missing or twice in the end."""
    halfway = threading.Event()

    def half_of_it(body: dict[str, Any]) -> bool:
        asked = [each for each in server.bodies if each["max_tokens"] == 8]
        if body["max_tokens"] == 8 and len(asked) == 6:
            server.lasting = Fault(hang=True)  # so that the run can't end before the server does
            halfway.set()
        return False

    server.breaks = half_of_it
    command = [
        *("rollout", "--engine", "openai", "-m", str(tiny_llama), "-p", str(sums), "-n", "1", "-o", "out"),
        *(f"openai.base_urls={server.url}", "openai.unreachable_timeout=2", "sampling.max_tokens=8"),
    ]
    key = {"ASYNCKIT_OPENAI__API_KEY": "s3cret-key"}
    with subprocess.Popen(
        [sys.executable, "-m", "asynckit", *command],
        cwd=sums.parent,
        env=environment(**shared_ray, **key),
        stderr=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        text=True,
    ) as process:
        assert halfway.wait(120)
        server.stop()
        _, error = process.communicate(timeout=60)
    assert process.returncode == 5, error
    assert "openai.unreachable_timeout=2 s" in error
    assert "--resume" in error
    assert "Traceback" not in error
    before = records(sums.parent / "out")
    server.breaks, server.lasting = (lambda _: False), FINE
    server.start()
    refused = asynckit("rollout", "--resume", "-o", "out")
    assert refused.returncode == 3, "the key is masked in config.json"
    assert "ASYNCKIT_OPENAI__API_KEY" in refused.stderr
    done = asynckit("rollout", "--resume", "-o", "out", "--json", **key)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["groups"]["completed"] == 10
    after = records(sums.parent / "out")
    assert len(after) == 10
    assert all(after[key].response_ids == each.response_ids for key, each in before.items())


def test_what_can_t_be_right_ends_before_anything_is_generated(
    asynckit: Run, server: OpenAIServer, tiny_llama: Path, sums: Path
) -> None:
    """Settings, and a server without token ids: each with its exit code."""
    command = ("rollout", "--engine", "openai", "-m", str(tiny_llama), "-p", str(sums), "-o", "out")
    done = asynckit(*command)
    assert done.returncode == 3
    assert "openai.base_urls" in done.stderr
    server.lasting = Fault(change=lambda choice: choice.pop("token_ids") and None)
    done = asynckit(*command, f"openai.base_urls={server.url}", "openai.api_key=s3cret-key")
    assert done.returncode == 5
    assert "no token_ids" in done.stderr
    assert "vLLM" in done.stderr
    assert "s3cret-key" not in done.stderr
    assert not (sums.parent / "out").exists()
