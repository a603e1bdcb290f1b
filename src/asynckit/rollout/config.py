"""Settings of a rollout: prompts, rewards, the run itself, and Ray.

Fields marked ``"identity": False`` change how a run goes, not what it produces: they stay out of the config
digest.
"""

from dataclasses import dataclass, field


@dataclass(frozen=True)
class PromptsConfig:
    """Where prompts come from."""

    source: str | None = field(
        default=None,
        metadata={
            "help": "a JSONL, Parquet or CSV file, or reasoning_gym:TASK; where nothing is named, "
            "reasoning_gym:chain_sum"
        },
    )
    sources: dict[str, float] = field(
        default_factory=dict,
        metadata={
            "help": "several sources with their weights, such as {a.jsonl: 2, b.jsonl: 1}; 0 leaves one out",
            "min": 0.0,
        },
    )
    limit: int | None = field(default=None, metadata={"help": "use only the first N prompts", "min": 1})
    min_tokens: int | None = field(
        default=None,
        metadata={"help": "leave out prompts with fewer tokens, chat template included", "min": 1},
    )
    max_tokens: int | None = field(
        default=None,
        metadata={
            "help": "leave out prompts with more tokens, chat template included "
            "(verl: filter_overlong_prompts)",
            "min": 1,
        },
    )
    max_chars: int | None = field(
        default=None, metadata={"help": "leave out prompts with more characters", "min": 1}
    )
    epochs: int = field(default=1, metadata={"help": "how often every prompt is used", "min": 1})
    shuffle: bool = field(default=False, metadata={"help": "another order in every epoch, by prompts.seed"})
    size: int = field(default=16, metadata={"help": "prompts that a generated task makes", "min": 1})
    seed: int = field(default=0, metadata={"help": "seed of generated tasks and of the shuffle", "min": 0})
    task: dict[str, str] = field(
        default_factory=dict, metadata={"help": "settings of a generated task, e.g. prompts.task.max_terms=2"}
    )
    chat: bool | None = field(
        default=None,
        metadata={"help": "put text prompts into a user message; by default only a generated task's"},
    )
    system: str | None = field(default=None, metadata={"help": "system message put before every prompt"})


@dataclass(frozen=True)
class RewardConfig:
    """How a response is scored."""

    name: str = field(
        default="auto",
        metadata={
            "help": "auto, exact_match, last_number, math_verify, reasoning_gym, environment, none, "
            "module:function or module:Class"
        },
    )
    components: dict[str, float] = field(
        default_factory=dict,
        metadata={
            "help": "instead of a name: names with their weights, e.g. {last_number: 1, my:style: 0.2}"
        },
    )
    args: dict[str, str] = field(
        default_factory=dict,
        metadata={"help": "settings of a reward of one's own, e.g. reward.args.threshold=0.5"},
    )
    timeout: float = field(
        default=30.0,
        metadata={"help": "seconds one call of a reward may take before its sample fails", "above": 0.0},
    )
    workers: int = field(
        default=1, metadata={"help": "processes that score, per reward", "min": 1, "identity": False}
    )


@dataclass(frozen=True)
class RolloutConfig:
    """The run: samples per prompt, replicas, output and limits."""

    n: int = field(default=4, metadata={"help": "samples per prompt (one group)", "min": 1, "max": 1024})
    out: str | None = field(
        default=None, metadata={"help": "run directory; runs/<date>-<time> by default", "identity": False}
    )
    mode: str = field(
        default="async",
        metadata={
            "help": "async generates while the learner trains; sync lets them take turns",
            "choices": ("async", "sync"),
        },
    )
    total_rollout_steps: int | None = field(
        default=None,
        metadata={"help": "groups in the run; all prompts, once per epoch, by default", "min": 1},
    )
    engine: str = field(
        default="torch",
        metadata={
            "help": "what generates: torch is asynckit's own engine, vllm one that is installed beside it, "
            "openai are servers elsewhere, simulated is an engine with a clock and no model",
            "choices": ("torch", "openai", "vllm", "simulated"),
        },
    )
    format: str = field(
        default="parquet",
        metadata={
            "help": "file format of the trajectories",
            "choices": ("parquet", "jsonl"),
            "identity": False,
        },
    )
    part_samples: int = field(
        default=1024, metadata={"help": "samples per trajectory file", "min": 1, "identity": False}
    )
    part_seconds: float = field(
        default=30.0,
        metadata={
            "help": "longest wait before finished samples are written",
            "above": 0.0,
            "identity": False,
        },
    )
    replicas: int = field(
        default=1, metadata={"help": "engines that generate side by side", "min": 1, "identity": False}
    )
    cpus_per_replica: float | None = field(
        default=None,
        metadata={
            "help": "CPUs reserved per engine; an equal share by default",
            "above": 0.0,
            "identity": False,
        },
    )
    gpus_per_replica: float | None = field(
        default=None,
        metadata={
            "help": "GPUs reserved per engine; 1 where the cluster has GPUs",
            "min": 0.0,
            "identity": False,
        },
    )
    filter_groups: bool = field(
        default=False,
        metadata={"help": "replace groups whose rewards are all equal by others, as DAPO does"},
    )
    max_replacements: int | None = field(
        default=None,
        metadata={
            "help": "groups that may be replaced; ten times as many as are wanted by default",
            "min": 0,
            "identity": False,
        },
    )
    placement: str = field(
        default="pack",
        metadata={
            "help": "where Ray puts the engines: together where there is room, or spread over the machines",
            "choices": ("pack", "spread"),
            "identity": False,
        },
    )
    queue_size: int = field(
        default=64,
        metadata={"help": "finished groups that may wait to be written", "min": 1, "identity": False},
    )
    environment: str | None = field(
        default=None,
        metadata={"help": "what answers the assistant: calculator or module:Class; by default nothing does"},
    )
    max_turns: int = field(
        default=8, metadata={"help": "how often the assistant speaks at most, with an environment", "min": 1}
    )
    environment_timeout: float = field(
        default=30.0,
        metadata={
            "help": "seconds one call of the environment may take before its sample fails",
            "above": 0.0,
        },
    )
    max_attempts: int = field(
        default=3,
        metadata={
            "help": "how often what generates a group may die before the group counts as failed",
            "min": 3,
            "max": 100,
            "identity": False,
        },
    )
    max_failures: int = field(
        default=0,
        metadata={"help": "failed samples that still count as success", "min": 0, "identity": False},
    )
    startup_timeout: float = field(
        default=600.0,
        metadata={"help": "seconds Ray and the engines may take to start", "above": 0.0, "identity": False},
    )
    stall_timeout: float = field(
        default=600.0,
        metadata={
            "help": "seconds without any progress before the run is ended",
            "above": 0.0,
            "identity": False,
        },
    )
    metrics_seconds: float = field(
        default=5.0,
        metadata={"help": "seconds from one line of metrics to the next", "min": 0.1, "identity": False},
    )
    loggers: tuple[str, ...] = field(
        default=(),
        metadata={
            "help": "where metrics go besides metrics.jsonl: tensorboard, wandb; a list, or with commas",
            "choices": ("jsonl", "tensorboard", "wandb"),
            "separator": ",",
            "identity": False,
        },
    )
    trace: bool = field(
        default=False,
        metadata={"help": "write trace.json, a timeline for ui.perfetto.dev", "identity": False},
    )


@dataclass(frozen=True)
class AsyncTrainingConfig:
    """How far generation may be ahead of the learner; verl's names. Nothing without a learner."""

    staleness_threshold: float = field(
        default=0.1,
        metadata={
            "help": "versions' worth of groups that may be begun ahead of the one in training",
            "min": 0.0,
            "max": 1000.0,
        },
    )
    trigger_parameter_sync_step: int = field(
        default=4, metadata={"help": "batches that one policy version is trained on", "min": 1}
    )
    require_batches: int = field(
        default=1, metadata={"help": "mini-batches that the learner takes at a time", "min": 1}
    )
    partial_rollout: bool = field(
        default=True,
        metadata={"help": "new weights interrupt what is being generated, instead of waiting for its end"},
    )
    on_update: str = field(
        default="keep_kv",
        metadata={
            "help": "what an interrupted response does: go on (with its old keys and values, or with "
            "recomputed ones), or restart",
            "choices": ("keep_kv", "recompute_kv", "restart"),
        },
    )
    max_staleness: int | None = field(
        default=None,
        metadata={
            "help": "versions that a token may be old when it is trained on; by default "
            "staleness_threshold, rounded up",
            "min": 0,
        },
    )
    policy: str = field(
        default="pace",
        metadata={
            "help": "how the bound is kept: use groups in the order of their starts, wait for those that "
            "would be too old, or drop those that are",
            "choices": ("pace", "wait", "drop"),
        },
    )


@dataclass(frozen=True)
class LearnerConfig:
    """Who trains on the trajectories and publishes new weights."""

    kind: str = field(
        default="none",
        metadata={
            "help": "none only writes trajectories; simulated takes batches and publishes versions as a "
            "learner does, without learning",
            "choices": ("none", "simulated"),
        },
    )
    batch_size: int = field(
        default=8, metadata={"help": "groups in a mini-batch (verl: ppo_mini_batch_size)", "min": 1}
    )
    step_seconds: str = field(
        default="constant(1.0)",
        metadata={"help": "distribution of the seconds that the simulated learner trains on a batch"},
    )
    change_weights: bool = field(
        default=False,
        metadata={
            "help": "the simulated learner publishes slightly changed weights, not only version numbers"
        },
    )
    seed: int = field(
        default=0, metadata={"help": "of the step times and changes", "min": 0, "max": 2**63 - 1}
    )
