"""What Linux says of the CPU: which one it is, and what has kept it busy so far.

All is read from ``/proc`` and ``/sys``; what a machine does not have there (macOS, a bare container) is None.
"""

import os
import platform
import re
import time
from pathlib import Path
from typing import Any

from asynckit.bench.conditions import CpuState

ROOT = Path("/")
_SIZES = {"K": 2**10, "M": 2**20, "G": 2**30}


def read_cpu_state(root: Path = ROOT) -> CpuState | None:
    """The counters at this moment; None where the system does not count."""
    line = _first_line(root / "proc/stat").split()
    ticks = [int(each) for each in line[1:] if each.isdigit()]
    if len(ticks) < 8 or not any(ticks):
        return None
    user, nice, system, _idle, _waiting, interrupt, soft_interrupt, stolen = ticks[:8]
    per_second = os.sysconf("SC_CLK_TCK")
    busy = user + nice + system + interrupt + soft_interrupt
    return CpuState(busy / per_second, stolen / per_second, time.process_time())


def describe_cpu(root: Path = ROOT) -> dict[str, Any]:
    """Model, cores, governor, turbo, caches in bytes, and the load of the last 1, 5 and 15 minutes."""
    load = os.getloadavg()
    return {
        "model": cpu_model(root),
        "cores": os.cpu_count(),
        "usable_cores": usable_cores(),
        "quota_cores": _quota(root),
        "governor": governor(root),
        "frequency_driver": _first_line(_frequency(root) / "scaling_driver") or None,
        "turbo": _turbo(root),
        "caches_bytes": _caches(root),
        "load": [round(each, 2) for each in load],
    }


def describe_memory(root: Path = ROOT) -> dict[str, Any]:
    """Bytes of memory in all, and those that are free for the taking."""
    text = _text(root / "proc/meminfo")
    found = dict(re.findall(r"^(MemTotal|MemAvailable):\s+(\d+) kB", text, re.MULTILINE))
    return {
        "total_bytes": int(found["MemTotal"]) * 1024 if "MemTotal" in found else None,
        "available_bytes": int(found["MemAvailable"]) * 1024 if "MemAvailable" in found else None,
    }


def cpu_model(root: Path = ROOT) -> str:
    """Its name; on processors that have none, the architecture and the numbers of maker and part."""
    text = _text(root / "proc/cpuinfo")
    named = re.search(r"^model name\s*:\s*(\S.*)$", text, re.MULTILINE)
    if named:
        return named[1].strip()
    numbers = re.findall(r"^CPU (implementer|part)\s*:\s*(\w+)", text, re.MULTILINE)[:2]
    return " ".join([platform.machine(), *(f"{name} {number}" for name, number in numbers)])


def usable_cores() -> int:
    """The cores that this process may run on."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def governor(root: Path = ROOT) -> str | None:
    """What decides over the cores' frequency; several are joined by a comma; None where nothing is said."""
    files = (root / "sys/devices/system/cpu").glob("cpu[0-9]*/cpufreq/scaling_governor")
    return ", ".join(sorted({_first_line(each) for each in files} - {""})) or None


def is_fixed_low(root: Path = ROOT) -> bool:
    """Whether the governor holds the cores at their lowest frequency.

    Under ``intel_pstate`` and ``amd-pstate-epp`` a governor of the name ``powersave`` scales with the load,
    as others do; under any other driver it is the lowest frequency, always.
    """
    driver = _first_line(_frequency(root) / "scaling_driver")
    scales = driver in {"intel_pstate", "amd-pstate-epp", "amd_pstate_epp"}
    return "powersave" in (governor(root) or "") and not scales


def _frequency(root: Path) -> Path:
    return root / "sys/devices/system/cpu/cpu0/cpufreq"


def _turbo(root: Path) -> bool | None:
    folder = root / "sys/devices/system/cpu"
    boost, no_turbo = _first_line(folder / "cpufreq/boost"), _first_line(folder / "intel_pstate/no_turbo")
    if boost:
        return boost == "1"
    return no_turbo == "0" if no_turbo else None


def _caches(root: Path) -> dict[str, int]:
    """Bytes of each of the first core's caches, such as ``L1 data`` and ``L3``."""
    found = {}
    for folder in sorted((root / "sys/devices/system/cpu/cpu0/cache").glob("index*")):
        level, kind, size = (_first_line(folder / name) for name in ("level", "type", "size"))
        sized = re.fullmatch(r"(\d+)([KMG]?)", size)
        if level and sized:
            name = f"L{level}" if kind == "Unified" else f"L{level} {kind.lower()}"
            found[name] = int(sized[1]) * _SIZES.get(sized[2], 1)
    return found


def _quota(root: Path) -> float | None:
    """The cores' worth of time that a container's limit allows; None where there is none."""
    quota, _, period = _first_line(root / "sys/fs/cgroup/cpu.max").partition(" ")
    return int(quota) / int(period) if quota.isdigit() and period.isdigit() and int(period) else None


def _first_line(path: Path) -> str:
    return _text(path).partition("\n")[0].strip()


def _text(path: Path) -> str:
    """A file's text; empty where it is missing or may not be read, as in many containers."""
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
