"""uvicorn's HTTP/1.1 with time limits that it lacks: for headers, and for clients that take nothing.

h11 parses the requests: it is pure Python, bounds the size of headers (``httptools`` does not) and costs
little beside a model.
"""

import asyncio
from typing import Any

import h11
import msgspec
from uvicorn.protocols.http.h11_impl import H11Protocol

from asynckit.serve.api.errors import ApiError
from asynckit.serve.connections import most_connections

HEADER_SECONDS = 20.0  # in which the headers of a request must have come in
STALLED_SECONDS = 60.0  # after which a client that takes nothing is cut off


class BoundedProtocol(H11Protocol):
    """One connection."""

    _headers_timer: asyncio.TimerHandle | None = None
    _stalled_timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Take a connection, unless there are too many."""
        super().connection_made(transport)
        if len(self.connections) > most_connections():
            self._refuse(503, "too many connections")
        else:
            self._await_headers()

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget it."""
        self._headers_arrived()
        self._goes_on()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Take bytes; the headers that they may begin must be complete in time."""
        super().data_received(data)
        if self.transport.is_closing() or self.conn.their_state is not h11.IDLE:
            self._headers_arrived()
        else:
            self._await_headers()

    def pause_writing(self) -> None:
        """The client takes nothing for now."""
        super().pause_writing()
        if self._stalled_timer is None:
            self._stalled_timer = self.loop.call_later(STALLED_SECONDS, self.transport.abort)

    def resume_writing(self) -> None:
        """It does again."""
        super().resume_writing()
        self._goes_on()

    def on_response_complete(self) -> None:
        """A next request may come on this connection, or the client never takes the end of this answer."""
        super().on_response_complete()
        if self.transport.is_closing() and self._stalled_timer is None:
            self._stalled_timer = self.loop.call_later(STALLED_SECONDS, self.transport.abort)

    def send_400_response(self, msg: str) -> None:
        """Answer what is no HTTP; h11 says with 431 that the headers are too large."""
        self._refuse(400, msg)

    def _await_headers(self) -> None:
        if self._headers_timer is None:
            self._headers_timer = self.loop.call_later(HEADER_SECONDS, self.transport.abort)

    def _headers_arrived(self) -> None:
        if self._headers_timer:
            self._headers_timer.cancel()
            self._headers_timer = None

    def _goes_on(self) -> None:
        if self._stalled_timer:
            self._stalled_timer.cancel()
            self._stalled_timer = None

    def _refuse(self, status: int, message: str) -> None:
        body = msgspec.json.encode(ApiError(status, message, code="bad_http").body())
        headers: Any = [
            (b"content-type", b"application/json"),
            (b"content-length", str(len(body)).encode()),
            (b"connection", b"close"),
        ]
        for event in (
            h11.Response(status_code=status, headers=headers),
            h11.Data(data=body),
            h11.EndOfMessage(),
        ):
            self.transport.write(self.conn.send(event) or b"")
        self.transport.close()
