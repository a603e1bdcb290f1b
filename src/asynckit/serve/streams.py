"""The requests of one HTTP server that wait for the ring.

A :class:`Stream` waits for one HTTP request, which may have sent several messages (one for each prompt); each
has an id that no other message ever has. A stream ends exactly once: when all its ids are answered, when one
is refused, when its time is up, when a part of the ring is lost, or when its owner closes it. However it
ends, it leaves the table and aborts what still runs for it.
"""

import asyncio
import secrets
from collections.abc import Callable, Iterator, Mapping, Sequence
from types import TracebackType
from typing import Self

from asynckit.serve.api.errors import ApiError, unavailable
from asynckit.serve.messages import (
    Abort,
    Answered,
    Call,
    Generate,
    GetMetrics,
    GetState,
    Refused,
    Served,
    Text,
    Texts,
    ToHttp,
    ToRouter,
)
from asynckit.serve.tracing import Tracer

BACKSTOP_SECONDS = 10.0  # more than the router takes to say that a request's time is up
_RESTARTING = "a part of the server is being restarted"

Piece = Text | Answered


def new_id() -> str:
    """An id that was never used and never will be."""
    return secrets.token_hex(12)


class Stream:
    """What the ring answers to one HTTP request; a context manager that ends it.

    Attributes:
        owner: whose request it is.
        places: position of each message among those of the request, by id.
    """

    def __init__(self, streams: "Streams", samples: Mapping[str, int], owner: str = "") -> None:
        self._streams = streams
        self.owner = owner
        self._left = dict(samples)  # pieces of each id that will carry its end
        self.places = {id_: place for place, id_ in enumerate(samples)}
        self._pieces: list[Piece] = []
        self._failure: ApiError | None = None
        self._waiting: asyncio.Future[None] | None = None
        self._backstop: asyncio.TimerHandle | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    def id(self) -> str:
        """Of the first message: by it, answer, access log and trace name the request."""
        return next(iter(self.places))

    @property
    def complete(self) -> bool:
        """Whether everything has come and been taken; false after a failure."""
        return not (self._left or self._pieces or self._failure)

    async def take(self) -> list[Piece]:
        """Everything that has come since the last call, at least one piece; waits for it.

        Raises:
            ApiError: the request has failed.
        """
        if not self._pieces and not self._failure:
            assert not self.complete, "nothing more will come"
            self._waiting = asyncio.get_running_loop().create_future()
            await self._waiting
        if self._pieces:
            pieces, self._pieces = self._pieces, []
            return pieces
        assert self._failure
        raise self._failure

    def start(self, seconds: float) -> None:
        """End it by itself after so many seconds."""
        loop = asyncio.get_running_loop()
        self._backstop = loop.call_later(seconds, self._time_is_up, seconds)

    def put(self, piece: Piece) -> None:
        """Take a piece in."""
        self._pieces.append(piece)
        if isinstance(piece, Answered) or piece.finish is not None:
            self._count_down(piece.id)
        self._wake()

    def fail(self, error: ApiError) -> None:
        """End it with an error, after the pieces that have come."""
        if self._left:
            self._end(error)

    def close(self) -> None:
        """End it; what still runs for it is aborted."""
        if self._backstop:
            self._backstop.cancel()
        self._streams.forget(self._left)
        self._left = {}

    def refuse(self, refused: Refused) -> None:
        """End it as the ring says."""
        if self._left.pop(refused.id, None) is not None:
            self._end(ApiError.of_refusal(refused))

    def _end(self, error: ApiError) -> None:
        self._failure = error
        self.close()
        self._wake()

    def _count_down(self, id_: str) -> None:
        self._left[id_] -= 1
        if not self._left[id_]:
            del self._left[id_]
            self._streams.answered(id_)
        if not self._left and self._backstop:
            self._backstop.cancel()

    def _wake(self) -> None:
        if self._waiting and not self._waiting.done():
            self._waiting.set_result(None)

    def _time_is_up(self, seconds: float) -> None:
        self.fail(ApiError(504, f"no answer within {seconds:g} s", code="timeout"))


class Streams:
    """All open requests, and the way to the router.

    Args:
        post: hands a message to whoever sends it to the router; never waits.
        tracer: draws what requests went through.
    """

    def __init__(self, post: Callable[[ToRouter], None], tracer: Tracer | None = None) -> None:
        self._post = post
        self._tracer = tracer
        self._open: dict[str, Stream] = {}
        self._closed: ApiError | None = unavailable("the server is starting", code="starting")
        self._draining = False

    def __len__(self) -> int:
        return len(self._open)

    def __iter__(self) -> Iterator[str]:
        return iter(self._open)

    @property
    def problem(self) -> ApiError | None:
        """Why nothing new is taken; None while it is."""
        if self._draining:
            return unavailable("the server is shutting down", code="draining", retry_after=10.0)
        return self._closed

    def send(self, messages: Sequence[Generate] | Sequence[Call], seconds: float) -> Stream:
        """Send messages to the router; the stream waits for their answers, at most so many seconds.

        Raises:
            ApiError: the ring is not there.
        """
        looks_on = isinstance(messages[0], GetState | GetMetrics)
        if self._closed or (self._draining and not looks_on):
            problem = self.problem
            assert problem
            raise problem
        samples = dict(map(_parts, messages))
        first = messages[0]
        stream = Stream(self, samples, first.owner if isinstance(first, Generate) else "")
        stream.start(seconds)
        self._open.update(dict.fromkeys(samples, stream))
        try:
            for message in messages:
                self._post(message)
        except ApiError:
            stream.close()
            raise
        return stream

    def count(self, served: Served) -> None:
        """Have an answered HTTP request counted, if the router is there to count."""
        if not self._closed:
            self._post(served)

    def receive(self, message: ToHttp) -> None:
        """Hand what comes from the detokenizer to the streams that wait for it; nobody waits for the rest."""
        if isinstance(message, Texts):
            for text in message.texts:
                stream = self._open.get(text.id)
                if stream:
                    stream.put(text)
                    if self._tracer and text.timing:
                        self._tracer.request(text.id, stream.owner, text.timing, text.finish or "")
            return
        stream = self._open.pop(message.id, None)
        if stream and isinstance(message, Answered):
            stream.put(message)
        elif stream and isinstance(message, Refused):
            stream.refuse(message)
            if message.code == "too_large" and not self._closed:
                self._post(Abort(message.id))  # it did not come through, and the engine goes on with it

    def answered(self, id_: str) -> None:
        """Nothing more comes for this id."""
        self._open.pop(id_, None)

    def forget(self, ids: Mapping[str, int]) -> None:
        """Nobody waits for these ids any more."""
        for id_ in ids:
            if self._open.pop(id_, None) and not self._closed:
                self._post(Abort(id_))

    def connected(self) -> None:
        """The ring is whole: take requests."""
        self._closed = None

    def lost(self, reason: str) -> None:
        """The ring is broken: every open request ends, and new ones are refused until it is whole again."""
        self._closed = unavailable(_RESTARTING, code="restarting", retry_after=2.0)
        for stream in set(self._open.values()):
            stream.fail(unavailable(f"{_RESTARTING}: {reason}", code="restarting", retry_after=2.0))

    def fail(self, id_: str, error: ApiError) -> None:
        """End the request that waits for this id, if one does."""
        stream = self._open.get(id_)
        if stream:
            stream.fail(error)

    def drain(self) -> None:
        """Take no new requests."""
        self._draining = True

    def stop(self) -> None:
        """End every open request."""
        self._draining = True
        for stream in set(self._open.values()):
            stream.fail(unavailable("the server is shutting down", code="draining", retry_after=10.0))


def _parts(message: Generate | Call) -> tuple[str, int]:
    """Id of a message, and in how many parts its answer ends."""
    if isinstance(message, Generate):
        return message.request.id, message.request.n
    return message.id, 1
