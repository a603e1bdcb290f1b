"""The detokenizer process over real sockets: texts to their HTTP servers, whoever comes and goes."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
import zmq.asyncio
from made_tokenizers import config_of

from asynckit.engine.config import EngineConfig
from asynckit.engine.simulated_config import SimulatedConfig
from asynckit.models.light_tokenizer import LightTokenizer
from asynckit.serve.assignment import Assignment
from asynckit.serve.config import ServeConfig
from asynckit.serve.control_messages import FromProcess, Lost, Peers, Ready, Stop, ToProcess
from asynckit.serve.detokenizer import run_detokenizer
from asynckit.serve.messages import Answered, Begin, Refused, Texts, ToHttp, Token, Tokens, decoder, encode
from asynckit.serve.sockets import Inbox, Outbox, Place, Sockets

pytestmark = pytest.mark.timeout(30)
_SECONDS = 20.0


@dataclass
class Ring:
    """A supervisor, a router and HTTP servers around one detokenizer."""

    sockets: Sockets
    control: zmq.asyncio.Socket
    identity: bytes
    router: Outbox
    tokenizer: LightTokenizer
    running: asyncio.Task[int]
    inboxes: list[Inbox[ToHttp]] = field(default_factory=list)

    async def tell(self, message: ToProcess) -> None:
        """As the supervisor."""
        await self.control.send_multipart([self.identity, encode(message)])

    async def connect(self, *names: str, generation: int = 0) -> list[Inbox[ToHttp]]:
        """Be these HTTP servers, once the detokenizer has heard of them."""
        inboxes = [self.sockets.inbox(f"{name}.{generation}", ToHttp) for name in names]
        addresses = {name: inbox.address for name, inbox in zip(names, inboxes, strict=True)}
        await self.tell(Peers(addresses, None, dict.fromkeys(names, generation)))
        self.inboxes += inboxes
        for name, inbox in zip(names, inboxes, strict=True):
            hello = Answered("hello", f"{name}.{generation}")
            await self.send(hello)
            assert await inbox.receive() == hello
        return inboxes

    async def send(self, *messages: Any) -> None:
        """As the router."""
        for message in messages:
            await self.router.send(message)

    def tokens(self, text: str, request: str, finish: str | None = None) -> Tokens:
        """All tokens of a text, as if they were steps of the same request reported at once."""
        ids = self.tokenizer.encode(text)
        ends = [None] * (len(ids) - 1) + [finish]
        return Tokens(tuple(Token(request, 0, id_, 0.0, 0, end) for id_, end in zip(ids, ends, strict=True)))


@pytest_asyncio.fixture
async def ring(tmp_path: Path) -> AsyncIterator[Ring]:
    """A running detokenizer."""
    place = Place(str(tmp_path))
    model = config_of("byte-level", tmp_path / "model")
    async with Sockets(place) as sockets, asyncio.timeout(_SECONDS):
        control, address = sockets.router("control")
        assignment = Assignment(
            *("detokenizer", "detokenizer", 0, place, address, 0),
            serve=ServeConfig(),
            model=model,
            engine=EngineConfig(),
            simulated=SimulatedConfig(),
        )
        running = asyncio.create_task(run_detokenizer(assignment))
        identity, ready = b"", None
        while not isinstance(ready, Ready):
            identity, frame = await control.recv_multipart()
            ready = decoder(FromProcess).decode(frame)
        tokenizer = LightTokenizer.load(model)
        made = Ring(sockets, control, identity, sockets.outbox(ready.address), tokenizer, running)
        yield made
        if not running.done():
            await made.tell(Stop())
        assert await running == 0


async def text_of(inbox: Inbox[ToHttp], request: str) -> str:
    """The text of a request up to its end."""
    whole = ""
    while True:
        message = await inbox.receive()
        assert isinstance(message, Texts)
        for text in message.texts:
            assert text.id == request
            whole += text.text
            if text.finish:
                return whole


def begin(request: str, home: str, router: int = 0) -> Begin:
    return Begin(request, home, 1, (), skip_special_tokens=True, wants_tokens=False, router=router)


async def test_texts_and_answers_go_home(ring: Ring) -> None:
    """Each HTTP server gets its own, in order."""
    first, second = await ring.connect("http-0", "http-1")
    await ring.send(begin("a", "http-0.0"), begin("b", "http-1.0"))
    await ring.send(ring.tokens("the 🦊", "a", "stop"), ring.tokens("dog", "b", "length"))
    await ring.send(Refused("c", "http-0.0", 429, "full"), Answered("d", "http-1.0"))
    assert await text_of(first, "a") == "the 🦊"
    assert await text_of(second, "b") == "dog"
    assert await first.receive() == Refused("c", "http-0.0", 429, "full")
    assert await second.receive() == Answered("d", "http-1.0")


async def test_what_comes_before_its_server_is_named_waits(ring: Ring) -> None:
    """The router may answer sooner than the supervisor tells everybody."""
    await ring.send(Refused("c", "http-0.0", 429, "full"))
    home = ring.sockets.inbox("http-0.0", ToHttp)
    await ring.tell(Peers({"http-0": home.address}))
    assert await home.receive() == Refused("c", "http-0.0", 429, "full")
    ring.inboxes.append(home)


async def test_lost_processes_take_their_requests_along(ring: Ring) -> None:
    """A new HTTP server hears nothing of its predecessor's requests, and a new router begins afresh."""
    old, other = await ring.connect("http-0", "http-1")
    await ring.send(begin("a", "http-0.0"), begin("b", "http-1.0"), Answered("here", "http-0.0"))
    assert await old.receive() == Answered("here", "http-0.0")  # so all three have been read
    await ring.tell(Lost("http-0", "killed"))
    (new,) = await ring.connect("http-0", generation=1)
    await ring.send(ring.tokens("lost", "a", "stop"), ring.tokens("kept", "b"), Answered("end", "http-0.1"))
    assert await new.receive() == Answered("end", "http-0.1")
    message = await other.receive()
    assert isinstance(message, Texts)
    await ring.tell(Lost("router", "killed"))
    await ring.connect("http-2")  # heard of after it
    await ring.send(ring.tokens("late", "b", "stop"), Answered("end", "http-1.0"))
    assert await other.receive() == Answered("end", "http-1.0")


async def test_garbage_and_unknown_requests_harm_nobody(ring: Ring) -> None:
    """Frames that are no messages, tokens of nobody, and servers that never were."""
    (home,) = await ring.connect("http-0")
    raw = ring.sockets._context.socket(zmq.PUSH)
    raw.connect(ring.router.address)
    for number in range(200):
        await raw.send(bytes([number]) * number)
        await ring.send(ring.tokens("x", f"nobody-{number}"), Answered("x", f"http-{number + 1}.0"))
    await ring.send(begin("a", "http-0.0"), ring.tokens("fine", "a", "stop"))
    assert await text_of(home, "a") == "fine"
    raw.close()


async def test_a_late_word_of_a_loss_harms_no_successor(ring: Ring) -> None:
    """What new processes sent before the end of the old ones was heard of goes on."""
    (old,) = await ring.connect("http-0")
    await ring.send(begin("old", "http-0.0"), begin("a", "http-0.1", router=1), Answered("here", "http-0.0"))
    await ring.send(ring.tokens("kept", "a"))
    assert await old.receive() == Answered("here", "http-0.0")
    await ring.tell(Lost("router", "killed", 0))
    await ring.tell(Lost("http-0", "killed", 0))
    new = ring.sockets.inbox("http-0.1", ToHttp)
    await ring.tell(Peers({"http-0": new.address}, None, {"http-0": 1}))
    ring.inboxes.append(new)
    first = await new.receive()
    assert isinstance(first, Texts)
    await ring.send(ring.tokens("lost", "old", "stop"), ring.tokens("!", "a", "stop"))
    pieces = [text.text for text in first.texts]
    assert "".join(pieces) + await text_of(new, "a") == "kept!"
