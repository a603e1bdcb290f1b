"""Streaming clients of OpenAI-compatible servers that cost next to nothing: raw sockets, read afterwards.

While answers come, a client notes when the first event arrived and looks for the end; what came is read when
all is over. Clients and server share the machine, so the clients' CPU time is part of the result.
"""

import asyncio
import json
import re
import time
from collections.abc import Coroutine, Iterator, Sequence
from dataclasses import dataclass
from statistics import quantiles

from workloads import Workload

_TOKENS = re.compile(rb'"completion_tokens":\s*(\d+)')
_END = b"[DONE]"
_SECONDS = 600.0  # within which every answer must have ended


@dataclass(frozen=True)
class Answer:
    """When a request was sent, had its first event and its last, in seconds; and its tokens."""

    sent: float
    first: float
    ended: float
    tokens: int


@dataclass(frozen=True)
class Load:
    """What a server made of many requests.

    Attributes:
        seconds: from the first request to the last token.
        client_cpu_seconds: that the clients took from the machine meanwhile.
    """

    answers: tuple[Answer, ...]
    seconds: float
    client_cpu_seconds: float

    @property
    def tokens(self) -> int:
        """Generated, by all."""
        return sum(answer.tokens for answer in self.answers)

    def first_token(self) -> tuple[float, float]:
        """Median and 95th percentile of the seconds from sending a request to its first token."""
        cuts = quantiles((answer.first - answer.sent for answer in self.answers), n=20, method="inclusive")
        return cuts[9], cuts[18]


def completions(workload: Workload, models: Sequence[str]) -> list[bytes]:
    """The workload as HTTP requests that stream; its models take turns. Greedy, end-of-text ignored."""
    return [
        _post(
            {
                "model": models[index % len(models)],
                "prompt": prompt,
                "max_tokens": count,
                "temperature": 0,
                "ignore_eos": True,
                "stream": True,
                "stream_options": {"include_usage": True},
            }
        )
        for index, (prompt, count) in enumerate(zip(workload.prompts, workload.new_tokens, strict=True))
    ]


def keep_busy(port: int, requests: Sequence[bytes], clients: int) -> Load:
    """So many clients, each of which sends its next request when it has its answer."""

    async def client(waiting: Iterator[bytes]) -> list[Answer]:
        return [await _ask(port, request) for request in waiting]

    async def all_of_them() -> list[Answer]:
        waiting = iter(requests)
        async with asyncio.timeout(_SECONDS), asyncio.TaskGroup() as group:
            tasks = [group.create_task(client(waiting)) for _ in range(clients)]
        return [answer for task in tasks for answer in task.result()]

    return _measure(all_of_them())


def arrive(port: int, requests: Sequence[bytes], moments: Sequence[float]) -> Load:
    """One request at each of these moments, in seconds from now, whatever became of those before."""

    async def later(request: bytes, seconds: float) -> Answer:
        await asyncio.sleep(seconds)
        return await _ask(port, request)

    async def all_of_them() -> list[Answer]:
        async with asyncio.timeout(_SECONDS), asyncio.TaskGroup() as group:
            pairs = zip(requests, moments, strict=True)
            tasks = [group.create_task(later(request, moment)) for request, moment in pairs]
        return [task.result() for task in tasks]

    return _measure(all_of_them())


def _measure(work: Coroutine[None, None, list[Answer]]) -> Load:
    begin, cpu = time.perf_counter(), time.process_time()
    answers = asyncio.run(work)
    return Load(tuple(answers), time.perf_counter() - begin, time.process_time() - cpu)


async def _ask(port: int, request: bytes) -> Answer:
    loop = asyncio.get_running_loop()
    _, stream = await loop.create_connection(lambda: _Stream(request, loop), "127.0.0.1", port)
    await stream.over
    return stream.answer()


class _Stream(asyncio.Protocol):
    """One request and its answer, on a connection of its own."""

    def __init__(self, request: bytes, loop: asyncio.AbstractEventLoop) -> None:
        self.over: asyncio.Future[None] = loop.create_future()
        self._request = request
        self._transport: asyncio.Transport | None = None
        self._sent = self._first = self._ended = 0.0
        self._parts = [b""]

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self._sent = time.perf_counter()
        transport.write(self._request)

    def data_received(self, data: bytes) -> None:
        if not self._first and b"data: {" in data:
            self._first = time.perf_counter()
        if _END in data or _END in self._parts[-1][-len(_END) :] + data[: len(_END)]:
            self._ended = time.perf_counter()
            assert self._transport
            self._transport.close()
        self._parts.append(data)

    def connection_lost(self, error: Exception | None) -> None:  # noqa: ARG002 - the protocol's
        if not self.over.done():
            self.over.set_result(None)

    def answer(self) -> Answer:
        """What came of it; raises SystemExit where the server did not answer as it should."""
        whole = b"".join(self._parts)
        tokens = _TOKENS.findall(whole)
        if not (whole.startswith(b"HTTP/1.1 200") and self._ended and tokens):
            raise SystemExit(f"a server answered:\n{whole[-2000:].decode(errors='replace')}")
        return Answer(self._sent, self._first, self._ended, int(tokens[-1]))


def _post(body: object) -> bytes:
    content = json.dumps(body).encode()
    head = (
        "POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
        f"Content-Length: {len(content)}\r\nConnection: close\r\n\r\n"
    )
    return head.encode() + content
