"""Settings of the engine at the other end of a network."""

from dataclasses import dataclass, field


@dataclass(frozen=True)
class OpenAIConfig:
    """Which OpenAI-compatible servers generate, and how long to wait for them."""

    base_urls: str | None = field(
        default=None,
        metadata={
            "help": "the servers, separated by commas, such as http://10.0.0.1:8000,http://10.0.0.2:8000",
            "identity": False,
        },
    )
    model: str | None = field(
        default=None, metadata={"help": "the model's name at the servers; the only one there by default"}
    )
    api_key: str | None = field(
        default=None,
        metadata={"help": "sent as a bearer token where set", "secret": True, "identity": False},
    )
    timeout: float = field(
        default=600.0,
        metadata={"help": "seconds that one response may take", "above": 0.0, "identity": False},
    )
    retries: int = field(
        default=5,
        metadata={
            "help": "how often a response is asked for again after a server broke it off",
            "min": 0,
            "identity": False,
        },
    )
    unreachable_timeout: float = field(
        default=300.0,
        metadata={
            "help": "seconds without any server to send to before the run ends, to be resumed later",
            "above": 0.0,
            "identity": False,
        },
    )
    max_connections: int = field(
        default=256,
        metadata={"help": "responses asked for at a time, per replica", "min": 1, "identity": False},
    )
