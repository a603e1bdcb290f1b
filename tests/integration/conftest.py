"""The real command line in a process of its own, and a Ray that these processes share."""

import os
import secrets
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from command_line import Run, environment
from ray_head import ray_head

# Before Ray is imported: tests in this process join the shared Ray too.
os.environ |= {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32)}


@pytest.fixture(scope="session")
def shared_ray() -> Iterator[dict[str, str]]:
    """What a process has in its environment to use a Ray that is there already."""
    with ray_head() as access:
        yield access


@pytest.fixture
def asynckit(tmp_path: Path, shared_ray: dict[str, str]) -> Run:
    """Run ``asynckit`` with arguments in an empty folder, on the shared Ray; returns when it has ended."""

    def run(*arguments: str, **extra: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "asynckit", *arguments],
            cwd=tmp_path,
            env=environment(**{**shared_ray, **extra}),
            capture_output=True,
            text=True,
            timeout=240,
            check=False,
        )

    return run


@pytest.fixture
def sums(tmp_path: Path) -> Path:
    """A JSONL file of ten small sums."""
    path = tmp_path / "sums.jsonl"
    lines = [f'{{"prompt": "{i} + 1 = ", "answer": "{i + 1}"}}' for i in range(10)]
    path.write_text("\n".join(lines) + "\n")
    return path
