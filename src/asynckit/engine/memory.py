"""How much memory a process may still take, and how it keeps what it has."""

import ctypes
from pathlib import Path

# Of glibc's mallopt(3).
_TRIM_THRESHOLD, _MMAP_THRESHOLD, _ARENA_MAX = -1, -3, -8


def available_bytes(proc: Path = Path("/proc/meminfo"), cgroup: Path = Path("/sys/fs/cgroup")) -> int:
    """Bytes that can still be allocated without swapping, cgroup v1 and v2 limits considered.

    The smaller of what the machine and what the container allow.
    """
    limits = [_meminfo(proc)]
    for limit, usage in (
        ("memory.max", "memory.current"),
        ("memory/memory.limit_in_bytes", "memory/memory.usage_in_bytes"),
    ):
        remaining = _cgroup_remaining(cgroup / limit, cgroup / usage)
        if remaining is not None:
            limits.append(remaining)
    return max(0, min(limits))


def _meminfo(proc: Path) -> int:
    for line in proc.read_text().splitlines():
        if line.startswith("MemAvailable:"):
            return int(line.split()[1]) * 1024
    raise RuntimeError(f"{proc} has no MemAvailable line")


def _cgroup_remaining(limit: Path, usage: Path) -> int | None:
    """What a cgroup leaves; None where there is no such cgroup or it sets no limit."""
    if not limit.is_file() or limit.read_text().strip() == "max":
        return None
    return int(limit.read_text()) - int(usage.read_text())


def keep_freed_memory() -> None:
    """Let glibc's malloc keep what is freed, for the whole process; does nothing under another libc.

    A pass allocates and frees tensors of some megabytes again and again. By default malloc gives those back
    to the system, which must clear every page anew: up to a sixth of a prefill's time, see docs/profile.md.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt:
        for option, value in ((_MMAP_THRESHOLD, 32 << 20), (_TRIM_THRESHOLD, 2**31 - 1), (_ARENA_MAX, 1)):
            mallopt(option, value)
