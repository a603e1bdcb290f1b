"""Processes of a run that a test has started: found by a mark in their environment, and killed."""

import os
import signal
from collections.abc import Iterable
from pathlib import Path

# What the parts of a rollout call themselves.
PARTS = {
    "rollouter": "ray::FullyAsyncRollouter",
    "queue": "ray::MessageQueue",
    "reward worker": "ray::RewardWorker",
    "learner": "ray::SimulatedLearner",
    "task runner": "ray::FullyAsyncTaskRunner",
}


def family(mark: str) -> dict[int, str]:
    """Command lines of the processes that have ``mark`` in their environment, by process id."""
    found = {}
    for entry in Path("/proc").iterdir():
        try:
            if entry.name.isdigit() and mark.encode() in (entry / "environ").read_bytes():
                found[int(entry.name)] = (entry / "cmdline").read_text()
        except OSError:
            continue  # it ended while we looked
    return found


def kill(pids: Iterable[int]) -> None:
    """End processes as the kernel's memory killer does."""
    for pid in pids:
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            continue  # it died with another one
