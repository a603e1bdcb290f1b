"""Who must be there, who is, and what follows when somebody comes, falls silent or dies: decisions only.

Every name is filled by one process at a time. A process that dies is started again as its name's next
generation. When a rank of a replica dies the other ranks go with it, as they would wait for it for ever, and
when the last is gone all are started again. Before everybody has been ready once, a death is the end: what
can't start won't by trying again.
"""

from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from asynckit.serve.control_messages import Facts, Failed, Lost, Peers

DEATHS_SECONDS = 60.0
LATE_SECONDS = 1.0  # between two ticks: less than any heartbeat_timeout, more than ticks are apart


@dataclass(frozen=True)
class Post:
    """A process that must be there.

    Attributes:
        name: ``router``, ``detokenizer``, ``http-0`` or, for rank 1 of replica 0, ``worker-0-1``.
        kind: ``http``, ``router``, ``worker`` or ``detokenizer``.
        replica, rank: of a model worker.
    """

    name: str
    kind: str
    replica: int = 0
    rank: int = 0


@dataclass(frozen=True)
class Start:
    """Start a process for this post."""

    post: Post
    generation: int


@dataclass(frozen=True)
class Kill:
    """End a process at once; its exit is still to be reported."""

    name: str
    generation: int
    reason: str


@dataclass(frozen=True)
class Tell:
    """Say this to every process that is ready or starting."""

    message: Peers | Lost


@dataclass(frozen=True)
class GiveUp:
    """The server can't go on; ``failed`` is what the process itself had to say, if anything."""

    reason: str
    name: str
    failed: Failed | None = None


Action = Start | Kill | Tell | GiveUp


@dataclass
class _Seat:
    post: Post
    generation: int = -1
    address: str = ""  # empty while it is not ready
    since: float = 0.0
    heard: float = 0.0
    dying: str = ""  # why it is being killed
    blameless: bool = False  # it goes because another rank went
    gone: bool = False
    deaths: deque[float] = field(default_factory=deque)
    failed: Failed | None = None


class Roster:
    """The seats of one server.

    Args:
        posts: every process that must be there.
        heartbeat_timeout, step_timeout, start_timeout: seconds; see ``ServeConfig``.
        max_restarts: deaths of one name within a minute that are put up with.
    """

    def __init__(
        self,
        posts: Sequence[Post],
        *,
        heartbeat_timeout: float,
        step_timeout: float,
        start_timeout: float,
        max_restarts: int,
    ) -> None:
        self._seats = {post.name: _Seat(post) for post in posts}
        self._heartbeat_timeout = heartbeat_timeout
        self._step_timeout = step_timeout
        self._start_timeout = start_timeout
        self._max_restarts = max_restarts
        self._facts: Facts | None = None
        self._ending = False
        self._ticked: float | None = None
        self.complete_once = False

    def begin(self, now: float) -> list[Action]:
        """Start everybody."""
        return [self._start(seat, 0, now) for seat in self._seats.values()]

    def end(self) -> None:
        """From now on nobody is started again."""
        self._ending = True

    def complete(self) -> bool:
        """Whether everybody is ready."""
        return all(seat.address for seat in self._seats.values())

    def ready(
        self, name: str, generation: int, address: str, facts: Facts | None, now: float
    ) -> list[Action]:
        """A process takes messages; everybody hears of it."""
        seat = self._seat(name, generation)
        if seat is None:
            return []
        seat.address, seat.heard = address, now
        self._facts = facts or self._facts
        self.complete_once = self.complete_once or self.complete()
        return [Tell(self.peers())]

    def peers(self) -> Peers:
        """The addresses of all that are ready."""
        there = {name: seat for name, seat in self._seats.items() if seat.address}
        addresses = {name: seat.address for name, seat in there.items()}
        return Peers(addresses, self._facts, {name: seat.generation for name, seat in there.items()})

    def beat(self, name: str, generation: int, stuck: float, now: float) -> list[Action]:
        """A process is alive; one whose work has got stuck is ended."""
        seat = self._seat(name, generation)
        if seat is None:
            return []
        seat.heard = now
        if stuck > self._step_timeout and seat.address and not seat.dying:
            return [self._kill(seat, f"a step has taken more than {self._step_timeout:g} s")]
        return []

    def failed(self, message: Failed) -> None:
        """A process says why it is about to end."""
        if seat := self._seat(message.name, message.generation):
            seat.failed = message

    def exited(self, name: str, generation: int, how: str, now: float) -> list[Action]:
        """A process is gone; ``how`` says what ended it, such as ``exit code 1``."""
        seat = self._seat(name, generation)
        if seat is None:
            return []
        reason = seat.dying or (seat.failed.message if seat.failed else how)
        seat.address, seat.gone = "", True
        lost = Tell(Lost(name, reason, generation))
        if self._ending:
            return [lost]
        if not seat.blameless:
            seat.deaths.append(now)
        while seat.deaths and seat.deaths[0] < now - DEATHS_SECONDS:
            seat.deaths.popleft()
        if not self.complete_once or len(seat.deaths) > self._max_restarts:
            self._ending = True
            return [lost, GiveUp(reason, name, seat.failed)]
        group = self._group(seat)
        if all(each.gone for each in group):
            return [lost, *(self._start(each, generation + 1, now) for each in group)]
        return [lost, *self._send_after(seat, group)]

    def tick(self, now: float) -> list[Action]:
        """Look who has been silent for too long. Call it several times per second."""
        late = self._ticked is not None and now - self._ticked > LATE_SECONDS
        self._ticked = now
        if late:  # it was we who slept: what others said meanwhile is still to be read
            for seat in self._seats.values():
                seat.heard = seat.since = now
            return []
        return [
            self._kill(seat, reason)
            for seat in self._seats.values()
            if not seat.dying and (reason := self._overdue(seat, now))
        ]

    def _overdue(self, seat: _Seat, now: float) -> str:
        if seat.generation < 0 or seat.gone or self._ending:
            return ""
        if not seat.address:
            over = now - seat.since > self._start_timeout
            return f"not ready after {self._start_timeout:g} s" if over else ""
        silent = now - seat.heard > self._heartbeat_timeout
        return f"no sign of life for {self._heartbeat_timeout:g} s" if silent else ""

    def _group(self, seat: _Seat) -> list[_Seat]:
        """Who lives and dies together: the ranks of a replica, and else everybody alone."""
        if seat.post.kind != "worker":
            return [seat]
        workers = (each for each in self._seats.values() if each.post.kind == "worker")
        return [each for each in workers if each.post.replica == seat.post.replica]

    def _send_after(self, lost: _Seat, group: Iterable[_Seat]) -> Iterable[Action]:
        for seat in group:
            if not seat.gone and not seat.dying:
                seat.blameless = True
                yield self._kill(seat, f"{lost.post.name} of the same replica is gone")

    def _kill(self, seat: _Seat, reason: str) -> Kill:
        seat.dying = reason
        return Kill(seat.post.name, seat.generation, reason)

    def _start(self, seat: _Seat, generation: int, now: float) -> Start:
        seat.generation = generation
        seat.address = seat.dying = ""
        seat.blameless, seat.gone, seat.failed = False, False, None
        seat.since = seat.heard = now
        return Start(seat.post, seat.generation)

    def _seat(self, name: str, generation: int) -> _Seat | None:
        """The seat, if this generation still sits there."""
        seat = self._seats.get(name)
        return seat if seat and seat.generation == generation else None


def posts_for(*, http_processes: int, replicas: int, tp: int) -> list[Post]:
    """Every process that a server needs."""
    workers = [
        Post(f"worker-{replica}-{rank}", "worker", replica, rank)
        for replica in range(replicas)
        for rank in range(tp)
    ]
    http = [Post(f"http-{index}", "http") for index in range(http_processes)]
    return [*workers, Post("router", "router"), Post("detokenizer", "detokenizer"), *http]
