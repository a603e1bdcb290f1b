"""The description of a machine comes from its files, and is whole where some are missing."""

from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import cast

import msgspec
import pytest
from simulated_nvml import UUID, SimulatedNvml

from asynckit.bench.cpu_state import cpu_model, describe_cpu, describe_memory, is_fixed_low, read_cpu_state
from asynckit.bench.environment import Watch, open_watch
from asynckit.bench.gpu_sensors import open_sensors

STAT = "cpu  100 20 30 4000 5 6 7 8 0 0\ncpu0 100 20 30 4000 5 6 7 8 0 0\n"
H100 = SimpleNamespace(
    name="NVIDIA H100 80GB HBM3",
    major=9,
    minor=0,
    multi_processor_count=132,
    total_memory=84_900_000_000,
    L2_cache_size=52_428_800,
)


def put(root: Path, path: str, text: str) -> None:
    file = root / path
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text, encoding="utf-8")


def test_a_cpu_is_described_from_its_files(tmp_path: Path) -> None:
    """Model, governor, turbo, caches and the limit of a container."""
    cpu = "sys/devices/system/cpu"
    put(tmp_path, "proc/cpuinfo", "processor : 0\nmodel name\t: AMD EPYC 9654\nmodel name\t: AMD EPYC 9654\n")
    put(tmp_path, "proc/meminfo", "MemTotal:  1000 kB\nMemAvailable:  600 kB\n")
    put(tmp_path, "sys/fs/cgroup/cpu.max", "250000 100000\n")
    put(tmp_path, f"{cpu}/cpu0/cpufreq/scaling_governor", "schedutil\n")
    put(tmp_path, f"{cpu}/cpu1/cpufreq/scaling_governor", "performance\n")
    put(tmp_path, f"{cpu}/cpufreq/boost", "1\n")
    for index, (level, kind, size) in enumerate([("1", "Data", "32K"), ("3", "Unified", "24M")]):
        for name, text in (("level", level), ("type", kind), ("size", size)):
            put(tmp_path, f"{cpu}/cpu0/cache/index{index}/{name}", text + "\n")
    found = describe_cpu(tmp_path)
    assert found["model"] == "AMD EPYC 9654"
    assert found["governor"] == "performance, schedutil"
    assert found["turbo"] is True
    assert found["quota_cores"] == 2.5
    assert found["caches_bytes"] == {"L1 data": 32 * 2**10, "L3": 24 * 2**20}
    assert describe_memory(tmp_path) == {"total_bytes": 1_024_000, "available_bytes": 614_400}


def test_a_machine_without_these_files_is_described_too(tmp_path: Path) -> None:
    """As macOS, or a container without /sys."""
    found = describe_cpu(tmp_path)
    assert found["model"]
    assert found["governor"] is None
    assert found["caches_bytes"] == {}
    assert describe_memory(tmp_path) == {"total_bytes": None, "available_bytes": None}
    assert read_cpu_state(tmp_path) is None
    assert not is_fixed_low(tmp_path)


def test_an_arm_processor_is_told_by_its_numbers(tmp_path: Path) -> None:
    """Its file has no model name."""
    put(tmp_path, "proc/cpuinfo", "processor : 0\nCPU implementer : 0x41\nCPU part : 0xd4f\n")
    assert cpu_model(tmp_path).endswith("implementer 0x41 part 0xd4f")


@pytest.mark.parametrize(
    ("driver", "governor", "low"),
    [
        ("acpi-cpufreq", "powersave", True),
        ("acpi-cpufreq", "ondemand", False),
        ("intel_pstate", "powersave", False),
        ("amd-pstate-epp", "powersave", False),
    ],
)
def test_powersave_is_slow_only_where_it_holds_the_frequency(
    tmp_path: Path, driver: str, governor: str, low: bool
) -> None:
    """Most laptops run intel_pstate's governor of that name, which scales."""
    put(tmp_path, "sys/devices/system/cpu/cpu0/cpufreq/scaling_driver", driver + "\n")
    put(tmp_path, "sys/devices/system/cpu/cpu0/cpufreq/scaling_governor", governor + "\n")
    assert is_fixed_low(tmp_path) is low


def test_the_counters_of_the_cpu_leave_out_idleness(tmp_path: Path) -> None:
    """User, nice, system and interrupts are work; waiting for a disk is not."""
    put(tmp_path, "proc/stat", STAT)
    state = read_cpu_state(tmp_path)
    assert state is not None
    assert round(state.busy / state.stolen, 6) == (100 + 20 + 30 + 6 + 7) / 8


def test_counters_that_stand_still_are_none(tmp_path: Path) -> None:
    """Sandboxes show zeros."""
    put(tmp_path, "proc/stat", "cpu  0 0 0 0 0 0 0 0 0 0\n")
    assert read_cpu_state(tmp_path) is None


def test_this_machine_is_described_as_json() -> None:
    """The document goes into the report as it is."""
    with open_watch("cpu") as watch:
        found = msgspec.json.decode(msgspec.json.encode(watch.describe()))
        before, after = watch.read(), watch.read()
    assert found["gpu"] is None
    assert found["cpu"]["model"]
    assert found["torch"]["version"]
    assert before.at <= after.at
    assert after.blind == ""


def test_a_gpu_is_described_by_torch_and_nvml() -> None:
    """And its sensors are closed with the watch."""
    nvml = SimulatedNvml(processes=(11,))
    sensors = open_sensors(UUID, cast("ModuleType", nvml))
    with Watch(H100, sensors) as watch:
        gpu = msgspec.json.decode(msgspec.json.encode(watch.describe()))["gpu"]
        state = watch.read().gpu
    assert (gpu["name"], gpu["driver"], gpu["l2_cache_bytes"]) == (H100.name, "580.95.05", 52_428_800)
    assert gpu["at_start"]["processes"] == 1
    assert state is not None
    assert state.sm_clock == 1980
    assert nvml.opened == 0


@pytest.mark.parametrize(
    "text",
    [
        "NVRM version: NVIDIA UNIX x86_64 Kernel Module  570.86.15  Thu Jan 23 01:47:16 UTC 2026\n",
        "NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  570.86.15  Release Build\n",
    ],
)
def test_without_nvml_the_kernel_names_the_driver(tmp_path: Path, text: str) -> None:
    """Comparisons need it; every reading says why there are no sensors."""
    put(tmp_path, "proc/driver/nvidia/version", text + "GCC version:  gcc version 12.3.0\n")
    watch = Watch(H100, blind="nvidia-ml-py is not installed", root=tmp_path)
    gpu = watch.describe()["gpu"]
    assert gpu["driver"] == "570.86.15"
    assert gpu["sensors"] == watch.read().blind == "nvidia-ml-py is not installed"
