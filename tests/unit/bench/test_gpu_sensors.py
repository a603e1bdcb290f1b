"""Sensors tell what NVML says, and what it does not."""

import sys
from types import ModuleType
from typing import cast

import pynvml
import pytest
from simulated_nvml import UUID, NVMLError, SimulatedNvml

from asynckit.bench.gpu_sensors import COUNTERS, REASONS, open_sensors
from asynckit.errors import DependencyError

CAP = SimulatedNvml.NVML_FI_DEV_CLOCKS_EVENT_REASON_SW_POWER_CAP


def as_module(nvml: SimulatedNvml) -> ModuleType:
    return cast("ModuleType", nvml)


def test_the_simulation_has_the_names_and_numbers_of_the_binding() -> None:
    """Else the tests here would hold against nothing."""
    simulated = SimulatedNvml()
    numbers = {name for name in dir(SimulatedNvml) if name.startswith(("NVML_", "nvmlClocks"))}
    assert len(numbers) > 15
    assert {name: getattr(simulated, name) for name in numbers} == {
        name: getattr(pynvml, name) for name in numbers
    }
    assert all(callable(getattr(pynvml, name)) for name in simulated._answers())
    assert issubclass(pynvml.NVMLError, Exception)


def test_every_reason_of_the_binding_has_words() -> None:
    """A new driver's reason for lower clocks would go unseen."""
    start = "nvmlClocksEventReason"
    bits = {getattr(pynvml, name) for name in dir(pynvml) if name.startswith(start)}
    known = {getattr(pynvml, start + name) for name in REASONS}
    assert known == bits - {pynvml.nvmlClocksEventReasonNone, pynvml.nvmlClocksEventReasonAll}
    assert all(hasattr(pynvml, f"NVML_FI_DEV_CLOCKS_EVENT_REASON_{name}") for name in COUNTERS)


def test_a_gpu_is_described_and_read() -> None:
    """Units are watts, MHz and seconds, whatever NVML counts in."""
    nvml = SimulatedNvml(reasons=0x4 | 0x20, held_down={CAP: 1_500_000_000}, processes=(7, 3))
    sensors = open_sensors(UUID, as_module(nvml))
    described, state = sensors.describe(), sensors.read()
    assert described["name"] == "NVIDIA H100 80GB HBM3"
    assert described["driver_cuda"] == "13.0"
    assert described["power_limit_watts"] == 700.0
    assert described["unreadable"] == {}
    assert (state.sm_clock, state.power, state.temperature) == (1980, 690.0, 52)
    assert state.reasons == ("power cap", "heat")
    assert state.held_down == {"power cap": 1.5}
    assert state.processes == (3, 7)
    sensors.close()
    assert nvml.opened == 0


def test_what_a_gpu_refuses_to_say_is_none_with_a_reason() -> None:
    """Virtual GPUs have no power sensor; that ends no run."""
    refused = {"nvmlDeviceGetPowerUsage", "nvmlDeviceGetFieldValues", "nvmlDeviceGetEccMode"}
    sensors = open_sensors(UUID, as_module(SimulatedNvml(refused=refused)))
    state = sensors.read()
    assert state.power is None
    assert state.held_down == {}
    assert state.unreadable == {"power": "Not Supported", "time throttled": "Not Supported"}
    assert sensors.describe()["ecc"] is None


@pytest.mark.parametrize(
    ("uuid", "refused", "words"),
    [(UUID, {"nvmlInit"}, "cannot be used: Not Supported"), ("other", set(), "does not have the GPU other")],
)
def test_sensors_that_cannot_be_opened_say_why(uuid: str, refused: set[str], words: str) -> None:
    """And leave the library closed."""
    nvml = SimulatedNvml(refused=refused)
    with pytest.raises(DependencyError, match=words):
        open_sensors(uuid, as_module(nvml))
    assert nvml.opened == 0


def test_the_real_binding_says_that_there_is_no_driver() -> None:
    """Where there is one, an unknown GPU is refused."""
    with pytest.raises(DependencyError, match=r"NVML (cannot be used|does not have)"):
        open_sensors("00000000-0000-0000-0000-000000000000")


def test_without_the_binding_its_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is optional, and a GPU row without it is doubted with these words."""
    monkeypatch.setitem(sys.modules, "pynvml", None)
    with pytest.raises(
        DependencyError, match=r"nvidia-ml-py is not installed \(pip install 'asynckit\[gpu\]'\)"
    ):
        open_sensors(UUID)


def test_other_failures_are_not_hidden() -> None:
    """Only what NVML refuses is a missing value."""

    class Broken(SimulatedNvml):
        def _answer(self, name: str, arguments: tuple[object, ...]) -> object:
            if name == "nvmlDeviceGetPowerUsage":
                raise RuntimeError("a bug")
            return super()._answer(name, arguments)

    with pytest.raises(RuntimeError, match="a bug"):
        open_sensors(UUID, as_module(Broken())).read()
    assert NVMLError is SimulatedNvml.NVMLError
