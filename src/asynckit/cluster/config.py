"""Settings of the connection to Ray."""

from dataclasses import dataclass, field


@dataclass(frozen=True)
class RayConfig:
    """How to reach Ray."""

    address: str = field(
        default="local",
        metadata={"help": "local starts Ray here; auto or host:port joins a cluster", "identity": False},
    )
    num_cpus: int | None = field(
        default=None,
        metadata={"help": "CPUs a local Ray offers; all by default", "min": 1, "identity": False},
    )
