"""Messages to several HTTP servers: each at its own pace."""

import asyncio
from pathlib import Path

import pytest

from asynckit.serve.homes import Homes
from asynckit.serve.messages import Answered, ToHttp
from asynckit.serve.sockets import Place, Sockets

pytestmark = pytest.mark.timeout(30)
_SECONDS = 20.0


async def test_a_slow_server_holds_up_itself_alone(tmp_path: Path) -> None:
    """What is too much for it is dropped with it; the others get theirs at once."""
    async with asyncio.timeout(_SECONDS), Sockets(Place(str(tmp_path))) as sockets:
        fast = sockets.inbox("fast", ToHttp)
        async with asyncio.TaskGroup() as tasks:
            homes = Homes(sockets, tasks)
            homes.connect(
                {"http-0.0": f"ipc://{tmp_path / 'nobody'}", "http-1.0": fast.address, "router": "x"}
            )
            for _ in range(20_001):  # more than a queue and a socket hold
                homes.send("http-0.0", Answered("x", "http-0.0"))
            homes.send("http-1.0", Answered("y", "http-1.0"))
            assert await fast.receive() == Answered("y", "http-1.0")
            assert homes.dropped > 0
            before = homes.dropped
            homes.connect({"http-0.0": f"ipc://{tmp_path / 'nobody'}"})  # the supervisor has yet to notice
            homes.send("http-0.0", Answered("z", "http-0.0"))
            assert homes.dropped == before + 1
            homes.lose("http-0.0")
            slow = sockets.inbox("slow", ToHttp)
            homes.send("http-0.1", Answered("new", "http-0.1"))
            homes.connect({"http-0.1": slow.address})
            assert await slow.receive() == Answered("new", "http-0.1")
            homes.lose("http-0.1")
            homes.lose("http-1.0")


async def test_names_that_never_come_take_little(tmp_path: Path) -> None:
    """Garbage names wait in a bounded number."""
    async with Sockets(Place(str(tmp_path))) as sockets, asyncio.TaskGroup() as tasks:
        homes = Homes(sockets, tasks)
        for number in range(100):
            homes.send(f"http-{number}.0", Answered("x", "y"))
        assert homes.dropped == 36
