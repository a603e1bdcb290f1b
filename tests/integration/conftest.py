"""The real command line in a process of its own."""

import subprocess
import sys
from pathlib import Path

import pytest
from command_line import Run, environment


@pytest.fixture
def asynckit(tmp_path: Path) -> Run:
    """Run ``asynckit`` with arguments in an empty folder; returns when it has ended."""

    def run(*arguments: str, **extra: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "asynckit", *arguments],
            cwd=tmp_path,
            env=environment(**extra),
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
