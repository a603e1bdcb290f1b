"""What a run of the benchmark found: the schema of its JSON, which is also what is compared and drawn.

Times are seconds. What could not be measured is None, with a reason; nothing is guessed.
"""

from typing import Any

import msgspec

SCHEMA = "asynckit.bench/1"


class Timing(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """How long one call takes.

    Attributes:
        median: seconds.
        low: lower end of the interval of the median, by the bootstrap.
        high: upper end.
        p5: fifth percentile of the repetitions.
        p95: ninety-fifth.
        minimum: the shortest.
        relative_error: half the interval's width over the median.
        repetitions: how many were counted.
        calls: of the function in each repetition.
        warmup: repetitions that were thrown away before times were stable.
        outliers: share of repetitions beyond 3 interquartile ranges.
        drift: change of the median from the first to the last third, as a share.
        converged: whether the relative error that was asked for was reached.
        clock: events, graph, host or cupti.
        cache: cold or hot.
        samples: seconds of each repetition per call, in order; at most 2,000.
    """

    median: float
    low: float
    high: float
    p5: float
    p95: float
    minimum: float
    relative_error: float
    repetitions: int
    calls: int
    warmup: int
    outliers: float
    drift: float
    converged: bool
    clock: str
    cache: str
    samples: tuple[float, ...]


class Row(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """One case.

    Attributes:
        case: name such as ``gemm``.
        variant: what tells it from the case's others, such as ``qkv M=64 bfloat16``.
        group: of cases that are drawn together.
        device: ``cuda`` or ``cpu``.
        timing: None where it was not measured.
        reason: why not, or empty.
        flops: floating-point operations of one call; None where that says nothing.
        bytes: that one call has to move at least; likewise.
        tokens: that one call generates or reads; likewise.
        peak_memory_bytes: of the device while it ran; None where unknown.
        trusted: whether all checks passed.
        doubts: what makes the row untrustworthy, in words; empty where nothing does.
        parameters: shapes, dtypes and the like, by name.
    """

    case: str
    variant: str
    group: str
    device: str
    timing: Timing | None
    reason: str = ""
    flops: float | None = None
    bytes: float | None = None
    tokens: float | None = None
    peak_memory_bytes: int | None = None
    trusted: bool = True
    doubts: tuple[str, ...] = ()
    parameters: dict[str, Any] = {}

    @property
    def key(self) -> str:
        """What the same case has in another run."""
        return f"{self.case} {self.variant}".strip()


class Ceilings(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The most that was measured on this device: the roof of the roofline.

    Attributes:
        flops_per_second: by dtype.
        bytes_per_second: of memory, by reading and copying what no cache holds.
    """

    flops_per_second: dict[str, float]
    bytes_per_second: float | None


class Prediction(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What the ceilings allow a model, beside what was measured.

    Attributes:
        what: such as ``decode batch=8``.
        predicted: tokens per second at best.
        measured: tokens per second; None where it was not measured.
        bound_by: ``memory`` or ``compute``.
    """

    what: str
    predicted: float
    measured: float | None
    bound_by: str


class Report(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A whole run.

    Attributes:
        schema: of this document.
        asynckit: version.
        begun: ISO 8601, UTC.
        device: ``cuda`` or ``cpu``.
        environment: of the machine, by :mod:`asynckit.bench.environment`.
        settings: of the run.
        rows: in the order in which they are shown.
        ceilings: that were measured.
        predictions: for the model.
    """

    schema: str = SCHEMA
    asynckit: str
    begun: str
    device: str
    environment: dict[str, Any]
    settings: dict[str, Any]
    rows: tuple[Row, ...]
    ceilings: Ceilings
    predictions: tuple[Prediction, ...] = ()
