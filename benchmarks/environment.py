"""What a measurement was taken on, and whether the machine was quiet."""

import os
import platform
import subprocess
from importlib.metadata import version
from pathlib import Path
from typing import Any

_FLAGS = ("avx2", "avx512f", "avx512_bf16", "amx_bf16", "amx_int8")
QUIET_LOAD = 0.5  # one-minute load average above which something else is running


def describe_machine(threads: int) -> dict[str, Any]:
    """CPU, memory, versions, threads and load average."""
    cpu = _cpu_information()
    flags = cpu.get("flags", "").split()
    return {
        "cpu": cpu.get("model name", platform.processor()),
        "cores": len(os.sched_getaffinity(0)),
        "flags": [flag for flag in _FLAGS if flag in flags],
        "memory_gib": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1),
        "threads": threads,
        "python": platform.python_version(),
        **{package: version(package) for package in ("asynckit", "torch", "transformers")},
        "commit": _commit(),
        "load_average_before": round(os.getloadavg()[0], 2),
    }


def _cpu_information() -> dict[str, str]:
    """The first processor of ``/proc/cpuinfo``."""
    first = Path("/proc/cpuinfo").read_text(encoding="utf-8").split("\n\n")[0]
    pairs = (line.partition(":") for line in first.splitlines())
    return {name.strip(): value.strip() for name, _, value in pairs}


def _commit() -> str:
    """The commit that ran, marked when the working tree differs from it."""
    command = ["git", "describe", "--always", "--dirty", "--abbrev=12"]
    folder = Path(__file__).parent
    answer = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    return answer.stdout.strip() or "unknown"
