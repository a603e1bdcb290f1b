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
    prefill_chunk: int | None = field(
        default=None,
        metadata={
            "help": "prompt tokens of a step while others generate, at most; 256 on CPUs and "
            "engine.max_step_tokens on GPUs by default",
            "min": 1,
        },
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
    deterministic: bool = field(
        default=False,
        metadata={"help": "the same bits for a request whatever runs beside it; on CPUs with a C compiler"},
    )
    optimize: bool = field(
        default=True,
        metadata={
            "help": "on a CPU: fuse and pack weights, compile kernels, let malloc keep what is freed (in the "
            "whole process); off runs the model's plain code"
        },
    )
    cuda_graphs: bool = field(default=True, metadata={"help": "on a GPU: replay decode steps as CUDA graphs"})
    compile: bool = field(
        default=False,
        metadata={"help": "run the model's layers through torch.compile: slower start, meant for GPUs"},
    )
    threads: int | None = field(
        default=None,
        metadata={
            "help": "CPU threads; torch's choice by default, shared out with tensor parallelism",
            "min": 1,
        },
    )
    max_loras: int = field(
        default=64,
        metadata={
            "help": "adapters that one step can use; requests for more wait",
            "min": 1,
            "identity": False,
        },
    )
    max_lora_rank: int = field(
        default=64, metadata={"help": "highest rank of an adapter", "min": 1, "max": 512}
    )
    lora_bytes: int = field(
        default=2**31,
        metadata={
            "help": "bytes of host memory for loaded adapters; the one unused for longest goes first",
            "min": 1,
            "identity": False,
        },
    )
    lora_compute: bool = field(
        default=True,
        metadata={
            "help": "off loads and swaps adapters but leaves their arithmetic out, to measure its cost"
        },
    )
    lora_swap: bool = field(
        default=True,
        metadata={
            "help": "off loads every adapter when it is registered and keeps all of them loaded",
            "identity": False,
        },
    )


@dataclass(frozen=True)
class SamplingParams:
    """How the tokens of one request are chosen, and when it ends."""

    temperature: float = field(
        default=1.0,
        metadata={"help": "0 is greedy; logprobs are taken at this temperature", "min": 0.0, "max": 100.0},
    )
    top_k: int = field(
        default=0, metadata={"help": "keep the k likeliest tokens; 0 keeps all", "min": 0, "max": 10_000_000}
    )
    top_p: float = field(
        default=1.0,
        metadata={"help": "keep the smallest set with this probability", "above": 0.0, "max": 1.0},
    )
    min_p: float = field(
        default=0.0,
        metadata={"help": "drop tokens below this share of the likeliest", "min": 0.0, "max": 1.0},
    )
    max_tokens: int = field(
        default=128, metadata={"help": "longest response, in tokens", "min": 1, "max": 10_000_000}
    )
    stop: tuple[str, ...] = field(
        default=(), metadata={"help": "strings that end the response; kept out of the text"}
    )
    stop_token_ids: tuple[int, ...] = field(default=(), metadata={"help": "tokens that end the response"})
    ignore_eos: bool = field(default=False, metadata={"help": "go on past the end-of-text token"})
    min_tokens: int = field(
        default=0,
        metadata={"help": "tokens before which no end-of-text, stop token or stop string ends it", "min": 0},
    )
    seed: int = field(default=0, metadata={"help": "base of all randomness", "min": 0, "max": 2**63 - 1})
    repetition_penalty: float = field(
        default=1.0,
        metadata={
            "help": "above 1 makes tokens of the prompt and the response so far less likely",
            "above": 0.0,
            "max": 100.0,
        },
    )
    presence_penalty: float = field(
        default=0.0,
        metadata={
            "help": "taken off the logit of every token of the response so far",
            "min": -2.0,
            "max": 2.0,
        },
    )
    frequency_penalty: float = field(
        default=0.0,
        metadata={"help": "the same, times how often the token occurs in it", "min": -2.0, "max": 2.0},
    )
    logit_bias: dict[str, float] = field(
        default_factory=dict, metadata={"help": "token id: what is added to its logit, from -100 to 100"}
    )
    allowed_token_ids: tuple[int, ...] | None = field(
        default=None, metadata={"help": "the only tokens that may be chosen; all by default"}
    )
    top_logprobs: int = field(
        default=0, metadata={"help": "likeliest tokens reported at each position", "min": 0, "max": 20}
    )
    prompt_logprobs: int | None = field(
        default=None,
        metadata={
            "help": "score the prompt's tokens too, with so many likeliest tokens each",
            "min": 0,
            "max": 20,
        },
    )
    json_schema: str | None = field(
        default=None, metadata={"help": "JSON Schema that the response must match, as JSON text"}
    )
    regex: str | None = field(
        default=None, metadata={"help": "regular expression that the whole response must match"}
    )

    @property
    def cuts(self) -> bool:
        """Whether unlikely tokens are cut off before one is drawn."""
        return bool(self.top_k or self.top_p < 1 or self.min_p)

    @property
    def constrained(self) -> bool:
        """Whether a grammar decides what may come next."""
        return self.json_schema is not None or self.regex is not None

    @property
    def penalizes(self) -> bool:
        """Whether a token's logit depends on the tokens before it."""
        return bool(self.repetition_penalty != 1 or self.presence_penalty or self.frequency_penalty)

    @property
    def adjusts(self) -> bool:
        """Whether anything changes the logits before a token is chosen (the cuts aside)."""
        return bool(
            self.logit_bias
            or self.min_tokens
            or self.allowed_token_ids is not None
            or self.penalizes
            or self.constrained
        )
