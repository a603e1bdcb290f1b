"""Answers as server-sent events, with as little work per event as can be.

A response of Starlette's own kind would start a task group and pass every event through an iterator; here one
coroutine takes what the ring has sent since it last looked and writes it in one piece. What all events of an
answer have in common is encoded once.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import msgspec
from starlette.responses import Response

from asynckit.serve.api.costs import off_loop, tokens_of
from asynckit.serve.api.errors import ApiError, ClientGone, Receive, Scope, Send
from asynckit.serve.api.service import while_connected
from asynckit.serve.streams import Piece, Stream

encode = msgspec.json.Encoder().encode
DONE = b"data: [DONE]\n\n"
_HEADERS = [
    (b"content-type", b"text/event-stream; charset=utf-8"),
    (b"cache-control", b"no-cache"),
    (b"x-accel-buffering", b"no"),  # proxies pass every event on at once
    (b"x-content-type-options", b"nosniff"),
]


class Chunks:
    """Writes the chunks of one answer.

    Args:
        id_: of the answer.
        object_: what kind of chunk it is.
        created: seconds since 1970.
        model: that answers.
        usage: whether a last chunk counts the tokens, so that all others say that they don't.
    """

    def __init__(self, id_: str, object_: str, created: int, model: str, *, usage: bool) -> None:
        head = encode({"id": id_, "object": object_, "created": created, "model": model})
        self._head = b"data: " + head[:-1] + b',"choices":['
        self._tail = b'],"usage":null}\n\n' if usage else b"]}\n\n"

    def chunk(self, choice: dict[str, Any]) -> bytes:
        """One event with one choice."""
        return self._head + encode(choice) + self._tail

    def usage(self, usage: dict[str, int]) -> bytes:
        """The last event, which counts the tokens."""
        return self._head + b'],"usage":' + encode(usage) + b"}\n\n"


class EventStream(Response):
    """Sends a stream as it comes, until it is complete, fails, or the client goes away.

    Args:
        stream: closed when the answer ends.
        first: pieces that were taken from it already.
        write: makes events of pieces; may raise ApiError, which ends the answer with an error event.
        end: the last events.
    """

    def __init__(
        self,
        stream: Stream,
        first: list[Piece],
        write: Callable[[list[Piece]], bytes],
        end: Callable[[], bytes],
    ) -> None:
        super().__init__()
        self._stream, self._first, self._write, self._end = stream, first, write, end

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer; a client that leaves ends it quietly."""
        with self._stream:
            try:
                await while_connected(receive, self._send_all(scope, send))
            except ClientGone:
                scope["state"]["facts"]["gone"] = True

    async def _send_all(self, scope: Scope, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": _HEADERS})
        try:
            await self._send_pieces(send)
            last = self._end()
        except ApiError as error:
            scope["state"]["facts"]["error"] = error.code  # the status has been sent, and it was 200
            last = b"event: error\ndata: " + encode(error.body()) + b"\n\n"
        await send({"type": "http.response.body", "body": last, "more_body": False})

    async def _send_pieces(self, send: Send) -> None:
        pieces = self._first
        while True:
            data = await off_loop(tokens_of(pieces), partial(self._write, pieces))
            if data:
                await send({"type": "http.response.body", "body": data, "more_body": True})
            if self._stream.complete:
                return
            pieces = await self._stream.take()


async def streamed(
    stream: Stream, write: Callable[[list[Piece]], bytes], end: Callable[[], bytes]
) -> EventStream:
    """The answer, once its first piece is there: so what is refused has the right status."""
    try:
        first = await stream.take()
    except BaseException:
        stream.close()
        raise
    return EventStream(stream, first, write, end)
