"""Settings of ``asynckit bench-cuda``."""

from dataclasses import dataclass, field

DEVICES = ("auto", "cuda", "cpu")
CLOCKS = ("auto", "events", "graph", "host", "cupti")
CACHES = ("cold", "hot")


@dataclass(frozen=True)
class BenchConfig:
    """How timings are taken."""

    device: str = field(
        default="auto", metadata={"help": "auto takes a GPU where there is one", "choices": DEVICES}
    )
    clock: str = field(
        default="auto",
        metadata={
            "help": "CUDA events, a CUDA graph, the host's clock with synchronize, or CUPTI; auto: events",
            "choices": CLOCKS,
        },
    )
    cache: str = field(
        default="cold",
        metadata={"help": "whether caches are flushed before each repetition", "choices": CACHES},
    )
    relative_error: float = field(
        default=0.01,
        metadata={"help": "of the median, at which a case is measured well enough", "above": 0.0, "max": 1.0},
    )
    confidence: float = field(
        default=0.95, metadata={"help": "of all intervals", "above": 0.0, "max": 0.9999}
    )
    min_repetitions: int = field(default=20, metadata={"help": "of a case", "min": 3})
    max_repetitions: int = field(default=2000, metadata={"help": "of a case", "min": 3})
    warmup_seconds: float = field(
        default=1.0, metadata={"help": "at most, until a case's times are stable", "min": 0.0}
    )
    max_seconds: float = field(default=5.0, metadata={"help": "at most, for one case", "above": 0.0})
    rounds: int = field(default=20, metadata={"help": "pairs of a comparison, at least", "min": 20})
    threshold: float = field(
        default=0.05, metadata={"help": "share by which slower is a regression", "min": 0.0}
    )
    gemm: tuple[str, ...] = field(
        default=(), metadata={"help": "matrix products to measure besides the model's, as MxNxK"}
    )
    seed: int = field(default=0, metadata={"help": "of inputs and of the bootstrap", "min": 0})
