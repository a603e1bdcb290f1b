"""What is said between a comparison and the process of one of its sides: a line of JSON for each message.

::

    comparison            side
    Job            ->
                   <-     Ready      the keys of its cases, and the device
    Open(key)      ->
                   <-     Opened     why it can't be timed, and doubts
    Round          ->
                   <-     Took       seconds per call
    end of file    ->                the side ends

``Failed`` is the answer to what went wrong instead.
"""

import msgspec

from asynckit.bench.config import BenchConfig
from asynckit.engine.config import EngineConfig
from asynckit.models.config import ModelConfig


class Job(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a side measures.

    Attributes:
        name: of the side in the report.
        patterns: of ``--case``: cases of the suite, or ``module:function`` or ``module:function@hook``.
        root: of the code that is measured, such as a checked-out revision; empty: what is installed.
        folder: to work in, within ``root``; functions are imported from there. Empty: this one.
        model: whose shapes and weights are measured.
        engine: of cases that run it.
        bench: how to measure.
        lora_compute: off leaves the arithmetic of adapters out.
    """

    name: str
    patterns: tuple[str, ...]
    root: str = ""
    folder: str = ""
    model: ModelConfig = msgspec.field(default_factory=ModelConfig)
    engine: EngineConfig = msgspec.field(default_factory=EngineConfig)
    bench: BenchConfig = msgspec.field(default_factory=BenchConfig)
    lora_compute: bool = True


class Ready(msgspec.Struct, frozen=True, tag="ready"):
    """The side has its cases.

    Attributes:
        keys: of its cases.
        device: ``cuda`` or ``cpu``.
    """

    keys: tuple[str, ...]
    device: str


class Open(msgspec.Struct, frozen=True, tag="open"):
    """Prepare a case and warm up."""

    key: str


class Opened(msgspec.Struct, frozen=True, tag="opened"):
    """What there is to say of a case that is about to be timed.

    Attributes:
        reason: why it can't be; empty if it can.
        failed: whether that is an error.
        doubts: what the checks found.
    """

    reason: str = ""
    failed: bool = False
    doubts: tuple[str, ...] = ()


class Round(msgspec.Struct, frozen=True, tag="round"):
    """Time the open case once more."""


class Took(msgspec.Struct, frozen=True, tag="took"):
    """Seconds of one call in that round."""

    seconds: float


class Failed(msgspec.Struct, frozen=True, tag="failed"):
    """What went wrong: an error of :mod:`asynckit.errors`, by the name of its class."""

    kind: str
    message: str
    where: str = ""
    mend: str = ""


Request = Open | Round
Reply = Ready | Opened | Took | Failed
