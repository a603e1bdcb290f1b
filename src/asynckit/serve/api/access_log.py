"""One JSON line for each HTTP request: who asked for what, how it ended, how long it took. No content.

The lines are written by a thread of their own, so that a full pipe on the other side of stderr never stands
in the way of requests. Then lines are dropped, and counted.
"""

import json
import queue
import sys
import threading
import time
from collections.abc import Callable, MutableMapping
from typing import Any, TextIO

from asynckit.serve.api.errors import CLIENT_GONE, AsgiApp, Receive, Scope, Send, printable
from asynckit.serve.member import now
from asynckit.serve.messages import Served

_MOST_WAITING = 10_000
_CLOSE_SECONDS = 2.0


class LineWriter:
    """Writes lines in a thread of its own."""

    def __init__(self, out: TextIO | None = None) -> None:
        self._out = out or sys.stderr
        self._lines: queue.Queue[str | None] = queue.Queue(_MOST_WAITING)
        self.dropped = 0
        self._thread = threading.Thread(target=self._run, name="access-log", daemon=True)
        self._thread.start()

    def write(self, line: str) -> None:
        """Have a line written; never waits."""
        try:
            self._lines.put_nowait(line)
        except queue.Full:
            self.dropped += 1

    def close(self) -> None:
        """Write what is left, unless nobody reads it."""
        try:
            self._lines.put(None, timeout=_CLOSE_SECONDS)
        except queue.Full:
            return
        self._thread.join(_CLOSE_SECONDS)

    def _run(self) -> None:
        while (line := self._lines.get()) is not None:
            self._out.write(line + "\n")
            if self._lines.empty():
                self._out.flush()


class AccessLog:
    """The outermost of what is around the app: it sees every request and every answer.

    Args:
        app: what is watched.
        count: gets every answer, for the metrics.
        writer: of the lines; None writes none.
    """

    def __init__(self, app: AsgiApp, count: Callable[[Served], None], writer: LineWriter | None) -> None:
        self._app, self._count, self._writer = app, count, writer

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, and say how it ended."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        state = scope.setdefault("state", {})
        state |= {"arrived": now(), "facts": {}}
        status = CLIENT_GONE

        async def seen(message: MutableMapping[str, Any]) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            await self._app(scope, receive, seen)
        finally:
            self._end(scope, CLIENT_GONE if state["facts"].pop("gone", False) else status)

    def _end(self, scope: Scope, status: int) -> None:
        seconds = now() - scope["state"]["arrived"]
        self._count(Served(_route(scope), status, seconds))
        if self._writer:
            line = {
                "time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
                "method": printable(scope["method"])[:20],
                "path": printable(scope["path"])[:200],
                "status": status,
                "seconds": round(seconds, 4),
                "owner": scope["state"].get("owner", ""),
                **scope["state"]["facts"],
            }
            self._writer.write(json.dumps(line))


def _route(scope: Scope) -> str:
    """The route's own path, of which there are few, whatever was asked for."""
    return str(getattr(scope.get("route"), "path_format", None) or "other")
