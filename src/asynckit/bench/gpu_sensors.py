"""What NVIDIA's management library (NVML) says of a GPU: which one it is, and how it is doing.

The library comes with the driver, its Python binding with the extra ``gpu`` (the package nvidia-ml-py,
imported as ``pynvml``). Virtual machines and older cards lack some sensors: a value that cannot be read is
None, and ``unreadable`` says why. Clocks are MHz, power is watts, temperatures are degrees Celsius.
"""

from collections.abc import Callable
from types import ModuleType
from typing import Any, Protocol, cast

from asynckit.bench.conditions import CHOSEN, IDLE, GpuState
from asynckit.errors import DependencyError

# Bits of the reasons for the present clocks, under pynvml's names without their common beginning.
REASONS = {
    "GpuIdle": IDLE,
    "ApplicationsClocksSetting": CHOSEN,
    "SwPowerCap": "power cap",
    "HwSlowdown": "hardware slowdown",
    "SyncBoost": "sync boost",
    "SwThermalSlowdown": "heat",
    "HwThermalSlowdown": "hardware heat limit",
    "HwPowerBrakeSlowdown": "power brake",
    "DisplayClockSetting": "display clocks",
}
# The driver counts, in nanoseconds, how long each of these has held the clocks down.
COUNTERS = {
    "SW_POWER_CAP": "power cap",
    "SYNC_BOOST": "sync boost",
    "SW_THERM_SLOWDOWN": "heat",
    "HW_THERM_SLOWDOWN": "hardware heat limit",
    "HW_POWER_BRAKE_SLOWDOWN": "power brake",
}


class GpuSensors(Protocol):
    """Where readings come from: NVML, or a simulation of it."""

    def describe(self) -> dict[str, Any]:
        """What does not change: name, driver, limits."""

    def read(self) -> GpuState:
        """The sensors at this moment."""

    def close(self) -> None:
        """Let go of the library."""


class NvmlSensors:
    """One GPU, by NVML."""

    def __init__(self, nvml: ModuleType, handle: Any) -> None:
        self._nvml = nvml
        self._handle = handle

    def describe(self) -> dict[str, Any]:
        """Name, driver, the CUDA version that it allows, memory, limits, and settings that change speed."""
        nvml, unreadable = self._nvml, dict[str, str]()
        ask = _Asking(nvml, unreadable)
        memory = ask("memory", nvml.nvmlDeviceGetMemoryInfo, self._handle)
        limit = ask("power limit", nvml.nvmlDeviceGetEnforcedPowerLimit, self._handle)
        ecc = ask("ECC", nvml.nvmlDeviceGetEccMode, self._handle)
        persistence = ask("persistence mode", nvml.nvmlDeviceGetPersistenceMode, self._handle)
        mig = ask("MIG mode", nvml.nvmlDeviceGetMigMode, self._handle)
        cuda = ask("CUDA version", nvml.nvmlSystemGetCudaDriverVersion_v2)
        sm, of_memory = nvml.NVML_CLOCK_SM, nvml.NVML_CLOCK_MEM
        return {
            "name": ask("name", nvml.nvmlDeviceGetName, self._handle),
            "driver": ask("driver", nvml.nvmlSystemGetDriverVersion),
            "driver_cuda": None if cuda is None else f"{cuda // 1000}.{cuda % 1000 // 10}",
            "memory_bytes": None if memory is None else int(memory.total),
            "power_limit_watts": None if limit is None else limit / 1000,
            "max_sm_clock_mhz": ask("maximum clock", nvml.nvmlDeviceGetMaxClockInfo, self._handle, sm),
            "max_memory_clock_mhz": ask(
                "maximum memory clock", nvml.nvmlDeviceGetMaxClockInfo, self._handle, of_memory
            ),
            "ecc": None if ecc is None else bool(ecc[0]),
            "persistence_mode": None if persistence is None else bool(persistence),
            "mig": None if mig is None else bool(mig[0]),
            "pcie": self._link(ask),
            "unreadable": unreadable,
        }

    def read(self) -> GpuState:
        """Clocks, power, heat, what holds the clocks down, and who uses the GPU."""
        nvml, unreadable = self._nvml, dict[str, str]()
        ask = _Asking(nvml, unreadable)
        power = ask("power", nvml.nvmlDeviceGetPowerUsage, self._handle)
        bits = ask("throttling", nvml.nvmlDeviceGetCurrentClocksEventReasons, self._handle)
        processes = ask("processes", nvml.nvmlDeviceGetComputeRunningProcesses, self._handle)
        return GpuState(
            sm_clock=ask("clock", nvml.nvmlDeviceGetClockInfo, self._handle, nvml.NVML_CLOCK_SM),
            memory_clock=ask("memory clock", nvml.nvmlDeviceGetClockInfo, self._handle, nvml.NVML_CLOCK_MEM),
            power=None if power is None else power / 1000,
            temperature=ask(
                "temperature", nvml.nvmlDeviceGetTemperature, self._handle, nvml.NVML_TEMPERATURE_GPU
            ),
            reasons=_reasons(nvml, bits or 0),
            held_down=self._held_down(ask),
            processes=None if processes is None else tuple(sorted(each.pid for each in processes)),
            unreadable=unreadable,
        )

    def close(self) -> None:
        """Let go of the library."""
        self._nvml.nvmlShutdown()

    def _held_down(self, ask: "_Asking") -> dict[str, float]:
        nvml = self._nvml
        numbers = [getattr(nvml, f"NVML_FI_DEV_CLOCKS_EVENT_REASON_{name}") for name in COUNTERS]
        values = ask("time throttled", nvml.nvmlDeviceGetFieldValues, self._handle, numbers) or ()
        return {
            reason: value.value.ullVal / 1e9
            for reason, value in zip(COUNTERS.values(), values, strict=False)  # none where all are refused
            if value.nvmlReturn == nvml.NVML_SUCCESS
        }

    def _link(self, ask: "_Asking") -> str | None:
        """The present link to the host, which many GPUs slow down while they idle, and the fastest."""
        nvml, handle = self._nvml, self._handle
        now = ask("PCIe", nvml.nvmlDeviceGetCurrPcieLinkGeneration, handle)
        lanes = ask("PCIe", nvml.nvmlDeviceGetCurrPcieLinkWidth, handle)
        most = ask("PCIe", nvml.nvmlDeviceGetMaxPcieLinkGeneration, handle)
        return None if None in {now, lanes, most} else f"generation {now} of {most}, {lanes} lanes"


class _Asking:
    """Calls the library; notes what it refuses."""

    def __init__(self, nvml: ModuleType, unreadable: dict[str, str]) -> None:
        self._nvml = nvml
        self._unreadable = unreadable

    def __call__(self, what: str, function: Callable[..., Any], *arguments: Any) -> Any:
        """What the function returns, or None where NVML refuses."""
        try:
            return function(*arguments)
        except self._nvml.NVMLError as error:
            self._unreadable[what] = str(error)
            return None


def open_sensors(uuid: str, nvml: ModuleType | None = None) -> NvmlSensors:
    """The sensors of the GPU with this number, as torch gives it.

    Args:
        uuid: of the GPU. Indices would not do: CUDA_VISIBLE_DEVICES and CUDA_DEVICE_ORDER change torch's.
        nvml: ``pynvml``, or what stands in for it.

    Raises:
        DependencyError: the binding, the driver's library or the GPU is not there.
    """
    nvml = nvml or _binding()
    try:
        nvml.nvmlInit()
    except nvml.NVMLError as error:
        raise DependencyError(f"NVML cannot be used: {error}", mend="install NVIDIA's driver") from error
    try:
        return NvmlSensors(nvml, nvml.nvmlDeviceGetHandleByUUID(f"GPU-{uuid.removeprefix('GPU-')}"))
    except nvml.NVMLError as error:
        nvml.nvmlShutdown()
        mend = "sensors of a part of a GPU (MIG) are not read"
        raise DependencyError(f"NVML does not have the GPU {uuid}: {error}", mend=mend) from error


def _binding() -> ModuleType:
    try:
        import pynvml
    except ModuleNotFoundError as error:
        mend = "pip install 'asynckit[gpu]'"
        raise DependencyError("the package nvidia-ml-py is not installed", mend=mend) from error
    return cast("ModuleType", pynvml)


def _reasons(nvml: ModuleType, bits: int) -> tuple[str, ...]:
    known = {getattr(nvml, f"nvmlClocksEventReason{name}"): words for name, words in REASONS.items()}
    return tuple(words for bit, words in known.items() if bits & bit)
