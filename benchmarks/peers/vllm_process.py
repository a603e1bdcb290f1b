"""vLLM for CPUs as one side of a comparison, in a process and a virtual environment of its own.

The process is stopped (SIGSTOP) while other sides run: its threads would otherwise take cores from them.
"""

import atexit
import json
import os
import signal
import subprocess
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from workloads import LONGEST, MOST_SLOTS, Workload

FOLDER = Path(__file__).parent
VENV = FOLDER / ".venv-vllm"
QUIET = {"VLLM_NO_USAGE_STATS": "1", "HF_HUB_OFFLINE": "1"}  # no traffic


class Vllm:
    """A vLLM engine of one request length and batch size, otherwise with its default settings.

    Args:
        path: the model's folder.
        dtype: precision of the weights.
        cpus: cores that it may use.
        tuned: whether it gets what its documentation recommends: the cores by number and Intel's OpenMP.
            Otherwise it chooses by itself, which leaves one core to its scheduler.
        venv: where it is installed.

    Attributes:
        name: as it is called in the results.
        versions: of vllm and torch in there.
        startup_seconds: from starting the process until the first token of a first request.
    """

    def __init__(
        self, path: Path, dtype: str, cpus: Sequence[int], *, tuned: bool = True, venv: Path = VENV
    ) -> None:
        self.name = "vllm" if tuned else "vllm-untuned"
        python = venv / "bin" / "python"
        if not python.exists():
            raise SystemExit(f"{python} is missing: run benchmarks/peers/make_venv.sh first")
        arguments = ["--model", path, "--dtype", dtype, "--max-model-len", LONGEST]
        arguments += ["--max-num-seqs", MOST_SLOTS]
        begin = time.perf_counter()
        self._log = tempfile.TemporaryFile()  # noqa: SIM115 - closed in close()
        self._process = subprocess.Popen(
            [python, FOLDER / "vllm_generate.py", *map(str, arguments)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
            text=True,
            start_new_session=True,  # so that it can be stopped with all its children
            env={**os.environ, **QUIET, **(tuning(venv, cpus) if tuned else {})},
        )
        atexit.register(self.close)  # in a session of its own it does not hear Ctrl-C
        self.versions = self._answer()
        self._ask(Workload(((1, 2, 3),), (1,), 1))
        self.startup_seconds = time.perf_counter() - begin
        self._signal(signal.SIGSTOP)

    def serves(self, workload: Workload) -> bool:  # noqa: ARG002 - part of a side's interface
        """Whether this side can run it."""
        return True

    def run(self, workload: Workload) -> float:
        """Seconds from the first request to the last token, measured over there."""
        self._signal(signal.SIGCONT)
        seconds = self._ask(workload)
        self._signal(signal.SIGSTOP)
        return seconds

    def close(self) -> None:
        """End the process and its children."""
        if self._process.poll() is None:
            self._signal(signal.SIGKILL)  # it holds nothing that a clean end would save
        self._process.wait()
        self._log.close()

    def _ask(self, workload: Workload) -> float:
        assert self._process.stdin
        self._process.stdin.write(json.dumps(asdict(workload)) + "\n")
        self._process.stdin.flush()
        return float(self._answer()["seconds"])

    def _answer(self) -> dict[str, Any]:
        assert self._process.stdout
        line = self._process.stdout.readline()
        if not line:
            self._log.seek(0)
            tail = self._log.read().decode(errors="replace")[-3000:]
            raise SystemExit(f"vLLM ended with exit code {self._process.wait()}:\n{tail}")
        return dict(json.loads(line))

    def _signal(self, number: int) -> None:
        os.killpg(self._process.pid, number)


def tuning(venv: Path, cpus: Sequence[int]) -> dict[str, str]:
    """Environment that vLLM's documentation recommends: the cores by number, and Intel's OpenMP."""
    openmp = venv / "lib" / "libiomp5.so"  # comes with the wheel's dependencies
    if not openmp.exists():
        raise SystemExit(f"{openmp} is missing: make the virtual environment again")
    return {"LD_PRELOAD": str(openmp), "VLLM_CPU_OMP_THREADS_BIND": ",".join(map(str, cpus))}
