"""Free memory: a container's limit counts, droppable files don't; what is freed can be given back."""

from pathlib import Path

import torch

from asynckit.engine.config import EngineConfig
from asynckit.engine.engine import Engine
from asynckit.engine.memory import available_bytes
from asynckit.models.config import ModelConfig
from asynckit.models.resolve import resolve_model

V1 = ("memory.limit_in_bytes", "memory.usage_in_bytes")
V2 = ("memory.max", "memory.current")


def machine(tmp_path: Path, own: str = "0::/\n") -> tuple[Path, Path, Path]:
    """Files of a machine with 1 MB to give and no limits: meminfo, the root of cgroups, the own cgroup."""
    meminfo, cgroup, mine = tmp_path / "meminfo", tmp_path / "cgroup", tmp_path / "own"
    meminfo.write_text("MemTotal: 2000 kB\nMemAvailable: 1000 kB\n")
    mine.write_text(own)
    cgroup.mkdir()
    return meminfo, cgroup, mine


def limit(folder: Path, names: tuple[str, str], limit: str, used: int, stat: str = "") -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in zip((*names, "memory.stat"), (limit, used, stat), strict=True):
        (folder / name).write_text(f"{content}\n" if name != "memory.stat" else stat)


def resident_bytes() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096


def test_the_smaller_of_machine_and_container_counts(tmp_path: Path) -> None:
    """A cgroup limit below the machine's free memory wins; "max" sets none."""
    meminfo = tmp_path / "meminfo"
    meminfo.write_text("MemTotal: 100 kB\nMemAvailable:   64 kB\n")
    assert available_bytes(meminfo, tmp_path) == 64 * 1024
    (tmp_path / "memory.max").write_text("40000\n")
    (tmp_path / "memory.current").write_text("10000\n")
    assert available_bytes(meminfo, tmp_path) == 30000
    (tmp_path / "memory.max").write_text("max\n")
    assert available_bytes(meminfo, tmp_path) == 64 * 1024


def test_cached_files_that_can_be_dropped_are_free(tmp_path: Path) -> None:
    """Reading a large model fills the cache of a container, which leaves as much room as before."""
    one = machine(tmp_path)
    limit(one[1], V2, "90000", 80000, "anon 5000\ninactive_file 60000\nactive_file 7\n")
    assert available_bytes(*one) == 70000
    limit(one[1] / "memory", V1, "50000", 40000, "inactive_file 1\ntotal_inactive_file 30000\n")
    assert available_bytes(*one) == 40000


def test_the_own_cgroup_and_those_above_it_count(tmp_path: Path) -> None:
    """The smallest limit on the way from the root to the process wins, whichever it is."""
    one = machine(tmp_path, "5:cpu,memory:/x/y\n1:name=systemd:/\n0::/a/b\n")
    limit(one[1] / "a" / "b", V2, "90000", 20000)
    assert available_bytes(*one) == 70000
    limit(one[1] / "a", V2, "80000", 20000)
    assert available_bytes(*one) == 60000
    limit(one[1] / "a" / "b", V2, "max", 20000)
    limit(one[1] / "other", V2, "1", 1)
    assert available_bytes(*one) == 60000
    limit(one[1] / "memory" / "x" / "y", V1, "50000", 20000)
    limit(one[1] / "memory", V1, str(2**63 - 4096), 20000)
    assert available_bytes(*one) == 30000


def test_a_path_of_the_outside_leaves_the_root(tmp_path: Path) -> None:
    """Inside a container the process's path may not exist or lead out of what is mounted."""
    for index, path in enumerate(("/docker/123", "/../../else", "/")):
        (tmp_path / str(index)).mkdir()
        one = machine(tmp_path / str(index), f"0::{path}\n")
        limit(one[1], V2, "90000", 20000)
        limit(one[1].parent / "else", V2, "1", 1)
        assert available_bytes(*one) == 70000


def test_a_closed_engine_gives_freed_memory_back(tiny_llama: Path) -> None:
    """Malloc is told to keep what is freed for the next pass, so it must be told when there is none."""
    model = ModelConfig(name=str(tiny_llama))
    engine = Engine.load(EngineConfig(device="cpu", kv_cache_tokens=64), model, resolve_model(model))
    tensors = [torch.ones(2**20) for _ in range(64)]  # 4 MiB each, below the size that is mapped
    full = resident_bytes()
    del tensors
    kept = resident_bytes()
    engine.close()
    assert resident_bytes() < full - 128 * 2**20 < kept
