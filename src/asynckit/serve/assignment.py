"""What a process of the server is told when it is started: who it is, where the others are, its settings."""

import msgspec

from asynckit.engine.config import EngineConfig
from asynckit.engine.simulated_config import SimulatedConfig
from asynckit.models.config import ModelConfig
from asynckit.serve.config import ServeConfig
from asynckit.serve.control_messages import unique_name
from asynckit.serve.sockets import Place


class Assignment(msgspec.Struct, frozen=True):
    """Comes as JSON on the process's standard input, so that no secret is seen in its command line.

    Attributes:
        kind: ``http``, ``router``, ``worker`` or ``detokenizer``.
        name: such as ``router``, ``http-0`` or, for rank 1 of replica 0, ``worker-0-1``.
        generation: how many processes of this name there were before.
        place: of the server's sockets.
        control: the supervisor's address.
        supervisor: its process id.
        listening: file descriptor of the bound socket, for HTTP servers.
        rendezvous: file through which the ranks of a replica find each other.
    """

    kind: str
    name: str
    generation: int
    place: Place
    control: str
    supervisor: int
    serve: ServeConfig
    model: ModelConfig
    engine: EngineConfig
    simulated: SimulatedConfig
    replica: int = 0
    rank: int = 0
    listening: int = -1
    rendezvous: str = ""
    verbose: bool = False

    @property
    def unique_name(self) -> str:
        """The name with the generation: no two processes ever share it."""
        return unique_name(self.name, self.generation)
