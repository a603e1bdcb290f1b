"""The machine that a run is measured on: described once, and watched before and after each row.

The description goes into the report as it is. Its keys, which comparisons rely on: ``cpu.model``,
``gpu.name`` and ``gpu.driver`` (``gpu`` is None on a machine without one, or where it is not used).
"""

import os
import platform
import re
import time
from pathlib import Path
from typing import Any, Self

from asynckit.bench.conditions import Conditions
from asynckit.bench.cpu_state import (
    ROOT,
    describe_cpu,
    describe_memory,
    is_fixed_low,
    read_cpu_state,
    usable_cores,
)
from asynckit.bench.gpu_sensors import GpuSensors, open_sensors
from asynckit.errors import DependencyError


class Watch:
    """Reads the machine; close it, or use it in a ``with``.

    Args:
        properties: torch's of the GPU, or None on the CPU.
        sensors: of the GPU.
        blind: why there are none.
        root: where ``proc`` and ``sys`` are.
    """

    def __init__(
        self,
        properties: Any = None,
        sensors: GpuSensors | None = None,
        blind: str = "",
        root: Path = ROOT,
    ) -> None:
        self._properties = properties
        self._sensors = sensors
        self._blind = blind
        self._root = root

    def describe(self) -> dict[str, Any]:
        """All that stays the same during a run, ready for JSON."""
        return {
            "system": _system(),
            "cpu": describe_cpu(self._root),
            "memory": describe_memory(self._root),
            "torch": _torch_build(),
            "gpu": self._describe_gpu(),
        }

    def read(self) -> Conditions:
        """What the machine is doing now; takes less than a few milliseconds."""
        return Conditions(
            at=time.perf_counter(),
            process=os.getpid(),
            cores=usable_cores(),
            cpu=read_cpu_state(self._root),
            fixed_low=is_fixed_low(self._root),
            gpu=self._sensors.read() if self._sensors else None,
            blind=self._blind,
        )

    def close(self) -> None:
        """Let go of the sensors."""
        if self._sensors:
            self._sensors.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _describe_gpu(self) -> dict[str, Any] | None:
        if self._properties is None:
            return None
        found = _torch_gpu(self._properties)
        if self._sensors is None:
            return found | {"driver": _driver(self._root), "sensors": self._blind}
        known = {name: value for name, value in self._sensors.describe().items() if value is not None}
        state = self._sensors.read()
        at_start = {
            "sm_clock_mhz": state.sm_clock,
            "power_watts": state.power,
            "temperature_celsius": state.temperature,
            "reasons": list(state.reasons),
            "processes": None if state.processes is None else len(state.processes),
        }
        return found | known | {"sensors": "NVML", "at_start": at_start}


def open_watch(device: str, index: int = 0) -> Watch:
    """A watch over this machine.

    Args:
        device: ``cuda``, where torch has a GPU, or ``cpu``.
        index: of the GPU, as torch counts.

    The sensors of a GPU may be missing; then the watch works without, and every reading says why.
    """
    if device != "cuda":
        return Watch()
    import torch

    properties = torch.cuda.get_device_properties(index)
    try:
        return Watch(properties, open_sensors(str(properties.uuid)))
    except DependencyError as error:
        return Watch(properties, blind=str(error))


def _system() -> dict[str, Any]:
    return {"os": platform.platform(), "python": platform.python_version()}


def _torch_build() -> dict[str, Any]:
    import torch

    return {
        "version": str(torch.__version__),  # a str of its own kind
        "cuda": torch.version.cuda,
        "git": torch.version.git_version,
        "debug": torch.version.debug,
        "cpu_capability": torch.backends.cpu.get_cpu_capability(),
        "threads": torch.get_num_threads(),
        "interop_threads": torch.get_num_interop_threads(),
        "float32_matmul": torch.get_float32_matmul_precision(),
    }


def _torch_gpu(properties: Any) -> dict[str, Any]:
    return {
        "name": properties.name,
        "capability": f"{properties.major}.{properties.minor}",
        "multiprocessors": properties.multi_processor_count,
        "memory_bytes": properties.total_memory,
        "l2_cache_bytes": properties.L2_cache_size,
    }


def _driver(root: Path) -> str | None:
    """The driver's version without NVML: the kernel module says it."""
    try:
        text = (root / "proc/driver/nvidia/version").read_text(encoding="utf-8")
    except OSError:
        return None
    found = re.search(r"\s(\d+(?:\.\d+)+)\s", text)  # the first: x86_64 before it has no dot
    return found[1] if found else None
