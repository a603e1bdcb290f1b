"""The table of open requests: everything ends exactly once, whatever happens in whatever order."""

import asyncio
import contextlib
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from asynckit.engine.request import Request
from asynckit.serve.api.errors import ApiError
from asynckit.serve.messages import Abort, Answered, Generate, GetState, Refused, Text, Texts
from asynckit.serve.streams import Streams, new_id


def generate(n: int = 1) -> Generate:
    return Generate(Request(new_id(), (1,), n=n), "http-0", "me", 0.0, 10.0)


def piece(id_: str, sample: int = 0, finish: str | None = None) -> Texts:
    return Texts((Text(id_, sample, "x", (1,), finish=finish),))


EVENTS = st.lists(st.tuples(st.sampled_from("tfralcd"), st.integers(0, 3), st.integers(0, 1)), max_size=25)


@given(EVENTS)
def test_whatever_happens_everything_ends_once(events: list[tuple[str, int, int]]) -> None:
    """No order of events leaves a request open or aborts one twice."""
    asyncio.run(_play(events))


async def _play(events: list[tuple[str, int, int]]) -> None:
    sent: list[Any] = []
    streams = Streams(sent.append)
    streams.connected()
    messages = [generate(2) for _ in range(4)]
    opened = [streams.send(messages[:2], 60.0), *(streams.send([each], 60.0) for each in messages[2:])]
    for kind, which, sample in events:
        _happen(streams, kind, messages[which].request.id, sample)
        if kind == "c":
            opened[max(0, which - 1)].close()
    for stream in opened:
        with contextlib.suppress(ApiError):
            while stream._pieces or stream._failure:
                await stream.take()
        stream.close()
    assert len(streams) == 0
    aborted = [message.id for message in sent if isinstance(message, Abort)]
    assert len(aborted) == len(set(aborted))


def _happen(streams: Streams, kind: str, id_: str, sample: int) -> None:
    match kind:
        case "t":
            streams.receive(piece(id_, sample))
        case "f" | "a":
            streams.receive(piece(id_, sample, "stop"))
        case "r":
            streams.receive(Refused(id_, "http-0", 429, "no"))
        case "l":
            streams.lost("router")
            streams.connected()
        case "d":
            streams.drain()


async def test_pieces_come_before_the_failure() -> None:
    """What was generated is delivered, then the error."""
    streams = Streams(lambda _: None)
    streams.connected()
    message = generate()
    with streams.send([message], 60.0) as stream:
        streams.receive(piece(message.request.id))
        streams.lost("router: killed")
        assert len(await stream.take()) == 1
        with pytest.raises(ApiError, match="restarted") as caught:
            await stream.take()
        assert caught.value.status == 503


async def test_time_is_up() -> None:
    """A request that nothing answers ends by itself, and is aborted."""
    sent: list[Any] = []
    streams = Streams(sent.append)
    streams.connected()
    with streams.send([generate()], 0.01) as stream, pytest.raises(ApiError) as caught:
        await stream.take()
    assert caught.value.status == 504
    assert isinstance(sent[-1], Abort)


async def test_one_refused_prompt_ends_its_siblings() -> None:
    """A request of several prompts fails as a whole, and the others are aborted."""
    sent: list[Any] = []
    streams = Streams(sent.append)
    streams.connected()
    first, second = generate(), generate()
    with streams.send([first, second], 60.0) as stream:
        streams.receive(Refused(first.request.id, "http-0", 404, "no such adapter"))
        with pytest.raises(ApiError):
            await stream.take()
    assert [message.id for message in sent if isinstance(message, Abort)] == [second.request.id]


async def test_what_is_too_large_to_come_is_not_made_any_longer() -> None:
    """The detokenizer refuses it; the engine has to hear that nobody waits."""
    sent: list[Any] = []
    streams = Streams(sent.append)
    streams.connected()
    asked = generate()
    with streams.send([asked], 60.0) as stream:
        streams.receive(Refused(asked.request.id, "http-0", 400, "too large", "too_large"))
        with pytest.raises(ApiError):
            await stream.take()
    assert [message.id for message in sent if isinstance(message, Abort)] == [asked.request.id]


async def test_before_the_ring_is_there_and_while_it_drains() -> None:
    """Nothing is sent that nobody would answer; a draining server still tells its state."""
    streams = Streams(lambda _: None)
    with pytest.raises(ApiError):
        streams.send([generate()], 1.0)
    streams.connected()
    streams.drain()
    with pytest.raises(ApiError):
        streams.send([generate()], 1.0)
    call = GetState(new_id(), "http-0")
    with streams.send([call], 5.0) as stream:
        streams.receive(Answered(call.id, "http-0"))
        assert await stream.take() == [Answered(call.id, "http-0")]
        assert stream.complete
