"""What the supervisor and every process of the server say to each other.

::

    supervisor ── ToProcess ──> every process ── FromProcess ──> supervisor
"""

import msgspec

from asynckit.serve.messages import Message, Part


def unique_name(name: str, generation: int) -> str:
    """What no two processes of a server ever share."""
    return f"{name}.{generation}"


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
    """Addresses of all processes that are ready, by name, and which generation of the name each is.

    A new address is a new process: connect anew.
    """

    addresses: dict[str, str]
    facts: Facts | None = None
    generations: dict[str, int] = msgspec.field(default_factory=dict)

    def unique_name(self, name: str) -> str:
        """The name with its present generation."""
        return unique_name(name, self.generations.get(name, 0))


class Lost(Message, frozen=True):
    """A process has died or was killed because it hung; what this generation of the name had is gone."""

    name: str
    reason: str
    generation: int = 0

    @property
    def unique_name(self) -> str:
        """The name with the generation."""
        return unique_name(self.name, self.generation)


class Drain(Message, frozen=True):
    """Take no new requests; those that run may end."""


class Stop(Message, frozen=True):
    """End."""


ToProcess = Peers | Lost | Drain | Stop
