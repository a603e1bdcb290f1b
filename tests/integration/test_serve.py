"""The server as its users meet it: the real command, a real model, and OpenAI's own client."""

import asyncio
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import openai
import pytest
from command_line import Run
from engine_alone import greedy
from served import Served, served

KEY, ADMIN = "a-key-for-users", "a-key-for-admins"
PROMPTS = [
    "the quick brown fox",
    "answer: forty two",
    "0 1 2 3",
    "naïve café 東京 🇫🇷👩‍👩‍👧 é",
    "<|end|> is no end",
]


@pytest.fixture(scope="module")
def server(tiny_llama: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """A server with keys; greedy float32, so that what it says can be compared."""
    arguments = ["--model", str(tiny_llama), "--api-key", KEY, "--admin-key", ADMIN, "engine.dtype=float32"]
    with served(tmp_path_factory.mktemp("serve"), *arguments, "serve.name=tiny") as found:
        yield found


@pytest.fixture(scope="module")
def client(server: Served) -> Iterator[openai.OpenAI]:
    """OpenAI's own client."""
    with openai.OpenAI(base_url=f"{server.url}/v1", api_key=KEY, max_retries=0, timeout=60) as found:
        yield found


def test_completions_are_the_engine_s_own(client: openai.OpenAI, tiny_llama: Path) -> None:
    """All prompts in one request, and each alone, give the tokens that the bare engine gives."""
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(tiny_llama)
    ids = [tuple(tokenizer(prompt)["input_ids"]) for prompt in PROMPTS]
    expected = [tokenizer.decode(each, skip_special_tokens=True) for each in greedy(tiny_llama, ids, 40)]
    together = client.completions.create(model="tiny", prompt=PROMPTS, temperature=0, max_tokens=40)
    assert [choice.text for choice in together.choices] == expected
    by_ids = client.completions.create(
        model="tiny", prompt=[list(each) for each in ids], temperature=0, max_tokens=40
    )
    assert [choice.text for choice in by_ids.choices] == expected
    assert by_ids.usage
    assert by_ids.usage.prompt_tokens == sum(map(len, ids))


@pytest.mark.parametrize("prompt", PROMPTS)
def test_streamed_text_is_the_text(client: openai.OpenAI, prompt: str) -> None:
    """In pieces it is the same, with the usage at the end."""
    asked: dict[str, Any] = {"model": "tiny", "prompt": prompt, "temperature": 1, "seed": 5, "max_tokens": 60}
    whole = client.completions.create(**asked, n=2)
    pieces = ["", ""]
    usage = None
    for chunk in client.completions.create(**asked, n=2, stream=True, stream_options={"include_usage": True}):
        usage = chunk.usage or usage
        for choice in chunk.choices:
            pieces[choice.index] += choice.text
    assert pieces == [choice.text for choice in whole.choices]
    assert usage == whole.usage


def test_a_seed_repeats_and_none_does_not(client: openai.OpenAI) -> None:
    """The same seed gives the same samples; without one they differ."""
    asked: dict[str, Any] = {"model": "tiny", "prompt": "0 1", "max_tokens": 30}
    first, second = (client.completions.create(**asked, seed=7).choices[0].text for _ in range(2))
    assert first == second
    assert len({client.completions.create(**asked).choices[0].text for _ in range(3)}) > 1


def test_stop_strings_end_the_text_and_stay_out_of_it(client: openai.OpenAI) -> None:
    """Also where they begin in one token and end in another."""
    asked: dict[str, Any] = {"model": "tiny", "prompt": "0 1", "max_tokens": 60, "temperature": 0}
    text = client.completions.create(**asked).choices[0].text
    stop = text[17:20]
    choice = client.completions.create(**asked, stop=[stop]).choices[0]
    assert choice.text == text[: text.index(stop)]
    assert choice.finish_reason == "stop"


def test_chat_speaks_through_the_template(client: openai.OpenAI) -> None:
    """Roles, n, logprobs, finish reasons."""
    answer = client.chat.completions.create(
        model="tiny",
        messages=[{"role": "system", "content": "be brief"}, {"role": "user", "content": "hello"}],
        n=2,
        seed=1,
        max_completion_tokens=12,
        logprobs=True,
        top_logprobs=3,
    )
    assert [choice.index for choice in answer.choices] == [0, 1]
    for choice in answer.choices:
        assert choice.finish_reason in ("length", "stop")
        assert choice.logprobs
        assert choice.logprobs.content
        for token in choice.logprobs.content:
            assert token.logprob <= 0
            assert len(token.top_logprobs) == 3
            assert token.bytes is not None
        spoken = b"".join(bytes(t.bytes or []) for t in choice.logprobs.content)
        assert (choice.message.content or "") in spoken.decode(errors="replace")


def test_a_json_schema_is_kept_to(client: openai.OpenAI) -> None:
    """Even by a model that speaks nonsense."""
    schema = {
        "type": "object",
        "properties": {"n": {"type": "integer", "maximum": 9, "minimum": 0}},
        "required": ["n"],
        "additionalProperties": False,
    }
    answer = client.chat.completions.create(
        model="tiny",
        messages=[{"role": "user", "content": "a number"}],
        response_format={"type": "json_schema", "json_schema": {"name": "n", "schema": schema}},
        max_completion_tokens=60,
        seed=3,
    )
    content = answer.choices[0].message.content
    assert content
    assert set(json.loads(content)) == {"n"}


def test_a_prompt_is_scored(client: openai.OpenAI) -> None:
    """As lm-eval does: echo with logprobs and no new tokens."""
    answer = client.completions.create(
        model="tiny", prompt="the quick brown fox", echo=True, logprobs=1, max_tokens=0
    )
    choice = answer.choices[0]
    assert choice.text == "the quick brown fox"
    assert choice.logprobs
    scores = choice.logprobs.token_logprobs
    assert scores
    assert scores[0] is None
    assert all(score <= 0 for score in scores[1:])
    assert choice.logprobs.tokens
    assert "".join(choice.logprobs.tokens) == "the quick brown fox"


@pytest.mark.parametrize(
    ("change", "kind", "words"),
    [
        ({"model": "nobody"}, openai.NotFoundError, "nobody"),
        ({"max_tokens": -1}, openai.BadRequestError, "max_tokens"),
        ({"temperature": 1e9}, openai.BadRequestError, "temperature"),
        ({"n": 10**9}, openai.BadRequestError, "n"),
        ({"prompt": "0 " * 5000}, openai.BadRequestError, "512"),
        ({"extra_body": {"temprature": 1}}, openai.BadRequestError, "temperature"),
        ({"logit_bias": {"99999": 1}}, openai.BadRequestError, "99999"),
    ],
)
def test_errors_are_openai_s(
    client: openai.OpenAI, change: dict[str, Any], kind: type[openai.APIStatusError], words: str
) -> None:
    """The client raises its own exceptions, with our words."""
    with pytest.raises(kind, match=re.escape(words)):
        client.completions.create(**{"model": "tiny", "prompt": "0", **change})


@pytest.mark.parametrize(("path", "method"), [("/v1/models", "GET"), ("/metrics", "GET"), ("/stats", "GET")])
def test_strangers_see_nothing(server: Served, path: str, method: str) -> None:
    """Every route but those of liveness wants a key."""
    assert httpx2.request(method, server.url + path).status_code == 401
    wrong = {"Authorization": "Bearer a-key-for-nobody"}
    assert httpx2.request(method, server.url + path, headers=wrong).status_code == 401
    assert httpx2.get(f"{server.url}/health").status_code == 200


def test_weights_are_replaced_by_admins_alone(server: Served, client: openai.OpenAI) -> None:
    """And only from folders that were named before."""
    body = {"version": 1, "path": "/etc"}
    for key, status in ((KEY, (401, 403)), (ADMIN, (400, 403))):
        answer = httpx2.post(
            f"{server.url}/update_weights", json=body, headers={"Authorization": f"Bearer {key}"}
        )
        assert answer.status_code in status, answer.text
    assert client.models.list().data[0].id == "tiny"


def test_rollouts_generate_with_it(asynckit: Run, server: Served, tiny_llama: Path, tmp_path: Path) -> None:
    """``asynckit rollout --engine openai`` takes it for an engine: token ids and logprobs in and out."""
    prompts = tmp_path / "prompts.jsonl"
    prompts.write_text("\n".join(json.dumps({"prompt": text, "answer": "1"}) for text in PROMPTS))
    done = asynckit(
        *("rollout", "--engine", "openai", "--model", str(tiny_llama), "--prompts", str(prompts)),
        *("--reward", "last_number", "-n", "2", "--out", str(tmp_path / "run"), "--json", "--quiet"),
        *(f"openai.base_urls={server.url}", f"openai.api_key={KEY}", "sampling.max_tokens=16"),
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["groups"]["completed"] == len(PROMPTS)


async def test_garbage_bodies_bring_nothing_down(server: Served) -> None:
    """Random bytes to every route, at once: nothing but refusals, and it serves on."""
    import random

    random_bytes = random.Random(0)  # noqa: S311 - not for secrets
    headers = {"Authorization": f"Bearer {KEY}", "Content-Type": "application/json"}
    routes = ["/v1/completions", "/v1/chat/completions", "/tokenize", "/detokenize", "/v1/embeddings"]
    async with httpx2.AsyncClient(base_url=server.url, headers=headers, timeout=60) as client:

        async def post(index: int) -> int:
            body = random_bytes.randbytes(random_bytes.randrange(200))
            if index % 2:
                body = b'{"model": "tiny", "prompt": ' + body
            return (await client.post(routes[index % len(routes)], content=body)).status_code

        for first in range(0, 2000, 100):
            statuses = await asyncio.gather(*(post(index) for index in range(first, first + 100)))
            assert set(statuses) <= {400, 404, 422}, statuses
        assert (await client.get("/health")).status_code == 200


def test_a_check_answers_one_request_and_stops(asynckit: Run, tiny_llama: Path) -> None:
    """For scripts: the exit code says whether the server works."""
    done = asynckit("serve", "--check", "--json", "--port", "0", "--model", str(tiny_llama))
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["tokens"] > 0


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["--host", "0.0.0.0"], 2, "--api-key"),  # noqa: S104 - refused
        (["--model", "no/such/model/here"], 5, "no/such/model/here"),
        (["--lora", "a=/nowhere"], 4, "/nowhere"),
        (["serve.tls_key=/nowhere"], 3, "serve.tls_cert"),
        (["--api-key", "x"], 3, "serve.api_keys"),
        (["--admin-key", "x"], 3, "serve.admin_key"),
        (["--trace", "/proc/x"], 3, "/proc/x"),
        (["sampling.temperature=0"], 2, "requests say"),
    ],
)
def test_what_cannot_be_served_is_said_at_once(
    asynckit: Run, tiny_llama: Path, arguments: list[str], code: int, words: str
) -> None:
    """With the place and the mend."""
    done = asynckit("serve", "--port", "0", "--model", str(tiny_llama), *arguments)
    assert done.returncode == code, done.stderr
    assert words in done.stderr
    assert "Traceback" not in done.stderr
