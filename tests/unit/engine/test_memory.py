"""Free memory: a container's limit counts."""

from pathlib import Path

from asynckit.engine.memory import available_bytes


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
