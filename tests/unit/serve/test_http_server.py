"""The HTTP process when clients leave, parts of the ring die, and the server ends."""

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx2
import pytest
from fake_ring import Running, http_server

from asynckit.engine.config import SamplingParams
from asynckit.engine.request import Request
from asynckit.errors import ConfigError
from asynckit.rollout.engines.openai_wire import LogprobsAfter, ServedModel, body_of, completion_of
from asynckit.serve import http_protocol
from asynckit.serve.control_messages import Peers
from asynckit.serve.messages import GetState, LoadAdapter, UpdateWeights

ASK = {"model": "tiny", "prompt": "the"}


@pytest.fixture
async def running(tokenizer_folder: Path, tmp_path: Path) -> AsyncIterator[Running]:
    """A server."""
    async with http_server(tokenizer_folder, tmp_path) as running:
        yield running


async def open_requests(running: Running) -> int:
    return int((await running.client.get("/stats")).json()["open_requests"])


async def connect(
    running: Running, body: dict[str, Any]
) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """A connection on which a completion was asked for."""
    host, port = running.ring.url.removeprefix("http://").split(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    content = json.dumps(body).encode()
    head = "POST /v1/completions HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n"
    writer.write(f"{head}content-length: {len(content)}\r\n\r\n".encode() + content)
    return reader, writer


@pytest.mark.parametrize("stream", [False, True])
async def test_two_hundred_clients_leave(running: Running, stream: bool) -> None:
    """Every request of a client that left is aborted, though nothing is written to it."""
    running.ring.hold = True
    before = set(running.ring.running)
    connections = [await connect(running, {**ASK, "stream": stream}) for _ in range(200)]
    await running.ring.until(lambda: len(running.ring.running - before) == 200)
    begun = running.ring.running - before
    for _, writer in connections:
        writer.transport.abort()
    await running.ring.until(lambda: begun <= set(running.ring.aborted))
    assert await open_requests(running) == 0
    assert (
        (await running.post("/v1/completions", **ASK)).status_code == 200 if not running.ring.hold else True
    )


@pytest.mark.parametrize("name", ["router", "detokenizer"])
async def test_a_lost_part_ends_everything_at_once(running: Running, name: str) -> None:
    """Whole answers end with 503, streams with an error event, and new requests are told to come back."""
    running.ring.hold = True
    whole = asyncio.create_task(running.post("/v1/completions", **ASK))
    streamed = asyncio.create_task(running.post("/v1/completions", **ASK, stream=True))
    await running.ring.until(lambda: len(running.ring.running) == 2)
    async with asyncio.timeout(5):
        while await open_requests(running) < 2:  # noqa: ASYNC110 - seen in no other way
            await asyncio.sleep(0.01)
    await running.lose(name)
    answer = await whole
    assert (answer.status_code, answer.json()["error"]["code"]) == (503, "restarting")
    assert answer.headers["retry-after"]
    events = (await streamed).text
    assert "event: error" in events or '"restarting"' in events
    assert "[DONE]" not in events
    refused = await running.post("/v1/completions", **ASK)
    assert (refused.status_code, "retry-after" in refused.headers) == (503, True)
    assert (await running.client.get("/health")).status_code == 503


async def test_it_serves_again_with_new_parts(running: Running) -> None:
    """New addresses make the ring whole; the old ones of what died do not."""
    await running.lose("detokenizer")
    old = {"router": running.router_address, "detokenizer": "ipc:///nowhere"}
    await running.send(Peers(old))
    await running.send(Peers({**old, "detokenizer": "ipc:///elsewhere"}))
    async with asyncio.timeout(10):
        while (await running.client.get("/ready")).status_code != 200:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
    assert (await running.post("/v1/completions", **ASK)).status_code == 200


async def test_draining(running: Running) -> None:
    """What runs may end; nothing new is taken; the state can still be seen."""
    running.ring.hold = True
    open_one = asyncio.create_task(running.post("/v1/completions", **ASK))
    await running.ring.until(lambda: len(running.ring.running) == 1)
    await running.drain()
    async with asyncio.timeout(10):
        while (await running.client.get("/ready")).status_code == 200:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
    refused = await running.post("/v1/completions", **ASK)
    assert (refused.status_code, refused.json()["error"]["code"]) == (503, "draining")
    assert not open_one.done()
    assert await open_requests(running) == 1
    open_one.cancel()


async def test_stopping_ends_what_is_open(tokenizer_folder: Path, tmp_path: Path) -> None:
    """A request that runs when the server stops gets 503 and no hanging connection."""
    async with http_server(tokenizer_folder, tmp_path) as running:
        running.ring.hold = True
        asked = asyncio.create_task(asyncio.to_thread(post, running.ring.url))
        await running.ring.until(lambda: len(running.ring.running) == 1)
    answer = await asked
    assert (answer.status_code, answer.json()["error"]["code"]) == (503, "draining")


def post(url: str) -> httpx2.Response:
    return httpx2.post(f"{url}/v1/completions", json=ASK, timeout=30)


async def test_a_silent_ring(tokenizer_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Health is 503 soon, a probe serves all who ask meanwhile, and a request ends with 504 by itself."""
    monkeypatch.setattr("asynckit.serve.api.operating.HEALTH_SECONDS", 1.0)
    monkeypatch.setattr("asynckit.serve.api.generation.BACKSTOP_SECONDS", 0.1)
    async with http_server(tokenizer_folder, tmp_path, request_timeout=0.2) as running:
        running.ring.silent = True
        answers = await asyncio.gather(*(running.client.get("/health") for _ in range(20)))
        assert {answer.status_code for answer in answers} == {503}
        assert sum(isinstance(call, GetState) for call in running.ring.calls) < 20
        answer = await running.post("/v1/completions", **ASK)
        assert (answer.status_code, answer.json()["error"]["code"]) == (504, "timeout")
        await running.ring.until(lambda: running.ring.generates[-1].request.id in running.ring.aborted)


async def test_slow_headers_end(running: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    """A connection that never completes its headers is closed, however it trickles."""
    monkeypatch.setattr(http_protocol, "HEADER_SECONDS", 0.2)
    host, port = running.ring.url.removeprefix("http://").split(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    writer.write(b"GET /ready HTT")
    async with asyncio.timeout(10):
        with pytest.raises((ConnectionError, asyncio.IncompleteReadError)):
            await reader.readexactly(1)
    writer.close()


async def test_a_client_that_takes_nothing_is_cut_off(
    running: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its request is aborted though the connection stays open on its side."""
    monkeypatch.setattr(http_protocol, "STALLED_SECONDS", 0.2)
    ids = running.ring.tokenizer.encode("the quick brown fox") * 125
    running.ring.says = lambda _: ids
    reader, writer = await connect(
        running, {**ASK, "stream": True, "max_tokens": 500, "n": 64, "logprobs": 5, "return_token_ids": True}
    )
    await running.ring.until(lambda: bool(running.ring.aborted))
    assert await open_requests(running) == 0
    assert not reader.at_eof()
    writer.transport.abort()


async def test_adapters_from_allowed_folders_only(tokenizer_folder: Path, tmp_path: Path) -> None:
    """Folders outside the roots are refused, through links too; one inside is loaded and listed."""
    root, sockets = tmp_path / "adapters", tmp_path / "s"
    sockets.mkdir()
    good, bad, outside = root / "good", root / "bad", tmp_path / "outside"
    for folder in (good, bad, outside):
        folder.mkdir(parents=True)
    for name in ("adapter_config.json", "adapter_model.safetensors"):
        (good / name).touch()
        (outside / name).touch()
        (bad / name).symlink_to(outside / name)
    (root / "link").symlink_to(outside)
    statuses = {"good": 200, "bad": 403, "link": 403, "../outside": 403, "": 403, "none": 403}
    settings: dict[str, Any] = {
        "admin_key": "root",
        "lora_roots": (str(root),),
        "weights_roots": (str(root),),
    }
    async with http_server(tokenizer_folder, sockets, **settings) as running:
        running.client.headers["Authorization"] = "Bearer root"
        for path, status in statuses.items():
            body = {"lora_name": "fine", "lora_path": f"{root}/{path}"}
            answer = await running.post("/v1/load_lora_adapter", **body)
            assert answer.status_code == status, (path, answer.text)
        loads = [call for call in running.ring.calls if isinstance(call, LoadAdapter)]
        assert [call.folder for call in loads] == [str(good)]
        assert [card["id"] for card in (await running.client.get("/v1/models")).json()["data"]] == [
            "tiny",
            "fine",
        ]
        assert (await running.post("/v1/completions", model="fine", prompt="the")).status_code == 200
        assert running.ring.generates[-1].request.adapter == "fine"
        assert (await running.post("/v1/unload_lora_adapter", lora_name="fine")).status_code == 200
        assert (await running.post("/update_weights", version=3, path=str(good))).status_code == 200
        assert any(isinstance(call, UpdateWeights) and call.version == 3 for call in running.ring.calls)


async def test_the_access_log(
    tokenizer_folder: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """One JSON line for each request, with counts and without content."""
    async with http_server(tokenizer_folder, tmp_path, access_log=True, api_keys=("secret",)) as running:
        running.client.headers["Authorization"] = "Bearer secret"
        await running.post("/v1/completions", model="tiny", prompt="the quick", user="me")
        await running.client.get("/nothing?secret=secret")
        await running.ring.until(lambda: len(running.ring.served) >= 3)
        served = {(each.route, each.status) for each in running.ring.served}
    assert {("/v1/completions", 200), ("other", 404)} <= served
    written = capfd.readouterr().err
    lines = [json.loads(line) for line in written.splitlines() if line.startswith("{")]
    (line,) = [line for line in lines if line["path"] == "/v1/completions"]
    assert (line["status"], line["prompt_tokens"], line["completion_tokens"]) == (200, 2, 4)
    assert "secret" not in written
    assert "quick" not in written


async def test_too_many_connections(running: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    """One more connection than are taken is told so at once; all that are open count."""
    monkeypatch.setattr(http_protocol, "most_connections", lambda: 1)
    reader, writer = await connect(running, ASK)
    assert (await reader.readline()).startswith(b"HTTP/1.1 503")
    writer.close()


async def test_a_rollout_can_use_it(running: Running) -> None:
    """What rollout's openai engine asks for is understood, and it understands the answer."""
    request = Request("1", (263, 312), SamplingParams(max_tokens=3, top_k=5, logit_bias={"7": 1.0}))
    body = body_of(request, 0, ServedModel("tiny", 512, LogprobsAfter(False, False, False)))
    answer = await running.post("/v1/completions", **body)
    completion = completion_of(answer.json(), body, version=0, end=0.0)
    assert completion.token_ids == running.ring.tokenizer.encode("the quick brown fox")[:3]
    assert completion.logprobs == [-0.25] * 3
    card = (await running.client.get("/v1/models")).json()["data"][0]
    assert card["max_model_len"] == 512


async def test_tls(tokenizer_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With a certificate the server speaks TLS only; with a broken one it does not start."""
    names = [str(tmp_path / "cert.pem"), str(tmp_path / "key.pem")]
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=x"]
    made = await asyncio.create_subprocess_exec(
        *(*command, "-out", names[0], "-keyout", names[1]), stderr=asyncio.subprocess.DEVNULL
    )
    assert await made.wait() == 0
    tls = {"tls_cert": names[0], "tls_key": names[1]}
    monkeypatch.setenv("HOME", str(tmp_path))
    at_home = {"tls_cert": "~/cert.pem", "tls_key": "~/key.pem"}
    async with http_server(tokenizer_folder, tmp_path, **at_home) as running:
        assert (await running.post("/v1/completions", **ASK)).status_code == 200
    for wrong in ({"tls_cert": names[0]}, {**tls, "tls_key": names[0]}, {**tls, "tls_cert": "/nowhere"}):
        with pytest.raises(ConfigError):
            async with http_server(tokenizer_folder, tmp_path, **wrong):
                pass
