"""Settings of the simulated engine."""

from dataclasses import dataclass, field


@dataclass(frozen=True)
class SimulatedConfig:
    """How long responses are and how long steps take when no model runs.

    A distribution is written ``constant(X)``, ``uniform(LOW,HIGH)`` or ``lognormal(P50,P99)``. The sizes of
    vocabulary and context are the embedded model's by default.
    """

    response_tokens: str = field(
        default="lognormal(64,512)",
        metadata={
            "help": "distribution of response lengths, or trace(PATH): a JSONL file or a run directory"
        },
    )
    step_seconds: str = field(
        default="constant(0.02)", metadata={"help": "distribution of the seconds that any step takes"}
    )
    prefill_token_seconds: float = field(
        default=0.0004, metadata={"help": "seconds more per prompt token in a step", "min": 0.0, "max": 1e6}
    )
    sequence_seconds: float = field(
        default=0.001, metadata={"help": "seconds more per sequence in a step", "min": 0.0, "max": 1e6}
    )
    clock: str = field(
        default="real",
        metadata={
            "help": "real steps take their time; virtual ones only count it",
            "choices": ("real", "virtual"),
        },
    )
    reward_seconds: float = field(
        default=0.0,
        metadata={
            "help": "seconds that a forecast (--simulate) takes scoring a group for; runs score in earnest",
            "min": 0.0,
            "max": 1e6,
            "identity": False,
        },
    )
    vocabulary: int = field(default=49152, metadata={"help": "token ids are below this", "min": 2})
    eos_token_id: int = field(default=2, metadata={"help": "the token that ends a response", "min": 0})
    max_model_len: int = field(
        default=8192, metadata={"help": "the model's limit of prompt plus response tokens", "min": 2}
    )
    seed: int = field(
        default=0, metadata={"help": "base of the steps' random durations", "min": 0, "max": 2**63 - 1}
    )
