"""Who gets what when many want much: queue limit, time-outs, fairness over keys, long prompts; and TLS."""

import asyncio
import json
import ssl
import subprocess
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import httpx2
import openai
import pytest
from served import Served, served

BUSY, OTHER = "a-key-for-the-busy", "a-key-for-others"
STEP = 0.01
SIMULATED = ["--engine", "simulated", "simulated.vocabulary=300", "serve.name=tiny"]
SIMULATED += [f"simulated.step_seconds=constant({STEP})", "simulated.sequence_seconds=0"]
SIMULATED += ["simulated.prefill_token_seconds=0", "simulated.response_tokens=constant(100000)"]
CHUNK = 128


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A self-signed certificate of 127.0.0.1, and its key."""
    folder = tmp_path_factory.mktemp("tls")
    certificate, key = folder / "cert.pem", folder / "key.pem"
    command = [
        "openssl",
        "req",
        "-x509",
        "-newkey",
        "ec",
        "-pkeyopt",
        "ec_paramgen_curve:prime256v1",
        "-nodes",
    ]
    command += ["-days", "2", "-subj", "/CN=localhost", "-addext", "subjectAltName=IP:127.0.0.1"]
    subprocess.run([*command, "-keyout", str(key), "-out", str(certificate)], check=True, capture_output=True)
    return certificate, key


@pytest.fixture(scope="module")
def safe(
    tiny_llama: Path, certificate: tuple[Path, Path], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Served]:
    """A server with TLS and two keys, whose engine runs four samples at once and reads prompts in chunks."""
    arguments = ["--model", str(tiny_llama), *SIMULATED, "--api-key", BUSY, "--api-key", OTHER]
    arguments += [f"serve.tls_cert={certificate[0]}", f"serve.tls_key={certificate[1]}"]
    arguments += ["engine.max_running=4", f"engine.prefill_chunk={CHUNK}"]
    with served(tmp_path_factory.mktemp("safe"), *arguments) as found:
        yield found


@pytest.fixture(scope="module")
def small(tiny_llama: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """A server that runs one sample at a time, lets two requests wait, and gives each a second."""
    limits = ["engine.max_running=1", "serve.max_waiting=2", "serve.request_timeout=1"]
    arguments = ["--model", str(tiny_llama), *SIMULATED, *limits]
    with served(tmp_path_factory.mktemp("small"), *arguments) as found:
        yield found


def trusting(certificate: Path) -> ssl.SSLContext:
    """A context that trusts this certificate alone."""
    return ssl.create_default_context(cafile=certificate)


@pytest.fixture
async def client(safe: Served, certificate: tuple[Path, Path]) -> AsyncIterator[httpx2.AsyncClient]:
    """A client of the server with TLS."""
    limits = httpx2.Limits(max_connections=None)
    async with httpx2.AsyncClient(
        base_url=safe.url, verify=trusting(certificate[0]), timeout=60, limits=limits, trust_env=False
    ) as found:
        yield found


def test_only_tls_is_spoken(safe: Served, certificate: tuple[Path, Path]) -> None:
    """OpenAI's client trusts the certificate that it was given, others don't, and plain HTTP gets nothing."""
    assert safe.url.startswith("https://")
    with (
        httpx2.Client(verify=trusting(certificate[0]), trust_env=False) as http,
        openai.OpenAI(base_url=f"{safe.url}/v1", api_key=OTHER, max_retries=0, http_client=http) as client,
    ):
        answer = client.completions.create(model="tiny", prompt="0", max_tokens=3)
        assert answer.usage
        assert answer.usage.completion_tokens == 3
    with pytest.raises(httpx2.ConnectError, match=r"(?i)certificate"):
        httpx2.get(f"{safe.url}/health", trust_env=False)
    with pytest.raises(httpx2.TransportError):
        httpx2.get(safe.url.replace("https", "http") + "/health", trust_env=False)


async def test_every_key_opens_and_no_other(client: httpx2.AsyncClient) -> None:
    """Each of several keys does, and nothing that is like them."""
    for key, status in ((BUSY, 200), (OTHER, 200), (BUSY[:-1], 401), (BUSY + "x", 401), ("x", 401)):
        answer = await client.get("/v1/models", headers={"Authorization": f"Bearer {key}"})
        assert answer.status_code == status


def completion(tokens: int, prompt: Any = "0", **more: Any) -> dict[str, Any]:
    """A request for exactly so many tokens."""
    return {"model": "tiny", "prompt": prompt, "max_tokens": tokens, "ignore_eos": True, **more}


async def test_nobody_starves(client: httpx2.AsyncClient) -> None:
    """With 100 requests of one key waiting, three of another get in between at once."""
    order: list[str] = []

    async def ask(key: str) -> None:
        headers = {"Authorization": f"Bearer {key}"}
        answer = await client.post("/v1/completions", json=completion(10), headers=headers)
        assert answer.status_code == 200, answer.text
        order.append(key)

    async with asyncio.timeout(60), asyncio.TaskGroup() as group:
        for _ in range(100):
            group.create_task(ask(BUSY))
        while (await stats(client))["waiting"] < 80:  # noqa: ASYNC110 - another process knows
            await asyncio.sleep(0)
        before = len(order)
        for _ in range(3):
            group.create_task(ask(OTHER))
    last = max(place for place, key in enumerate(order) if key == OTHER)
    # Those that the engine had already, 4 and 2 that may wait in it, and at most as many again between.
    assert last - before < 16, (before, last)


async def stats(client: httpx2.AsyncClient) -> dict[str, Any]:
    """What the server says of itself."""
    answer = await client.get("/stats", headers={"Authorization": f"Bearer {OTHER}"})
    found: dict[str, Any] = answer.json()
    return found


async def test_a_long_prompt_does_not_stall_others(client: httpx2.AsyncClient) -> None:
    """While 4,000 tokens are read, a stream gets a token with each chunk of them."""
    headers = {"Authorization": f"Bearer {OTHER}"}
    came = 0

    async def stream() -> None:
        nonlocal came
        body = completion(400, stream=True, return_token_ids=True)
        async with client.stream("POST", "/v1/completions", json=body, headers=headers) as answer:
            async for line in answer.aiter_lines():
                if line.startswith("data: {"):
                    came += sum(len(choice["token_ids"]) for choice in json.loads(line[6:])["choices"])

    async with asyncio.timeout(60), asyncio.TaskGroup() as group:
        streaming = group.create_task(stream())
        while came < 5:  # noqa: ASYNC110 - counted above
            await asyncio.sleep(0)
        before, read = came, await prefilled(client)
        body = completion(1, [7] * 4000)
        answer = await client.post("/v1/completions", json=body, headers=headers)
        between, read = came - before, await prefilled(client) - read
        assert not streaming.done(), "the stream was too short to tell"
        streaming.cancel()
    assert answer.json()["usage"]["prompt_tokens"] == 4000
    assert read == 4000
    assert between >= 4000 // CHUNK


async def prefilled(client: httpx2.AsyncClient) -> float:
    """Prompt tokens that the engine has read so far."""
    text = (await client.get("/metrics", headers={"Authorization": f"Bearer {OTHER}"})).text
    (line,) = [line for line in text.splitlines() if line.startswith("asynckit:prefilled_tokens_total{")]
    return float(line.rpartition(" ")[2])


async def test_whoever_is_too_many_is_sent_away_and_whoever_waits_too_long(small: Served) -> None:
    """A full queue answers 429 with the time to come back; a time that is up, 504; then it serves again."""
    async with httpx2.AsyncClient(base_url=small.url, timeout=60, trust_env=False) as client:
        asked = [client.post("/v1/completions", json=completion(4000)) for _ in range(12)]
        answers = await asyncio.gather(*asked)
        statuses = sorted(answer.status_code for answer in answers)
        assert set(statuses) == {429, 504}
        # One runs and at most two wait in the engine, two in the router.
        assert 3 <= statuses.count(504) <= 5
        for answer in answers:
            error = answer.json()["error"]
            if answer.status_code == 429:
                assert error["code"] == "queue_full"
                assert int(answer.headers["Retry-After"]) >= 1
            else:
                assert (error["code"], "than 1 s" in error["message"]) == ("timeout", True)
        async with asyncio.timeout(10):
            while not await idle(client):
                pass
        assert (await client.post("/v1/completions", json=completion(3))).status_code == 200


async def idle(client: httpx2.AsyncClient) -> bool:
    """Whether nothing runs or waits, and nothing is kept of it."""
    found = (await client.get("/stats")).json()
    return not (found["running"] or found["waiting"] or found["kv_usage"])


async def test_a_stream_that_takes_too_long_says_so(small: Served) -> None:
    """After the tokens that came, an error event instead of an end."""
    async with httpx2.AsyncClient(base_url=small.url, timeout=60, trust_env=False) as client:
        answer = await client.post("/v1/completions", json=completion(4000, stream=True))
    events = [line.removeprefix("data: ") for line in answer.text.split("\n") if line]
    assert answer.status_code == 200
    assert len(events) > 10
    assert json.loads(events[-1] if events[-1] != "[DONE]" else events[-2])["error"]["code"] == "timeout"
