"""Typed sockets: what is no message is dropped, what is too large never arrives, strangers stay outside."""

import asyncio
import stat
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
import zmq
import zmq.asyncio
from hypothesis import given, settings
from hypothesis import strategies as st
from zmq.utils.monitor import recv_monitor_message

from asynckit.engine.config import SamplingParams
from asynckit.engine.request import Request
from asynckit.serve import control_messages as c
from asynckit.serve import messages as m
from asynckit.serve.messages import MOST_FRAME_BYTES
from asynckit.serve.sockets import Place, RingKeys, Sockets, bind, configure, ring_only

UNIONS = [m.ToRouter, m.ToDetokenizer, m.ToHttp, m.ToWorker, m.FromWorker, c.FromProcess, c.ToProcess]
GENERATE = m.Generate(
    Request("http-0-1", (1, 2, 3), SamplingParams(stop=("x",))), "http-0", "owner", 1.0, 60.0
)


@pytest.fixture(params=["ipc", "tcp"])
async def sockets(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Sockets]:
    """Of one process, over files and over TCP with keys."""
    keys = RingKeys.make() if request.param == "tcp" else None
    async with Sockets(Place(str(tmp_path), keys=keys)) as found:
        yield found


async def test_messages_arrive_in_order(sockets: Sockets) -> None:
    """What goes in comes out, as the same objects."""
    inbox = sockets.inbox("inbox", m.ToRouter)
    outbox = sockets.outbox(inbox.address)
    sent: list[Any] = [GENERATE, m.Abort("a"), m.GetState("b", "http-0")]
    for message in sent:
        await outbox.send(message)
    async with asyncio.timeout(10):
        assert [await inbox.receive() for _ in sent] == sent


async def test_garbage_is_dropped_and_counted(sockets: Sockets) -> None:
    """Whatever comes in between, messages pass."""
    inbox = sockets.inbox("inbox", m.ToRouter)
    dealer = sockets.dealer(inbox.address)  # ends at once: a dealer is no pusher
    dealer.close()
    outbox = sockets.outbox(inbox.address)
    for frame in (b"", b"\xff" * 100, b"\x00", m.encode(c.Stop()), msgspec.msgpack.encode(["Abort", 5])):
        await outbox._socket.send(frame)
    await outbox.send(m.Abort("a"))
    async with asyncio.timeout(10):
        assert await inbox.receive() == m.Abort("a")
    assert (inbox.statistics.dropped, inbox.statistics.received) == (5, 6)


async def test_a_frame_that_is_too_large_does_not_arrive(tmp_path: Path) -> None:
    """The connection that brings it is cut; others are not."""
    async with Sockets(Place(str(tmp_path))) as sockets:
        inbox = sockets.inbox("inbox", m.ToRouter)
        rude, polite = sockets.outbox(inbox.address), sockets.outbox(inbox.address)
        await rude._socket.send(bytes(MOST_FRAME_BYTES + 1))
        await polite.send(m.Abort("a"))
        async with asyncio.timeout(10):
            assert await inbox.receive() == m.Abort("a")
        assert inbox.statistics.received == 1


@pytest.mark.parametrize("keys", [None, RingKeys.make()], ids=["no key", "another key"])
async def test_who_has_not_the_ring_s_key_is_not_heard(tmp_path: Path, keys: RingKeys | None) -> None:
    """Neither in plain text nor with a key pair of one's own and the server's public key."""
    ring = RingKeys.make()
    async with Sockets(Place(str(tmp_path), keys=ring)) as sockets:
        inbox = sockets.inbox("inbox", m.ToRouter)
        with zmq.asyncio.Context() as context, context.socket(zmq.PUSH) as stranger:
            stranger.linger = 0
            if keys:
                stranger.curve_publickey, stranger.curve_secretkey = (
                    keys.public.encode(),
                    keys.secret.encode(),
                )
                stranger.curve_serverkey = ring.public.encode()
            monitor = stranger.get_monitor_socket(zmq.EVENT_HANDSHAKE_FAILED_AUTH | zmq.EVENT_DISCONNECTED)
            stranger.connect(inbox.address)
            async with asyncio.timeout(10):
                await monitor.recv_multipart()  # the door was shut
            monitor.close()
            stranger.disable_monitor()
        await sockets.outbox(inbox.address).send(m.Abort("friend"))
        async with asyncio.timeout(10):
            assert await inbox.receive() == m.Abort("friend")
        assert inbox.statistics.received == 1


@pytest.mark.parametrize("known", [True, False])
def test_a_worker_s_socket_wants_the_ring_s_key_too(tmp_path: Path, known: bool) -> None:
    """It is served by no event loop, and by nobody who has a key pair of his own."""
    ring = Place(str(tmp_path), keys=RingKeys.make())
    with zmq.Context() as context, ring_only(context, ring), context.socket(zmq.ROUTER) as calls:
        address = bind(calls, ring, "worker")
        with zmq.Context() as elsewhere, elsewhere.socket(zmq.DEALER) as caller:
            configure(caller, ring, server=False)
            if not known:
                caller.curve_publickey, caller.curve_secretkey = zmq.curve_keypair()
            with caller.get_monitor_socket(
                zmq.EVENT_HANDSHAKE_FAILED_AUTH | zmq.EVENT_HANDSHAKE_SUCCEEDED
            ) as seen:
                caller.connect(address)
                caller.send(b"hello")
                assert seen.poll(10_000)
                event = recv_monitor_message(seen)["event"]
                caller.disable_monitor()
            assert event == (zmq.EVENT_HANDSHAKE_SUCCEEDED if known else zmq.EVENT_HANDSHAKE_FAILED_AUTH)
        if known:
            assert calls.recv_multipart()[1] == b"hello"


async def test_sockets_lie_where_only_their_folder_lets_in(tmp_path: Path) -> None:
    """The folder is made with 0700 by the supervisor; nothing is bound outside of it."""
    async with Sockets(Place(str(tmp_path))) as sockets:
        inbox = sockets.inbox("inbox", m.ToRouter)
        assert inbox.address == f"ipc://{tmp_path / 'inbox'}"
        assert stat.S_ISSOCK((tmp_path / "inbox").stat().st_mode)


@pytest.mark.parametrize("union", UNIONS, ids=lambda union: str(union)[:40])
@given(frame=st.binary(max_size=200))
@settings(max_examples=60)
def test_random_frames_raise_nothing_but_decode_errors(union: Any, frame: bytes) -> None:
    """Decoding bytes from anybody can't do anything else."""
    try:
        m.decoder(union).decode(frame)
    except msgspec.DecodeError:
        pass
    except UnicodeDecodeError:
        pass


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**63) | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=20,
)
TAGS = st.sampled_from(["Generate", "Abort", "Tokens", "Step", "Stepped", "Ready", "Peers", "Texts"])


@pytest.mark.parametrize("union", UNIONS, ids=lambda union: str(union)[:40])
@given(tag=TAGS, fields=st.lists(JSON, max_size=9))
@settings(max_examples=60)
def test_well_formed_nonsense_raises_nothing_but_decode_errors(
    union: Any, tag: str, fields: list[Any]
) -> None:
    """The tag may be right and the fields be of any type and number."""
    try:
        decoded = m.decoder(union).decode(msgspec.msgpack.encode([tag, *fields]))
    except msgspec.DecodeError:
        return
    assert type(decoded).__name__ == tag


def test_no_pickle_anywhere() -> None:
    """Neither on sockets nor in shared memory: reading a pickle runs what its writer wants."""
    source = Path(m.__file__).parent
    for path in source.rglob("*.py"):
        text = path.read_text()
        for word in ("pickle", "pyobj", "multiprocessing", "shelve", "marshal"):
            assert word not in text, f"{path} mentions {word}"
