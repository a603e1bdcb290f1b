"""What the supervisor and every process of the server say to each other.

::

    supervisor ── ToProcess ──> every process ── FromProcess ──> supervisor
"""

from asynckit.serve.messages import Message, Part


class Facts(Part, frozen=True):
    """What only a loaded engine knows of itself, and HTTP servers need to check requests."""

    max_model_len: int
    vocabulary: int
    kv_cache_tokens: int
    max_running: int
    embeds: bool = False


class Ready(Message, frozen=True):
    """The process takes messages at ``address``; ``facts`` come from model workers."""

    name: str
    generation: int
    address: str
    facts: Facts | None = None


class Beat(Message, frozen=True):
    """The process is alive; ``stuck`` counts the seconds that its present piece of work has taken."""

    name: str
    generation: int
    stuck: float = 0.0


class Failed(Message, frozen=True):
    """The process can't do its work and ends; an AsynckitError's parts, for the person."""

    name: str
    generation: int
    kind: str
    message: str
    where: str
    mend: str


FromProcess = Ready | Beat | Failed


class Peers(Message, frozen=True):
    """Addresses of all processes that are ready, by name. A new address is a new process: connect anew."""

    addresses: dict[str, str]
    facts: Facts | None = None


class Lost(Message, frozen=True):
    """A process has died or was killed because it hung; what it had is gone."""

    name: str
    reason: str


class Drain(Message, frozen=True):
    """Take no new requests; those that run may end."""


class Stop(Message, frozen=True):
    """End."""


ToProcess = Peers | Lost | Drain | Stop
