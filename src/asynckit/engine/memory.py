"""How much memory a process may still take, and how it keeps what it has."""

import ctypes
import gc
from dataclasses import dataclass
from pathlib import Path

# Of glibc's mallopt(3).
_TRIM_THRESHOLD, _MMAP_THRESHOLD, _ARENA_MAX = -1, -3, -8


@dataclass(frozen=True)
class _Files:
    """What one version of cgroups calls the files of its memory controller, and where they lie."""

    controller: str  # as /proc/self/cgroup names it
    folder: str
    limit: str
    usage: str
    reclaimable: str  # the line of memory.stat that counts cached files which can be dropped


_VERSIONS = (
    _Files("", "", "memory.max", "memory.current", "inactive_file"),
    _Files("memory", "memory", "memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
)


def available_bytes(
    proc: Path = Path("/proc/meminfo"),
    cgroup: Path = Path("/sys/fs/cgroup"),
    own: Path = Path("/proc/self/cgroup"),
) -> int:
    """Bytes that can still be allocated without swapping, cgroup v1 and v2 limits considered.

    The smallest of what the machine allows, what the process's own cgroup does, and every cgroup above it.
    Cached files that can be dropped count as free.

    Args:
        proc: says what the machine has.
        cgroup: where the cgroups are mounted.
        own: says which cgroup the process is in.
    """
    limits = [_meminfo(proc)]
    for files in _VERSIONS:
        for folder in _way_down(cgroup / files.folder, _path_of(files.controller, own)):
            remaining = _cgroup_remaining(folder, files)
            if remaining is not None:
                limits.append(remaining)
    return max(0, min(limits))


def _meminfo(proc: Path) -> int:
    for line in proc.read_text().splitlines():
        if line.startswith("MemAvailable:"):
            return int(line.split()[1]) * 1024
    raise RuntimeError(f"{proc} has no MemAvailable line")


def _path_of(controller: str, own: Path) -> str:
    """The process's path in one hierarchy; ``own`` has lines ``number:controllers:path``."""
    for line in own.read_text().splitlines() if own.is_file() else ():
        _, controllers, path = line.split(":", 2)
        if controller in controllers.split(","):
            return path
    return "/"


def _way_down(root: Path, path: str) -> list[Path]:
    """The folders from a hierarchy's root to the process's own, as far as they are visible.

    In a container the path may be the one outside of it, of which nothing but the root is there.
    """
    parts = [part for part in path.split("/") if part]
    if ".." in parts:
        return [root]
    return [root.joinpath(*parts[:depth]) for depth in range(len(parts) + 1)]


def _cgroup_remaining(folder: Path, files: _Files) -> int | None:
    """What a cgroup leaves; None where there is no such cgroup or it sets no limit."""
    limit = folder / files.limit
    if not limit.is_file() or limit.read_text().strip() == "max":
        return None
    used = int((folder / files.usage).read_text())
    return int(limit.read_text()) - used + _reclaimable(folder / "memory.stat", files.reclaimable)


def _reclaimable(stat: Path, name: str) -> int:
    for line in stat.read_text().splitlines() if stat.is_file() else ():
        key, value = line.split()
        if key == name:
            return int(value)
    return 0


def keep_freed_memory() -> None:
    """Let glibc's malloc keep what is freed, for the whole process; does nothing under another libc.

    A pass allocates and frees tensors of some megabytes again and again. By default malloc gives those back
    to the system, which must clear every page anew: up to a sixth of a prefill's time, see docs/profile.md.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt:
        for option, value in ((_MMAP_THRESHOLD, 32 << 20), (_TRIM_THRESHOLD, 2**31 - 1), (_ARENA_MAX, 1)):
            mallopt(option, value)


def give_back_freed_memory() -> None:
    """Return what malloc keeps to the system, after a model was dropped; nothing without glibc."""
    gc.collect()  # models are full of reference cycles
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim:
        trim(0)
