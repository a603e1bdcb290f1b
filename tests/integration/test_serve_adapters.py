"""Adapters and weights of a running server: equal to merged models in company, and kept when parts die."""

import asyncio
import functools
import os
import shutil
import signal
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import httpx2
import pytest
import torch
from engine_alone import greedy, save_merged
from lora_adapters import TINY_LLAMA, save_random_adapter
from served import Served, served

USER, ADMIN = {"Authorization": "Bearer a-key-for-users"}, {"Authorization": "Bearer a-key-for-admins"}
KEYS = ["--api-key", "a-key-for-users", "--admin-key", "a-key-for-admins"]
ADAPTERS = {
    "small": (4, ("q_proj", "v_proj")),
    "middle": (16, tuple(TINY_LLAMA)),
    "large": (64, ("o_proj", "up_proj")),
}
PROMPTS = ([7, 8, 9], [40, 41, 42, 43, 44] * 9, [100])
TOKENS = 12
Tokens = list[list[int]]


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder below which the server may load, with adapters of several ranks."""
    found = tmp_path_factory.mktemp("allowed")
    for seed, (name, (rank, targets)) in enumerate(ADAPTERS.items()):
        save_random_adapter(found / name, rank=rank, targets=targets, seed=seed, deviation=0.2)
    return found


@pytest.fixture(scope="module")
def other_weights(tiny_llama: Path, root: Path) -> Path:
    """Other weights of the same model, where the server may load them from."""
    from transformers import AutoModelForCausalLM

    torch.manual_seed(1)
    model = AutoModelForCausalLM.from_pretrained(tiny_llama, dtype=torch.float32)
    for parameter in model.parameters():
        if parameter.ndim == 2:
            torch.nn.init.normal_(parameter, std=0.3)
    model.save_pretrained(root / "other-weights")
    return root / "other-weights"


@pytest.fixture(scope="module")
def expected(tiny_llama: Path, root: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Tokens]:
    """What the bare engine gives over the model, or over what PEFT merges an adapter into."""
    merged = tmp_path_factory.mktemp("merged")

    @functools.cache
    def found(name: str, base: Path = tiny_llama) -> Tokens:
        folder = base
        if name != "tiny":
            folder = save_merged(base, root / name, merged / f"{base.name}-{name}")
        return greedy(folder, PROMPTS, TOKENS, tokenizer=tiny_llama)

    return found


@pytest.fixture(scope="module")
def server(tiny_llama: Path, root: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """A server that begins with two of the adapters."""
    arguments = ["--model", str(tiny_llama), *KEYS, "serve.name=tiny", "engine.dtype=float32"]
    arguments += [f"--lora={name}={root / name}" for name in ("small", "middle")]
    arguments += [f"serve.lora_roots=[{root}]", f"serve.weights_roots=[{root}]", "serve.max_restarts=10"]
    with served(tmp_path_factory.mktemp("adapters"), *arguments) as found:
        yield found


@pytest.fixture
async def client(server: Served) -> AsyncIterator[httpx2.AsyncClient]:
    """A client with a user's key."""
    async with httpx2.AsyncClient(base_url=server.url, headers=USER, timeout=60, trust_env=False) as found:
        yield found


async def tokens(client: httpx2.AsyncClient, name: str) -> Tokens:
    """What the server gives for all prompts under a name, each asked for alone and at once."""
    return await asyncio.gather(*(_tokens(client, name, prompt) for prompt in PROMPTS))


async def _tokens(client: httpx2.AsyncClient, name: str, prompt: Sequence[int]) -> list[int]:
    body = {"model": name, "prompt": prompt, "temperature": 0, "max_tokens": TOKENS, "return_token_ids": True}
    answer = await client.post("/v1/completions", json=body)
    assert answer.status_code == 200, answer.text
    found: list[int] = answer.json()["choices"][0]["token_ids"]
    return found


async def load(client: httpx2.AsyncClient, name: str, folder: Path, **headers: Any) -> httpx2.Response:
    """Ask for an adapter to be loaded."""
    body = {"lora_name": name, "lora_path": str(folder)}
    return await client.post("/v1/load_lora_adapter", json=body, headers=headers or ADMIN)


async def unload(client: httpx2.AsyncClient, name: str) -> httpx2.Response:
    """Ask for an adapter to be taken away."""
    return await client.post("/v1/unload_lora_adapter", json={"lora_name": name}, headers=ADMIN)


async def update(client: httpx2.AsyncClient, folder: Path, version: int) -> httpx2.Response:
    """Ask for other weights."""
    body = {"version": version, "path": str(folder)}
    return await client.post("/update_weights", json=body, headers=ADMIN)


async def stats(client: httpx2.AsyncClient) -> dict[str, Any]:
    """What the server says of itself."""
    found: dict[str, Any] = (await client.get("/stats")).json()
    return found


async def until_ready(client: httpx2.AsyncClient) -> None:
    """Wait until the server takes requests."""
    async with asyncio.timeout(60):
        while (await client.get("/ready")).status_code != 200:  # noqa: ASYNC110 - it is asked
            await asyncio.sleep(0.1)


async def until_gone(pid: int) -> None:
    """Wait until the server has noticed that a process has ended."""
    async with asyncio.timeout(30):
        while Path(f"/proc/{pid}").exists():  # noqa: ASYNC110, ASYNC240 - the kernel is asked
            await asyncio.sleep(0.01)


async def test_mixed_traffic_equals_merged_models(
    client: httpx2.AsyncClient, root: Path, expected: Callable[..., Tokens]
) -> None:
    """The model and adapters of ranks 4 to 64 at once, while one of them comes and goes."""
    names = ["tiny", "small", "middle"] * 4
    wanted = {name: expected(name) for name in {*names, "large"}}
    assert len({str(each) for each in wanted.values()}) == len(wanted), "the adapters make no difference"
    asked = [asyncio.create_task(tokens(client, name)) for name in names]
    for _ in range(5):
        assert (await load(client, "large", root / "large")).status_code == 200
        assert await tokens(client, "large") == wanted["large"]
        assert (await unload(client, "large")).status_code == 200
        answer = await client.post("/v1/completions", json={"model": "large", "prompt": "0"})
        assert answer.status_code == 404, answer.text
    assert await asyncio.gather(*asked) == [wanted[name] for name in names]


async def test_requests_of_an_adapter_that_goes_away_end_well(
    client: httpx2.AsyncClient, root: Path, expected: Callable[..., Tokens]
) -> None:
    """Whoever was taken in before gets the whole answer; whoever comes after hears that it is unknown."""
    assert (await load(client, "going", root / "large")).status_code == 200
    asked = [asyncio.create_task(tokens(client, "going")) for _ in range(8)]
    await asyncio.sleep(0)
    gone = asyncio.create_task(unload(client, "going"))
    ends = await asyncio.gather(*asked, return_exceptions=True)
    assert (await gone).status_code == 200
    assert [end for end in ends if isinstance(end, list) and end != expected("large")] == []
    assert {type(end) for end in ends} <= {list, AssertionError}
    assert [str(end) for end in ends if isinstance(end, AssertionError) and "404" not in str(end)] == []


async def test_what_may_not_be_loaded_is_not(
    client: httpx2.AsyncClient, root: Path, tiny_llama: Path, tmp_path: Path
) -> None:
    """Not by users, not from elsewhere, not as another kind of file; and what was there stays as it was."""
    outside = save_random_adapter(tmp_path / "outside")
    (root / "link").symlink_to(outside)
    pickled = save_random_adapter(root / "pickled")
    (pickled / "adapter_model.safetensors").rename(pickled / "adapter_model.bin")
    empty = root / "no-adapter"
    empty.mkdir()
    before = (await client.get("/v1/models")).json()
    refused = [
        (await load(client, "x", root / "large", **USER), (401, 403)),
        (await load(client, "x", outside), (403,)),
        (await load(client, "x", root / "link"), (403,)),
        (await load(client, "x", Path("/etc")), (403,)),
        (await load(client, "x", root / "nowhere"), (403,)),
        (await load(client, "x", pickled), (400,)),
        (await load(client, "x", empty), (400,)),
        (await load(client, "tiny", root / "large"), (400,)),
        (await unload(client, "nobody"), (404,)),
        (await update(client, tiny_llama, 1), (403,)),
    ]
    for answer, statuses in refused:
        assert answer.status_code in statuses, answer.text
        assert answer.json()["error"]["message"]
    after = (await client.get("/v1/models")).json()
    assert [card["id"] for card in after["data"]] == [card["id"] for card in before["data"]]
    answer = await client.post("/v1/completions", json={"model": "smal", "prompt": "0"})
    assert answer.status_code == 404
    assert "small" in answer.json()["error"]["message"]


async def test_weights_are_replaced_while_a_stream_goes_on(
    client: httpx2.AsyncClient, other_weights: Path, expected: Callable[..., Tokens]
) -> None:
    """What runs goes on to its end, and what comes after is of the new weights."""
    body = {"model": "tiny", "prompt": [7], "max_tokens": 400, "ignore_eos": True, "stream": True}
    body |= {"stream_options": {"include_usage": True}}
    version = (await stats(client))["version"]
    async with client.stream("POST", "/v1/completions", json=body) as answer:
        events = answer.aiter_lines()
        assert (await anext(events)).startswith("data: ")
        updated = await update(client, other_weights, version + 1)
        lines = [line async for line in events if line]
    assert updated.status_code == 200, updated.text
    assert lines[-1] == "data: [DONE]"
    assert '"completion_tokens":400' in lines[-2]
    assert (await stats(client))["version"] == version + 1
    for name in ("tiny", "middle"):
        assert await tokens(client, name) == expected(name, other_weights)
    assert expected("tiny", other_weights) != expected("tiny")


async def test_weights_that_cannot_be_used_change_nothing(
    client: httpx2.AsyncClient, tiny_llama: Path, root: Path, expected: Callable[..., Tokens]
) -> None:
    """Whatever is wrong with them is said, none of them is taken over, and what was there goes on."""
    weights = root / "other-weights"
    version = (await stats(client))["version"]
    for name, (folder, why) in broken_weights(tiny_llama, root).items():
        answer = await update(client, folder, version + 1)
        assert answer.status_code == 400, (name, answer.text)
        assert why in answer.json()["error"]["message"], answer.text
        assert (await stats(client))["version"] == version
        assert await tokens(client, "tiny") == expected("tiny", weights), name
    for folder, other in ((weights, version - 1), (root / "lacking", version)):
        answer = await update(client, folder, other)
        assert answer.status_code == 400, answer.text
    assert (await stats(client))["version"] == version


def broken_weights(model: Path, root: Path) -> dict[str, tuple[Path, str]]:
    """Folders with weights that don't work for ``model``, each with a word that must be said of it."""
    from safetensors.torch import load_file, save_file

    weights = load_file(model / "model.safetensors")
    last = max(weights)
    file = "model.safetensors"
    folders = {name: root / name for name in ("empty", "lacking", "odd", "cut")}
    for folder in folders.values():
        shutil.copytree(model, folder)
    (folders["empty"] / file).unlink()
    save_file({name: each for name, each in weights.items() if name != last}, folders["lacking"] / file)
    save_file({**weights, last: torch.zeros(3, 5)}, folders["odd"] / file)
    (folders["cut"] / file).write_bytes((model / file).read_bytes()[:-100])
    words = {"empty": "empty", "lacking": last, "odd": last, "cut": "cut"}
    return {name: (folder, words[name]) for name, folder in folders.items()} | {
        "an adapter": (root / "small", "small")
    }


@pytest.mark.parametrize("part", ["worker", "router"])
async def test_adapters_and_weights_outlive_their_process(
    server: Served, client: httpx2.AsyncClient, root: Path, expected: Callable[..., Tokens], part: str
) -> None:
    """What was loaded while the server ran is there again after a process was killed."""
    weights = root / "other-weights"
    if part == "worker":
        assert (await load(client, "large", root / "large")).status_code == 200
        assert (await unload(client, "small")).status_code == 200
    before = await stats(client)
    (victim,) = server.pids(part)
    os.kill(victim, signal.SIGKILL)
    await until_gone(victim)
    await until_ready(client)
    after = await stats(client)
    assert (after["version"], after["adapters"]) == (before["version"], before["adapters"])
    assert [adapter["name"] for adapter in after["adapters"]] == ["large", "middle"]
    for name in ("tiny", "middle", "large"):
        assert await tokens(client, name) == expected(name, weights)
    assert (await client.post("/v1/completions", json={"model": "small", "prompt": "0"})).status_code == 404


async def test_without_arithmetic_adapters_load_and_change_nothing(
    tiny_llama: Path, root: Path, tmp_path: Path, expected: Callable[..., Tokens]
) -> None:
    """``--no-lora-compute`` is for measuring: everything but the products happens."""
    arguments = ["--model", str(tiny_llama), *KEYS, "serve.name=tiny", "engine.dtype=float32"]
    arguments += [f"--lora=small={root / 'small'}", "--no-lora-compute", f"serve.lora_roots=[{root}]"]
    with served(tmp_path, *arguments) as server:
        async with httpx2.AsyncClient(base_url=server.url, headers=USER, timeout=60) as client:
            assert (await load(client, "large", root / "large")).status_code == 200
            assert [each["name"] for each in (await stats(client))["adapters"]] == ["large", "small"]
            for name in ("tiny", "small", "large"):
                assert await tokens(client, name) == expected("tiny")
