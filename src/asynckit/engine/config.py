"""Settings of the inference engine, and the sampling parameters of one request."""

from dataclasses import dataclass, field


@dataclass(frozen=True)
class EngineConfig:
    """How the engine runs: precision, device, batch and cache sizes."""

    dtype: str = field(
        default="auto",
        metadata={
            "help": "precision of weights and arithmetic; auto is bfloat16 where the hardware has it",
            "choices": ("auto", "float32", "bfloat16", "float16"),
        },
    )
    device: str = field(
        default="auto", metadata={"help": "where the model runs", "choices": ("auto", "cpu", "cuda")}
    )
    max_running: int = field(default=64, metadata={"help": "sequences that run in one step", "min": 1})
    max_step_tokens: int = field(
        default=2048, metadata={"help": "tokens that one forward pass processes at most", "min": 1}
    )
    max_model_len: int | None = field(
        default=None,
        metadata={"help": "prompt plus response tokens; the model's own limit by default", "min": 2},
    )
    block_size: int = field(default=32, metadata={"help": "tokens per KV-cache block", "min": 1, "max": 1024})
    kv_cache_tokens: int | None = field(
        default=None,
        metadata={"help": "tokens the KV cache holds; sized from free memory by default", "min": 1},
    )
    optimize: bool = field(
        default=True,
        metadata={
            "help": "on a CPU: fuse and pack weights, compile kernels; off runs the model's plain code"
        },
    )
    threads: int | None = field(
        default=None, metadata={"help": "CPU threads; torch's choice by default", "min": 1}
    )


@dataclass(frozen=True)
class SamplingParams:
    """How the tokens of one request are chosen, and when it ends."""

    temperature: float = field(
        default=1.0,
        metadata={"help": "0 is greedy; logprobs are taken at this temperature", "min": 0.0, "max": 100.0},
    )
    top_k: int = field(default=0, metadata={"help": "keep the k likeliest tokens; 0 keeps all", "min": 0})
    top_p: float = field(
        default=1.0,
        metadata={"help": "keep the smallest set with this probability", "above": 0.0, "max": 1.0},
    )
    min_p: float = field(
        default=0.0,
        metadata={"help": "drop tokens below this share of the likeliest", "min": 0.0, "max": 1.0},
    )
    max_tokens: int = field(default=128, metadata={"help": "longest response, in tokens", "min": 1})
    stop: tuple[str, ...] = field(
        default=(), metadata={"help": "strings that end the response; kept out of the text"}
    )
    stop_token_ids: tuple[int, ...] = field(default=(), metadata={"help": "tokens that end the response"})
    ignore_eos: bool = field(default=False, metadata={"help": "go on past the end-of-text token"})
    seed: int = field(default=0, metadata={"help": "base of all randomness", "min": 0, "max": 2**63 - 1})
