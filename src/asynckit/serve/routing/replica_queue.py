"""What one replica has, and what it is to be told with its next step."""

from collections.abc import Callable
from dataclasses import dataclass

from asynckit.engine.request import Request
from asynckit.serve.messages import MOST_FRAME_BYTES, EngineState

MOST_NEWS_BYTES = MOST_FRAME_BYTES // 2
"""Requests that one step takes; what else a step says is far less than the other half of its frame."""


@dataclass(frozen=True)
class Limits:
    """What an engine takes on.

    Attributes:
        max_running: samples that it runs at once.
        max_step_tokens: prompt tokens that one step of it reads.
        kv_cache_tokens: what its cache holds.
    """

    max_running: int
    max_step_tokens: int
    kv_cache_tokens: int

    @property
    def lookahead(self) -> int:
        """Samples that it may have waiting, so that one can start in the step in which another ends."""
        return max(2, self.max_running // 8)


class ReplicaQueue:
    """Counts a replica's samples and holds back what it could not run soon.

    An engine serves in order of arrival, so whoever waits inside it is beyond fairness: it gets no more than
    its places and a few, and no more prompt at once than one step reads or its cache has room for.

    Args:
        number: of the replica.
        work: called when there is something new to tell.

    Attributes:
        ready: whether it takes requests.
        samples: those it has that have not ended.
        state: what it said after its last step.
    """

    def __init__(self, number: int, work: Callable[[], object]) -> None:
        self.number = number
        self._work = work
        self._limits = Limits(1, 1, 1)
        self.close()

    def open(self, limits: Limits) -> None:
        """Let it take requests."""
        self._limits = limits
        self.ready = True

    def close(self) -> None:
        """It is gone, and with it all it had."""
        self.ready = False
        self.samples = 0
        self.state: EngineState | None = None
        self._requests: dict[str, tuple[Request, int]] = {}  # with their sizes
        self._aborts: list[str] = []
        self._untold = 0  # prompt tokens that it was given and has not been told of
        self._told = 0  # those in the step that goes on

    def has_room(self) -> bool:
        """Whether one more request could run soon."""
        limits, state = self._limits, self.state
        if not self.ready or self.samples >= limits.max_running + limits.lookahead:
            return False
        if not self.samples:
            return True
        if state and state.waiting > limits.lookahead:
            return False
        free = limits.kv_cache_tokens * (1 - (state.kv_usage if state else 0.0))
        return self._untold + self._told < min(free, limits.max_step_tokens)

    def give(self, request: Request, size: int) -> None:
        """It gets a request, which takes so many bytes of a frame: at most ``MOST_NEWS_BYTES``."""
        self._requests[request.id] = request, size
        self.samples += request.n
        self._untold += len(request.prompt_ids)
        self._work()

    def release(self, samples: int) -> None:
        """So many of its samples have ended."""
        self.samples -= samples

    def abort(self, id_: str) -> None:
        """It is to drop a request."""
        untold = self._requests.pop(id_, None)
        if untold is not None:  # it was never told of it
            self._untold -= len(untold[0].prompt_ids)
            return
        self._aborts.append(id_)
        self._work()

    def has_news(self) -> bool:
        """Whether there is something to tell."""
        return bool(self._requests or self._aborts)

    def take_news(self) -> tuple[tuple[Request, ...], tuple[str, ...]]:
        """New requests, as many as one frame has room for, and aborts, for its next step."""
        requests: list[Request] = []
        room = MOST_NEWS_BYTES
        for request, size in list(self._requests.values()):
            if size > room:
                break
            room -= size
            requests.append(self._requests.pop(request.id)[0])
        aborts, self._aborts = tuple(self._aborts), []
        self._told = sum(len(request.prompt_ids) for request in requests)
        self._untold -= self._told
        return tuple(requests), aborts

    def stepped(self, state: EngineState) -> None:
        """The step with what was told last is over."""
        self.state = state
        self._told = 0
