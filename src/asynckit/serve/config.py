"""Settings of the server."""

from dataclasses import dataclass, field


@dataclass(frozen=True)
class ServeConfig:
    """Where the server listens, who may use it, how much it takes on, and how it survives."""

    host: str = field(default="127.0.0.1", metadata={"help": "address to listen on"})
    port: int = field(default=8000, metadata={"help": "port; 0 takes a free one", "min": 0, "max": 65535})
    name: str | None = field(
        default=None, metadata={"help": "what clients call the model; model.name by default"}
    )
    engine: str = field(
        default="torch",
        metadata={"help": "torch, or simulated (no model)", "choices": ("torch", "simulated")},
    )
    http_processes: int = field(
        default=1, metadata={"help": "HTTP servers that share the port", "min": 1, "max": 64}
    )
    replicas: int = field(default=1, metadata={"help": "engines that share the load", "min": 1, "max": 1024})
    tp: int = field(
        default=1, metadata={"help": "processes that hold one model together", "min": 1, "max": 64}
    )
    lora: bool = field(default=True, metadata={"help": "off serves the model alone: adapters are refused"})
    loras: tuple[str, ...] = field(default=(), metadata={"help": "adapters to begin with, as NAME=FOLDER"})
    lora_dir: str | None = field(
        default=None, metadata={"help": "folder whose subfolders are adapters to begin with, by name"}
    )
    lora_roots: tuple[str, ...] = field(
        default=(),
        metadata={"help": "folders below which adapters may be loaded while running; lora_dir is one"},
    )
    prefetch: bool = field(
        default=False, metadata={"help": "read the adapters of waiting requests while others run"}
    )
    weights_roots: tuple[str, ...] = field(
        default=(), metadata={"help": "folders below which weights may be updated from"}
    )
    api_keys: tuple[str, ...] = field(
        default=(),
        metadata={
            "help": "who may use it; with none, everybody who reaches it",
            "secret": True,
            "separator": ",",
        },
    )
    admin_key: str | None = field(
        default=None,
        metadata={"help": "who may change adapters and weights; with none, nobody", "secret": True},
    )
    open_to_all: bool = field(
        default=False, metadata={"help": "listen beyond this machine without an API key"}
    )
    tls_cert: str | None = field(default=None, metadata={"help": "PEM file with the certificate chain"})
    tls_key: str | None = field(default=None, metadata={"help": "PEM file with its private key"})
    max_waiting: int = field(
        default=256, metadata={"help": "requests that may wait; more are told to come back", "min": 0}
    )
    request_timeout: float = field(
        default=600.0, metadata={"help": "seconds a request may take, waiting included", "above": 0.0}
    )
    max_samples: int = field(
        default=64, metadata={"help": "samples that one HTTP request may ask for", "min": 1, "max": 4096}
    )
    max_body_bytes: int = field(default=8 * 2**20, metadata={"help": "largest request body", "min": 1024})
    max_header_bytes: int = field(
        default=32 * 2**10, metadata={"help": "largest request line and headers", "min": 1024}
    )
    prepare_timeout: float = field(
        default=10.0,
        metadata={"help": "seconds that a chat template and tokenizing may take", "above": 0.0},
    )
    drain_timeout: float = field(
        default=30.0, metadata={"help": "seconds that running requests get when the server stops", "min": 0.0}
    )
    start_timeout: float = field(
        default=600.0, metadata={"help": "seconds in which every process must be ready", "above": 0.0}
    )
    heartbeat_timeout: float = field(
        default=5.0,
        metadata={"help": "seconds of silence after which a process counts as hung", "min": 2.0},
    )
    step_timeout: float = field(
        default=120.0,
        metadata={"help": "seconds after which a step of an engine counts as hung", "above": 0.0},
    )
    max_restarts: int = field(
        default=3,
        metadata={
            "help": "times that a process may die within a minute before the server gives up",
            "min": 0,
        },
    )
    transport: str = field(
        default="ipc",
        metadata={
            "help": "how the processes talk: ipc (files of this user), or tcp (CURVE keys, several machines)",
            "choices": ("ipc", "tcp"),
        },
    )
    access_log: bool = field(default=True, metadata={"help": "one JSON line per HTTP request on stderr"})
    trace: str | None = field(
        default=None, metadata={"help": "folder for Chrome traces with the spans of every request"}
    )
    nvtx: bool = field(default=False, metadata={"help": "NVTX ranges around steps, for profiling on CUDA"})
    page: bool = field(default=True, metadata={"help": "serve a small page to chat with at /"})
