"""Whatever is killed, a run ends with the records of an undisturbed one, each of them once."""

import json
import signal
import subprocess
import sys
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from command_line import TINY, environment
from processes import family, kill

from asynckit.rollout.sinks import read_trajectories

# Takes its time, so that there are moments to kill something at.
REWARD = """
import time

def length(response):
    time.sleep(0.05)
    return float(len(response))
"""
GROUPS, SAMPLES = 32, 2


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A working folder with prompts and a reward."""
    path = tmp_path_factory.mktemp("runs")
    lines = [json.dumps({"prompt": f"{index} + 1 = "}) for index in range(GROUPS)]
    (path / "sums.jsonl").write_text("\n".join(lines) + "\n")
    (path / "rewards.py").write_text(REWARD)
    return path


@pytest.fixture(scope="module")
def undisturbed(tiny_llama: Path, folder: Path, shared_ray: dict[str, str]) -> list[str]:
    """The records of a run that nobody disturbs."""
    assert start(folder, *begin(tiny_llama, "undisturbed"), **shared_ray).wait(120) == 0
    return records(folder / "undisturbed")


def begin(model: Path, out: str) -> list[str]:
    """The arguments of a run."""
    settings = ("rollout.part_samples=8", "rollout.queue_size=4", "engine.deterministic=true")
    command = ["rollout", "-m", str(model), "-p", "sums.jsonl", "--reward", "rewards:length", "-o", out]
    return [*command, "-n", str(SAMPLES), *settings, *TINY]


def start(folder: Path, *arguments: str, **extra: str) -> subprocess.Popen[bytes]:
    """Begin or resume a run in a session of its own."""
    return subprocess.Popen(
        [sys.executable, "-m", "asynckit", *arguments],
        cwd=folder,
        env=environment(**extra),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )


def resume(folder: Path, out: str, **extra: str) -> dict[str, Any]:
    """Go on with a run; returns its summary."""
    done = subprocess.run(
        [sys.executable, "-m", "asynckit", "rollout", "--resume", "-o", out, "--json", "--quiet"],
        cwd=folder,
        env=environment(**extra),
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return dict(json.loads(done.stdout))


def records(run: Path) -> list[str]:
    """A run's records without what differs from try to try, in one order; none of them is there twice."""
    found = [asdict(each) for each in read_trajectories(run / "trajectories")]
    assert len({each["uid"] for each in found}) == len(found)
    for each in found:
        del each["timing"], each["attempt"]
    return sorted(json.dumps(each) for each in found)


def wait_for_a_part(run: Path, process: subprocess.Popen[bytes]) -> None:
    """Wait until there is one part more on the disk."""
    deadline, before = time.monotonic() + 90, len(list(run.glob("trajectories/part-*")))
    while len(list(run.glob("trajectories/part-*"))) == before:
        assert process.poll() is None, "it ended before it could be ended"
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_an_ended_run_goes_on(
    tiny_llama: Path, folder: Path, undisturbed: list[str], shared_ray: dict[str, str]
) -> None:
    """Everything is killed, then Ctrl-C, then the command is killed alone: nothing is lost or twice there.

    To resume once more there is nothing to do, which is said with exit code 0 and changes no file.
    """
    out, mark = folder / "ended", uuid4().hex
    with start(folder, *begin(tiny_llama, "ended"), TEST_MARK=mark) as process:
        wait_for_a_part(out, process)
        kill(family(mark))
        assert process.wait(120) == -signal.SIGKILL
    again = ("rollout", "--resume", "-o", "ended")
    with start(folder, *again, **shared_ray) as process:
        wait_for_a_part(out, process)
        process.send_signal(signal.SIGINT)
        assert process.wait(60) == 130
    with start(folder, *again, **shared_ray) as process:
        wait_for_a_part(out, process)
        kill([process.pid])  # what it had started may go on writing for some seconds
        assert process.wait(120) == -signal.SIGKILL
    assert resume(folder, "ended", **shared_ray)["groups"]["completed"] == GROUPS
    summary = (out / "summary.json").read_bytes()
    assert resume(folder, "ended") == json.loads(summary)
    assert (out / "summary.json").read_bytes() == summary
    assert records(out) == undisturbed


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (("--resume",), 2, "--out"),
        (("--resume", "--overwrite", "-o", "undisturbed"), 2, "replaces"),
        (("--resume", "-o", "nowhere"), 2, "no run to resume"),
        (("--resume", "-o", "undisturbed", "-n", "3"), 3, "rollout.n: other settings"),
        (("--resume", "-o", "undisturbed", "prompts.limit=3"), 3, "prompts.limit: other settings"),
    ],
)
@pytest.mark.usefixtures("undisturbed")
def test_a_resume_that_can_t_be_is_refused(
    arguments: tuple[str, ...], code: int, words: str, folder: Path
) -> None:
    """With what is wrong and what to do, before Ray starts; the run is left as it was."""
    before = records(folder / "undisturbed")
    done = subprocess.run(
        [sys.executable, "-m", "asynckit", "rollout", *arguments],
        cwd=folder,
        env=environment(),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == code, done.stderr
    assert words in done.stderr
    assert "Traceback" not in done.stderr
    assert records(folder / "undisturbed") == before


@pytest.mark.usefixtures("undisturbed")
def test_other_prompts_are_refused(folder: Path) -> None:
    """The file has changed since: what is owed could not be told any more."""
    prompts = folder / "sums.jsonl"
    whole = prompts.read_text()
    prompts.write_text(whole.replace("3 + 1", "3 + 2"))
    try:
        done = subprocess.run(
            [sys.executable, "-m", "asynckit", "rollout", "--resume", "-o", "undisturbed"],
            cwd=folder,
            env=environment(),
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
    finally:
        prompts.write_text(whole)
    assert done.returncode == 4, done.stderr
    assert "the prompts are not those of the run" in done.stderr
