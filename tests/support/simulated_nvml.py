"""A GPU's management library, simulated: the functions, numbers and refusals of pynvml that sensors use.

A test checks every name and number against the real binding.
"""

from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

UUID = "0d6a1a84-5d2f-2c1b-8f70-4b1f1b0c9d11"


class NVMLError(Exception):
    """What the library refuses."""


@dataclass
class SimulatedNvml:
    """An H100 whose readings a test may change; ``refused`` are the names of functions that fail."""

    sm_clock: int = 1980
    power: int = 690_000  # milliwatts
    reasons: int = 0
    held_down: dict[int, int] = field(default_factory=dict)  # field number to nanoseconds
    processes: tuple[int, ...] = ()
    refused: set[str] = field(default_factory=set)
    opened: int = 0

    NVMLError = NVMLError
    NVML_SUCCESS = 0
    NVML_CLOCK_SM = 1
    NVML_CLOCK_MEM = 2
    NVML_TEMPERATURE_GPU = 0
    nvmlClocksEventReasonGpuIdle = 0x1  # noqa: N815 - the names are pynvml's
    nvmlClocksEventReasonApplicationsClocksSetting = 0x2  # noqa: N815
    nvmlClocksEventReasonSwPowerCap = 0x4  # noqa: N815
    nvmlClocksEventReasonHwSlowdown = 0x8  # noqa: N815
    nvmlClocksEventReasonSyncBoost = 0x10  # noqa: N815
    nvmlClocksEventReasonSwThermalSlowdown = 0x20  # noqa: N815
    nvmlClocksEventReasonHwThermalSlowdown = 0x40  # noqa: N815
    nvmlClocksEventReasonHwPowerBrakeSlowdown = 0x80  # noqa: N815
    nvmlClocksEventReasonDisplayClockSetting = 0x100  # noqa: N815
    NVML_FI_DEV_CLOCKS_EVENT_REASON_SW_POWER_CAP = 74
    NVML_FI_DEV_CLOCKS_EVENT_REASON_SYNC_BOOST = 76
    NVML_FI_DEV_CLOCKS_EVENT_REASON_SW_THERM_SLOWDOWN = 269
    NVML_FI_DEV_CLOCKS_EVENT_REASON_HW_THERM_SLOWDOWN = 270
    NVML_FI_DEV_CLOCKS_EVENT_REASON_HW_POWER_BRAKE_SLOWDOWN = 271

    def __getattr__(self, name: str) -> Any:
        """Functions, by their answers below."""
        if not name.startswith("nvml"):
            raise AttributeError(name)

        def function(*arguments: Any) -> Any:
            if name in self.refused:
                raise NVMLError("Not Supported")
            return self._answer(name, arguments)

        return function

    def _answer(self, name: str, arguments: tuple[Any, ...]) -> Any:
        if name in {"nvmlInit", "nvmlShutdown"}:
            self.opened += 1 if name == "nvmlInit" else -1
            return None
        if name == "nvmlDeviceGetHandleByUUID":
            if arguments != (f"GPU-{UUID}",):
                raise NVMLError("Not Found")
            return object()
        if name == "nvmlDeviceGetFieldValues":
            return [self._field(number) for number in arguments[1]]
        if name == "nvmlDeviceGetClockInfo":
            return self.sm_clock if arguments[1] == self.NVML_CLOCK_SM else 2619
        return self._answers()[name]

    def _field(self, number: int) -> SimpleNamespace:
        value = SimpleNamespace(ullVal=self.held_down.get(number, 0))
        return SimpleNamespace(nvmlReturn=0 if number in self.held_down else 3, value=value)

    def _answers(self) -> dict[str, Any]:
        return {
            "nvmlDeviceGetName": "NVIDIA H100 80GB HBM3",
            "nvmlSystemGetDriverVersion": "580.95.05",
            "nvmlSystemGetCudaDriverVersion_v2": 13000,
            "nvmlDeviceGetMemoryInfo": SimpleNamespace(total=85_520_809_984),
            "nvmlDeviceGetEnforcedPowerLimit": 700_000,
            "nvmlDeviceGetMaxClockInfo": 1980,
            "nvmlDeviceGetEccMode": [1, 1],
            "nvmlDeviceGetPersistenceMode": 1,
            "nvmlDeviceGetMigMode": [0, 0],
            "nvmlDeviceGetCurrPcieLinkGeneration": 5,
            "nvmlDeviceGetCurrPcieLinkWidth": 16,
            "nvmlDeviceGetMaxPcieLinkGeneration": 5,
            "nvmlDeviceGetPowerUsage": self.power,
            "nvmlDeviceGetTemperature": 52,
            "nvmlDeviceGetCurrentClocksEventReasons": self.reasons,
            "nvmlDeviceGetComputeRunningProcesses": [SimpleNamespace(pid=pid) for pid in self.processes],
        }
