"""Whatever is killed, whenever: a run comes to its end, and its records are those of an undisturbed one."""

import json
import os
import random
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import asdict
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from command_line import environment
from processes import PARTS, family, kill

from asynckit.rollout.sinks import read_trajectories

GROUPS = 40
MOUNT = ("/usr/bin/env", "mount")
HEALED = ("rollouter", "queue", "reward worker")  # the run goes on; the others end it
ENDING = ("task runner", "everything")
SETTINGS = (
    "rollout.n=2",
    "rollout.replicas=2",
    "rollout.cpus_per_replica=0.5",
    "rollout.part_samples=8",
    "rollout.queue_size=4",
    "engine.max_running=4",
    "simulated.response_tokens=lognormal(15,60)",
    "simulated.step_seconds=constant(0.01)",
)
REWARD = "def length(response):\n    return float(len(response))\n"


def command(*more: str) -> list[str]:
    """A rollout with the simulated engine into the folder ``run``."""
    return [sys.executable, "-m", "asynckit", "rollout", "--out", "run", "--quiet", *more]


def begin(model: Path, folder: Path) -> list[str]:
    """Put prompts and a reward into a folder; returns the command that begins a run there."""
    folder.mkdir(exist_ok=True)
    prompts = [json.dumps({"prompt": f"{index} + 1 = "}) for index in range(GROUPS)]
    (folder / "sums.jsonl").write_text("\n".join(prompts) + "\n")
    (folder / "rewards.py").write_text(REWARD)
    inputs = ("-m", str(model), "-p", "sums.jsonl", "-r", "rewards:length", "--engine", "simulated")
    return command(*inputs, *SETTINGS)


def records(folder: Path) -> list[str]:
    """A run's records without what differs from try to try, in one order; none of them is there twice."""
    found = [asdict(each) for each in read_trajectories(folder / "run" / "trajectories")]
    assert len({each["uid"] for each in found}) == len(found)
    for each in found:
        del each["timing"], each["attempt"]
    return sorted(json.dumps(each) for each in found)


@pytest.fixture(scope="module")
def undisturbed(tiny_llama: Path, tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """The records of a run that nobody disturbs, with one rollouter instead of two."""
    folder = tmp_path_factory.mktemp("undisturbed")
    one = "rollout.replicas=1"
    subprocess.run([*begin(tiny_llama, folder), one], cwd=folder, env=environment(), check=True, timeout=120)
    return records(folder)


def completed(folder: Path) -> int:
    """How many groups the ledger has the records of."""
    try:
        with closing(sqlite3.connect(f"file:{folder}/run/ledger.sqlite?mode=ro", uri=True)) as ledger:
            query = "SELECT COUNT(*) FROM groups WHERE state IN ('completed', 'committed')"
            return int(ledger.execute(query).fetchone()[0])
    except sqlite3.OperationalError:
        return 0  # it has not been made yet


def wait_for(folder: Path, groups: int, process: subprocess.Popen[bytes]) -> None:
    """Wait until so many groups are completed or the run is over."""
    deadline = time.monotonic() + 120
    while completed(folder) < groups and process.poll() is None:
        assert time.monotonic() < deadline
        time.sleep(0.01)


@pytest.mark.parametrize("seed", range(4))
def test_five_deaths_cost_no_record(
    seed: int, tiny_llama: Path, tmp_path: Path, undisturbed: list[str]
) -> None:
    """One of each part dies, and the whole tree, in a random order at random moments."""
    chance = random.Random(seed)  # noqa: S311 - no secret depends on it
    victims = chance.sample((*HEALED, *ENDING), 5)
    moments = sorted(chance.sample(range(GROUPS - 8), 5))
    todo, mark = begin(tiny_llama, tmp_path), uuid4().hex
    plan = list(zip(victims, moments, strict=True))
    for _ in range(1 + len(ENDING)):
        with subprocess.Popen(
            todo,
            cwd=tmp_path,
            env=environment(TEST_MARK=mark),
            start_new_session=True,
            stderr=subprocess.PIPE,
        ) as process:
            while plan and process.poll() is None:
                victim, moment = plan.pop(0)
                wait_for(tmp_path, moment, process)
                found = family(mark)
                dying = [pid for pid, name in found.items() if PARTS.get(victim, "") in name]
                kill(chance.sample(dying, 1) if victim in HEALED and dying else dying)
                if victim in ENDING:
                    break
            assert process.stderr
            errors, code = process.stderr.read(), process.wait(120)
        todo = command("--resume")
        if code == 0:
            break
        assert victim in ENDING, f"{plan} {errors.decode()}"
    assert code == 0
    assert not plan, "the run was over too soon"
    summary = json.loads((tmp_path / "run" / "summary.json").read_bytes())
    assert summary["groups"]["completed"] == summary["submitted"] == GROUPS
    assert not list((tmp_path / "run" / "trajectories").glob(".*"))
    assert records(tmp_path) == undisturbed


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A folder with room for little."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = [*MOUNT, "-t", "tmpfs", "-o", "size=200k", "tmpfs", str(folder)]
    if os.geteuid() or subprocess.run(mount, check=False, capture_output=True).returncode:
        pytest.skip("a disk can only be made small by root")
    yield folder
    subprocess.run(["/usr/bin/env", "umount", "-l", str(folder)], check=True)


def test_a_full_disk_ends_the_run_and_loses_nothing(tiny_llama: Path, small_disk: Path) -> None:
    """In bounded time, with exit code 1 and the mend; once there is room, the run goes on."""
    lengths = ("simulated.response_tokens=constant(200)", "simulated.step_seconds=constant(0)")
    todo = [*begin(tiny_llama, small_disk), *lengths, "sampling.max_tokens=400", "rollout.n=4"]
    options: dict[str, Any] = {"cwd": small_disk, "env": environment(), "timeout": 120, "text": True}
    full = subprocess.run(todo, check=False, capture_output=True, **options)
    assert full.returncode == 1, full.stderr
    assert "free some space" in full.stderr
    subprocess.run([*MOUNT, "-o", "remount,size=30m", str(small_disk)], check=True)
    done = subprocess.run(command("--resume"), check=False, capture_output=True, **options)
    assert done.returncode == 0, done.stderr
    assert len(records(small_disk)) == 4 * GROUPS
