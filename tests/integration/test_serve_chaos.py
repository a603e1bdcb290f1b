"""Processes of a server die and hang under load: every client hears of it, and the server goes on."""

import asyncio
import json
import os
import signal
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest
from served import Served, served, until_gone

CLIENTS = 64
SLOW = ["--engine", "simulated", "simulated.vocabulary=300"]  # a stream of 400 tokens takes 8 s or more
PARTS = ["http", "router", "worker", "detokenizer"]
LONG = {
    "model": "tiny",
    "prompt": "0 1 2 3",
    "max_tokens": 400,
    "ignore_eos": True,
    "stream": True,
    "temperature": 1.0,
}


@pytest.fixture(scope="module")
def server(tiny_llama: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """A server with a tiny model that notices silence soon and puts up with many deaths."""
    settings = [
        "serve.name=tiny",
        "serve.heartbeat_timeout=2",
        "serve.max_restarts=100",
        "serve.access_log=false",
    ]
    with served(tmp_path_factory.mktemp("chaos"), "--model", str(tiny_llama), *settings) as found:
        yield found


async def stream(client: httpx2.AsyncClient, **changes: Any) -> str:
    """Ask for a long completion; returns how it ended: ``done`` or what went wrong."""
    try:
        async with client.stream("POST", "/v1/completions", json={**LONG, **changes}) as answer:
            if answer.status_code != 200:
                return f"status {answer.status_code}"
            return await ending(answer.aiter_lines())
    except httpx2.TransportError as error:
        return type(error).__name__


async def ending(lines: AsyncIterator[str]) -> str:
    """How a stream of events ended."""
    last = "cut"
    async for line in lines:
        if line.startswith("data: "):
            data = line.removeprefix("data: ")
            if data == "[DONE]":
                return "done"
            if "error" in (found := json.loads(data)):
                last = f"error {found['error'].get('code')}"
    return last


async def stats(client: httpx2.AsyncClient) -> dict[str, Any]:
    """What the server says of itself."""
    found: dict[str, Any] = (await client.get("/stats")).json()
    return found


async def until_ready(client: httpx2.AsyncClient) -> None:
    """Wait until the server takes requests."""
    async with asyncio.timeout(60):
        while True:
            try:
                if (await client.get("/ready", timeout=5)).status_code == 200:
                    return
            except httpx2.TransportError:
                pass
            await asyncio.sleep(0.1)  # the server is asked, not waited for


async def until_idle(client: httpx2.AsyncClient) -> None:
    """Wait until nothing runs and no KV block is held."""
    async with asyncio.timeout(30):
        while True:
            found = await stats(client)
            if not found["running"] and not found["waiting"] and not found["kv_usage"]:
                return
            await asyncio.sleep(0.05)


def client_of(server: Served) -> httpx2.AsyncClient:
    """Without a limit on connections; every wait ends after a while."""
    limits = httpx2.Limits(max_connections=None, max_keepalive_connections=0)
    return httpx2.AsyncClient(base_url=server.url, timeout=30, limits=limits, trust_env=False)


async def until_running(client: httpx2.AsyncClient) -> None:
    """Wait until the engine works on something."""
    async with asyncio.timeout(30):
        while not (await stats(client))["running"]:  # noqa: ASYNC110 - another process knows
            await asyncio.sleep(0.02)


@pytest.mark.parametrize("blow", [signal.SIGKILL, signal.SIGSTOP])
@pytest.mark.parametrize("part", PARTS)
async def test_whatever_dies_or_hangs_everybody_hears_of_it(
    server: Served, part: str, blow: signal.Signals
) -> None:
    """All clients get an answer or an error, nothing stays behind, and the server serves again."""
    async with client_of(server) as client:
        await until_ready(client)
        async with asyncio.timeout(60):
            async with asyncio.TaskGroup() as group:
                asked = [group.create_task(stream(client)) for _ in range(CLIENTS)]
                await until_running(client)
                (victim,) = server.pids(part)
                os.kill(victim, blow)
        ends = {task.result() for task in asked}
        assert ends - {"done"}, "nobody noticed"
        await until_ready(client)
        assert victim not in server.pids(part)
        assert await stream(client, max_tokens=5) == "done"
        await until_idle(client)
    assert server.process.poll() is None


async def test_a_storm_of_disconnects_leaves_nothing_behind(server: Served) -> None:
    """200 clients leave in the middle of their streams; nothing is computed for them any more."""
    async with client_of(server) as client:
        await until_ready(client)
        before = server.pids()

        async def leave() -> None:
            async with client.stream("POST", "/v1/completions", json=LONG) as answer:
                async for line in answer.aiter_lines():
                    if line:
                        return

        async with asyncio.timeout(60), asyncio.TaskGroup() as group:
            for _ in range(200):
                group.create_task(leave())
        await until_idle(client)
        assert server.pids() == before
        assert await stream(client, max_tokens=5) == "done"


async def test_who_leaves_before_the_answer_is_noticed_too(server: Served) -> None:
    """An answer that is not streamed is not computed for nobody either."""
    async with client_of(server) as client:
        await until_ready(client)
        asked = asyncio.create_task(client.post("/v1/completions", json=LONG | {"stream": False}))
        await until_running(client)
        asked.cancel()
        await asyncio.wait([asked])
        await until_idle(client)


@pytest.mark.parametrize("blow", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
async def test_the_end_of_the_supervisor_is_the_end_of_all(
    tiny_llama: Path, tmp_path: Path, blow: signal.Signals
) -> None:
    """Whatever ends it, no process is left; asked politely, it lets what runs end first."""
    with served(tmp_path, "--model", str(tiny_llama), "serve.name=tiny", *SLOW) as server:
        async with client_of(server) as client:
            asked = asyncio.create_task(stream(client))
            await until_running(client)
            server.process.send_signal(blow)
            end = await asked
        code = await asyncio.to_thread(server.process.wait, 60)
        if blow == signal.SIGKILL:
            assert end != "done"
        else:
            assert (code, end) == (0, "done")
        await asyncio.to_thread(until_gone, server.mark)


async def test_asked_twice_it_stops_at_once(tiny_llama: Path, tmp_path: Path) -> None:
    """Whoever still waits hears that the server stops."""
    with served(tmp_path, "--model", str(tiny_llama), "serve.name=tiny", *SLOW) as server:
        async with client_of(server) as client:
            asked = [asyncio.create_task(stream(client)) for _ in range(64)]
            await until_running(client)
            server.process.send_signal(signal.SIGINT)
            server.process.send_signal(signal.SIGTERM)
            assert await asyncio.to_thread(server.process.wait, 60) == 130
            assert "done" not in await asyncio.gather(*asked)


async def test_a_part_that_keeps_dying_ends_the_server(tiny_llama: Path, tmp_path: Path) -> None:
    """With an exit code and the part's name, rather than by trying for ever."""
    with served(tmp_path, "--model", str(tiny_llama), "serve.name=tiny", "serve.max_restarts=0") as server:
        os.kill(server.pids("detokenizer")[0], signal.SIGKILL)
        assert await asyncio.to_thread(server.process.wait, 60) == 1
        assert "detokenizer" in server.log.read_text()
