"""How much of a request is read at all: the size of its body, its time, how deep its JSON is nested."""

import asyncio
import re
from contextlib import suppress

from asynckit.serve.api.errors import ApiError, AsgiApp, ClientGone, Receive, Scope, Send

BODY_SECONDS = 30.0  # in which a body must have come in
_DISCARD_SECONDS = 5.0
_DISCARDED = 4  # times the largest body
DEEPEST = 64  # levels of lists and objects in a body
MOST_PARTS = 50_000  # lists, objects and keys in a body: what checking it costs grows with them
_EXCESSES = {
    "depth": f"the body is nested more than {DEEPEST} levels deep",
    "parts": f"the body has more than {MOST_PARTS} lists, objects and keys",
}
_TO_SQUARE = bytes.maketrans(b"{}", b"[]")
_NO_BRACKETS = bytes(set(range(256)) - set(b"[]{}"))
# Nothing is tried twice, and a string without an end goes to the end: the time is linear whatever comes.
_STRING = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"?', re.DOTALL)
_CLOSE = {"Connection": "close"}  # the rest of the body is not read


def excess(body: bytes, deepest: int = DEEPEST, most_parts: int = MOST_PARTS) -> str:
    """What there is too much of in JSON, ``depth`` or ``parts``; nothing if all is well.

    Brackets and colons in strings don't count, so strings are taken out, unless there is too little of both
    to matter. This is a few passes in C over the body, and no loop over its bytes.
    """
    if _opened(body) <= deepest and body.count(b":") + _opened(body) <= most_parts:
        return ""
    bare = _STRING.sub(b"", body)
    if _opened(bare) + bare.count(b":") > most_parts:
        return "parts"
    return "depth" if _deep(bare, deepest) else ""


def _opened(text: bytes) -> int:
    return text.count(b"{") + text.count(b"[")


def _deep(text: bytes, deepest: int) -> bool:
    """Whether there are more levels than that; every round takes away the pairs with nothing in them."""
    brackets, too_deep = text.translate(_TO_SQUARE, _NO_BRACKETS), b"[" * (deepest + 1)
    for _ in range(deepest):
        if too_deep in brackets:
            return True
        brackets, before = brackets.replace(b"[]", b""), len(brackets)
        if len(brackets) in (0, before):
            return brackets.count(b"[") > deepest
    return bool(brackets)


class BodyLimits:
    """Reads the whole body before the app sees the request.

    Args:
        app: what is guarded.
        most_bytes: of a body.
        most_header_bytes: of path and headers.
        seconds: that reading it may take.
    """

    def __init__(
        self, app: AsgiApp, most_bytes: int, most_header_bytes: int, seconds: float = BODY_SECONDS
    ) -> None:
        self._app, self._most, self._seconds = app, most_bytes, seconds
        self._most_header = most_header_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on with its body in one piece, or refuse it."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        try:
            self._check_headers(scope)
            body = await self._body(scope, receive)
        except ApiError as error:
            await error.response()(scope, receive, send)
        except ClientGone:
            return
        else:
            await self._app(scope, _replay(body, receive), send)

    def _check_headers(self, scope: Scope) -> None:
        """h11 bounds those that come in pieces; those that come at once are counted here."""
        size = sum(len(name) + len(value) + 4 for name, value in scope["headers"])
        size += len(scope.get("raw_path", b"")) + len(scope["query_string"])
        if size > self._most_header:
            message = f"path and headers have {size} bytes; {self._most_header} are accepted"
            raise ApiError(431, message, code="headers_too_large", headers=_CLOSE)

    async def _body(self, scope: Scope, receive: Receive) -> bytes:
        try:
            async with asyncio.timeout(self._seconds):
                await self._check_announced(scope, receive)
                body = await self._read(receive)
        except TimeoutError:
            message = f"the body did not come in within {self._seconds:g} s"
            raise ApiError(408, message, code="body_timeout", headers=_CLOSE) from None
        too_much = excess(body)
        if too_much:
            raise ApiError(400, _EXCESSES[too_much], code=f"too_much_{too_much}")
        return body

    async def _check_announced(self, scope: Scope, receive: Receive) -> None:
        for name, value in scope["headers"]:
            if name == b"content-length" and int(value) > self._most:  # h11 lets only digits through
                await self._discard(receive, 0)
                raise self._too_large()

    async def _read(self, receive: Receive) -> bytes:
        pieces: list[bytes] = []
        size, more = 0, True
        while more:
            message = await receive()
            if message["type"] == "http.disconnect":
                raise ClientGone
            pieces.append(message.get("body", b""))
            size += len(pieces[-1])
            if size > self._most:
                await self._discard(receive, size)
                raise self._too_large()
            more = message.get("more_body", False)
        return b"".join(pieces)

    async def _discard(self, receive: Receive, size: int) -> None:
        """Read on for a while: most clients look at the answer only when they have sent everything."""
        with suppress(TimeoutError):
            async with asyncio.timeout(_DISCARD_SECONDS):
                more = True
                while more and size <= _DISCARDED * self._most:
                    message = await receive()
                    size += len(message.get("body", b""))
                    more = message.get("more_body", False)

    def _too_large(self) -> ApiError:
        message = f"the body is larger than {self._most} bytes (serve.max_body_bytes)"
        return ApiError(413, message, code="body_too_large", headers=_CLOSE)


def _replay(body: bytes, receive: Receive) -> Receive:
    """A ``receive`` that gives the body first and then what else comes: the client's leaving."""
    pending = [body]

    async def replayed() -> dict[str, object]:
        if pending:
            return {"type": "http.request", "body": pending.pop(), "more_body": False}
        return dict(await receive())

    return replayed
