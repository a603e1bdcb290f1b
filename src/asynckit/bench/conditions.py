"""What a machine was doing at one moment, as read before and after each row."""

from dataclasses import dataclass, field

IDLE = "idle"
CHOSEN = "clocks set by a person"


@dataclass(frozen=True)
class CpuState:
    """Seconds of work of all cores together, counted since some moment in the past.

    Attributes:
        busy: of anybody, this process too.
        stolen: that a hypervisor gave to other machines.
        own: of this process, all threads.
    """

    busy: float
    stolen: float
    own: float


@dataclass(frozen=True)
class GpuState:
    """One reading of the sensors.

    Attributes:
        sm_clock: of the multiprocessors, MHz.
        memory_clock: MHz.
        power: watts.
        temperature: degrees Celsius.
        reasons: why the clocks are what they are, in words; empty at full speed.
        held_down: seconds for which each reason has held the clocks down, since the driver was loaded.
        processes: numbers of those that use the GPU; None where they cannot be seen.
        unreadable: what could not be read, and why.
    """

    sm_clock: int | None = None
    memory_clock: int | None = None
    power: float | None = None
    temperature: int | None = None
    reasons: tuple[str, ...] = ()
    held_down: dict[str, float] = field(default_factory=dict)
    processes: tuple[int, ...] | None = None
    unreadable: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Conditions:
    """What the machine was doing at one moment.

    Attributes:
        at: seconds of a clock that only rises.
        process: number of this one.
        cores: that this process may use.
        cpu: None where the system does not count.
        fixed_low: whether the governor holds the CPU at its lowest frequency.
        gpu: None where there is none, or where its sensors cannot be read.
        blind: why the sensors of a GPU that is used cannot be read; else empty.
    """

    at: float
    process: int
    cores: int
    cpu: CpuState | None = None
    fixed_low: bool = False
    gpu: GpuState | None = None
    blind: str = ""
