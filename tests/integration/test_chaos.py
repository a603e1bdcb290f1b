"""Whatever is killed, whenever: a run comes to its end, and its records are those of an undisturbed one."""

import json
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
from small_disks import grow, small_disk

from asynckit.rollout.sinks import read_trajectories

GROUPS = 40
# Twice, which makes twenty deaths. The first seven heal, the others end the command.
VICTIMS = (*["rollouter"] * 3, *["queue", "reward worker"] * 2, "task runner", *["everything"] * 2)
ENDING = ("task runner", "everything")
SETTINGS = (
    "rollout.n=2",
    "rollout.replicas=2",
    "rollout.cpus_per_replica=0.5",
    "rollout.part_samples=8",
    "rollout.queue_size=4",
    "rollout.max_attempts=20",  # chance may strike the same group again and again
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
def undisturbed(
    tiny_llama: Path, tmp_path_factory: pytest.TempPathFactory, shared_ray: dict[str, str]
) -> list[str]:
    """The records of a run that nobody disturbs, with one rollouter instead of two."""
    folder = tmp_path_factory.mktemp("undisturbed")
    todo = [*begin(tiny_llama, folder), "rollout.replicas=1"]
    subprocess.run(todo, cwd=folder, env=environment(**shared_ray), check=True, timeout=120)
    return records(folder)


def completed(folder: Path) -> int:
    """How many groups the ledger has the records of."""
    try:
        with closing(sqlite3.connect(f"file:{folder}/run/ledger.sqlite?mode=ro", uri=True)) as ledger:
            query = "SELECT COUNT(*) FROM groups WHERE state IN ('completed', 'committed')"
            return int(ledger.execute(query).fetchone()[0])
    except sqlite3.OperationalError:
        return 0  # it has not been made yet


def strike(victim: str, moment: int, folder: Path, mark: str, process: subprocess.Popen[bytes]) -> bool:
    """Kill one of a part's processes, or every process, once so many groups are completed.

    Returns whether there was something to kill before the command ended.
    """
    deadline = time.monotonic() + 120
    while process.poll() is None:
        assert time.monotonic() < deadline
        found = [pid for pid, name in family(mark).items() if PARTS.get(victim, "") in name]
        if found and completed(folder) >= moment:
            kill(found if victim in ENDING else [random.choice(found)])  # noqa: S311 - no secret
            return True
        time.sleep(0.01)
    return False


@pytest.mark.parametrize("seed", range(2))
def test_ten_deaths_cost_no_record(
    seed: int, tiny_llama: Path, tmp_path: Path, undisturbed: list[str]
) -> None:
    """Every part dies, and the whole tree, in a random order at random moments."""
    chance = random.Random(seed)  # noqa: S311 - no secret depends on it
    moments = sorted(chance.sample(range(GROUPS - 8), len(VICTIMS)))
    plan = list(zip(chance.sample(VICTIMS, len(VICTIMS)), moments, strict=True))
    todo, mark, deaths = begin(tiny_llama, tmp_path), uuid4().hex, 0
    code: int | None = None
    while code != 0:
        with subprocess.Popen(
            todo,
            cwd=tmp_path,
            env=environment(TEST_MARK=mark),
            start_new_session=True,
            stderr=subprocess.PIPE,
        ) as process:
            victim = ""
            while plan and victim not in ENDING:
                victim, moment = plan.pop(0)
                deaths += strike(victim, moment, tmp_path, mark, process)
            assert process.stderr
            errors, code = process.stderr.read(), process.wait(120)
        assert code == 0 or victim in ENDING, f"{plan} {errors.decode()}"
        todo = command("--resume")
    assert deaths == len(VICTIMS), "the run was over too soon"
    summary = json.loads((tmp_path / "run" / "summary.json").read_bytes())
    assert summary["groups"]["completed"] == summary["submitted"] == GROUPS
    assert not list((tmp_path / "run" / "trajectories").glob(".*"))
    assert records(tmp_path) == undisturbed


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A folder with room for little."""
    with small_disk(tmp_path / "disk", "200k") as folder:
        yield folder


def test_a_full_disk_ends_the_run_and_loses_nothing(
    tiny_llama: Path, disk: Path, shared_ray: dict[str, str]
) -> None:
    """In bounded time, with exit code 1 and the mend; once there is room, the run goes on."""
    lengths = ("simulated.response_tokens=constant(200)", "simulated.sequence_seconds=0")
    quick = ("simulated.step_seconds=constant(0)", "simulated.prefill_token_seconds=0", "rollout.n=4")
    todo = [*begin(tiny_llama, disk), *lengths, *quick, "sampling.max_tokens=400"]
    options: dict[str, Any] = {
        "cwd": disk,
        "env": environment(**shared_ray),
        "timeout": 120,
        "text": True,
    }
    full = subprocess.run(todo, check=False, capture_output=True, **options)
    assert full.returncode == 1, full.stderr
    assert "free some space" in full.stderr
    grow(disk, "30m")
    done = subprocess.run(command("--resume"), check=False, capture_output=True, **options)
    assert done.returncode == 0, done.stderr
    assert len(records(disk)) == 4 * GROUPS
