"""Messages that no frame can take: whose they are hears so, and nobody else notices."""

import asyncio
from pathlib import Path

import pytest

from asynckit.serve.homes import Homes
from asynckit.serve.messages import Answered, Refused, Text, Texts, ToDetokenizer, ToHttp, Token, Tokens
from asynckit.serve.outgoing import Outgoing
from asynckit.serve.sockets import Place, Sockets

pytestmark = pytest.mark.timeout(30)


@pytest.fixture(autouse=True)
def _small_frames(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("asynckit.serve.sockets.MOST_FRAME_BYTES", 1000)


async def test_a_piece_that_is_too_large_ends_its_request_alone(tmp_path: Path) -> None:
    """The other requests of the same step get their text, and later messages pass."""
    async with asyncio.timeout(20), Sockets(Place(str(tmp_path))) as sockets, asyncio.TaskGroup() as tasks:
        inbox = sockets.inbox("http", ToHttp)
        homes = Homes(sockets, tasks)
        homes.connect({"http-0.0": inbox.address})
        fine = [Text(f"r{number}", 0, "x" * 400) for number in range(5)]
        homes.send("http-0.0", Texts((*fine[:3], Text("large", 0, "x" * 2000), *fine[3:])))
        homes.send("http-0.0", Answered("call", "http-0.0", text="x" * 2000))
        homes.send("http-0.0", Answered("end", "http-0.0"))
        came: list[Text] = []
        refused: list[tuple[str, int, str]] = []
        while (message := await inbox.receive()) != Answered("end", "http-0.0"):
            if isinstance(message, Texts):
                came += message.texts
            else:
                assert isinstance(message, Refused)
                refused.append((message.id, message.status, message.code))
        assert came == fine
        assert refused == [("large", 400, "too_large"), ("call", 400, "too_large")]
        homes.lose("http-0.0")


async def test_many_tokens_go_in_several_frames(tmp_path: Path) -> None:
    """The detokenizer gets every token in order, and of an answer that is too large an error."""
    async with asyncio.timeout(20), Sockets(Place(str(tmp_path))) as sockets, asyncio.TaskGroup() as tasks:
        inbox = sockets.inbox("detokenizer", ToDetokenizer)
        outgoing = Outgoing(sockets, tasks)
        outgoing.connect(inbox.address)
        tokens = tuple(Token(f"r{number}", 0, number, 0.0, 0) for number in range(200))
        outgoing.post(Tokens(tokens))
        outgoing.post(Answered("call", "http-0.0", text="x" * 2000))
        came: list[Token] = []
        while isinstance(message := await inbox.receive(), Tokens):
            came += message.tokens
        assert tuple(came) == tokens
        assert isinstance(message, Refused)
        assert message.id == "call"
        outgoing.disconnect()
