"""Connections take no file descriptors that the server needs itself."""

import asyncio
import errno
import logging
import resource
import socket

import pytest

from asynckit.serve import connections
from asynckit.serve.connections import (
    FEWEST_CONNECTIONS,
    MOST_CONNECTIONS,
    RESERVED_FILES,
    AcceptFailures,
    allow_many_files,
    most_connections,
)


@pytest.fixture
def limits(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Soft and hard limit of open files, as the tests would have them."""
    present = [1024, 2048]
    monkeypatch.setattr(resource, "getrlimit", lambda _: tuple(present))
    monkeypatch.setattr(resource, "setrlimit", lambda _, given: present.__setitem__(slice(None), given))
    return present


def test_the_limit_is_raised_as_far_as_it_goes(limits: list[int]) -> None:
    """The usual soft limit is far below the hard one."""
    allow_many_files()
    assert limits == [2048, 2048]
    limits[:] = [1024, 1_000_000]
    allow_many_files()
    assert limits == [MOST_CONNECTIONS + RESERVED_FILES, 1_000_000]
    limits[:] = [500_000, 1_000_000]
    allow_many_files()
    assert limits == [500_000, 1_000_000]


@pytest.mark.parametrize(
    ("soft", "most"),
    [(1024, 896), (200, 72), (64, FEWEST_CONNECTIONS), (10**6, MOST_CONNECTIONS), (-1, MOST_CONNECTIONS)],
)
def test_connections_leave_some_files(limits: list[int], soft: int, most: int) -> None:
    """For the ring, and for processes that prepare and try."""
    limits[:] = [soft, soft]
    assert most_connections() == most


def test_failures_to_accept_are_logged_seldom(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A flood of them makes one line; other errors are reported as ever."""
    loop, failures = asyncio.new_event_loop(), AcceptFailures()
    report = {
        "message": "socket.accept() out of system resource",
        "exception": OSError(errno.EMFILE, "Too many open files"),
    }
    with caplog.at_level(logging.WARNING):
        for _ in range(1000):
            failures(loop, report)
        assert len(caplog.records) == 1
        failures(loop, {"message": "something else"})
        assert len(caplog.records) == 2
        monkeypatch.setattr(connections, "_LOG_SECONDS", 0.0)
        failures(loop, report)
        assert "1000 times" in caplog.records[-1].message
    loop.close()


async def test_asyncio_reports_as_we_read_it() -> None:
    """The handler knows what asyncio says of a socket that can't accept."""
    loop, heard = asyncio.get_running_loop(), asyncio.Event()
    reported: list[dict[str, object]] = []

    def report(_: asyncio.AbstractEventLoop, context: dict[str, object]) -> None:
        reported.append(context)
        heard.set()

    loop.set_exception_handler(report)

    class Full(socket.socket):
        def accept(self) -> "tuple[socket.socket, object]":
            raise OSError(errno.EMFILE, "Too many open files")

    with Full() as listening:
        listening.bind(("127.0.0.1", 0))
        server = await asyncio.start_server(lambda *_: None, sock=listening, backlog=3)
        async with asyncio.timeout(10):
            _, writer = await asyncio.open_connection(*listening.getsockname())
            await heard.wait()
        writer.close()
        server.close()
    assert all(isinstance(each["exception"], OSError) for each in reported)
    assert all("accept" in str(each["message"]) for each in reported)
