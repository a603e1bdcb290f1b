"""How many connections an HTTP server takes: it keeps some file descriptors for itself."""

import asyncio
import logging
import resource
import time
from typing import Any

MOST_CONNECTIONS = 4096
RESERVED_FILES = 128  # for sockets of the ring, preparers, grammar trials, and connections being refused
FEWEST_CONNECTIONS = 16
ACCEPTED_AT_ONCE = 64  # asyncio takes so many before it looks at anything else
QUEUED_BY_THE_SYSTEM = 2048
_LOG_SECONDS = 30.0

_logger = logging.getLogger(__name__)


def allow_many_files() -> None:
    """Raise this process's limit of open files to what its connections need, as far as the system lets it."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = MOST_CONNECTIONS + RESERVED_FILES
    if hard != resource.RLIM_INFINITY:
        wanted = min(wanted, hard)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def most_connections() -> int:
    """Connections that this process may have open."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY:
        return MOST_CONNECTIONS
    return max(FEWEST_CONNECTIONS, min(MOST_CONNECTIONS, soft - RESERVED_FILES))


class AcceptFailures:
    """Logs that connections can't be accepted, seldom; asyncio reports every one of thousands a second.

    Set it as the loop's exception handler; everything else is reported as ever.
    """

    def __init__(self) -> None:
        self._since_last = 0
        self._logged = float("-inf")

    def __call__(self, loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        """Take what asyncio reports."""
        error = context.get("exception")
        if not (isinstance(error, OSError) and "accept" in str(context.get("message", ""))):
            loop.default_exception_handler(context)
            return
        self._since_last += 1
        now = time.monotonic()
        if now - self._logged >= _LOG_SECONDS:
            _logger.warning("connections can't be accepted (%d times): %s", self._since_last, error.strerror)
            self._logged, self._since_last = now, 0
