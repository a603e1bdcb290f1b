"""What a server of two HTTP processes answers: scores, text, tools and JSON, whole and in pieces."""

import asyncio
import json
import os
import shutil
import signal
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import httpx2
import openai
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from served import Served, served

# As Qwen's and Hermes' templates write tools, calls and what those gave.
TOOL_TEMPLATE = (
    "{% if tools %}<|system|>{{ tools | tojson }} <tool_call>{}</tool_call><|end|>{% endif %}"
    "{% for m in messages %}<|{{ 'user' if m.role == 'tool' else m.role }}|>"
    "{% if m.role == 'tool' %}<tool_response>{% endif %}{{ m.content }}"
    "{% for c in m.tool_calls or [] %}<tool_call>"
    '{"name": "{{ c.function.name }}", "arguments": {{ c.function.arguments | tojson }}}</tool_call>'
    "{% endfor %}<|end|>{% endfor %}{% if add_generation_prompt %}<|assistant|>{% endif %}"
)
LIGHT = {
    "type": "object",
    "properties": {"room": {"enum": ["kitchen", "küche", "台所"]}, "on": {"type": "boolean"}},
    "required": ["room", "on"],
    "additionalProperties": False,
}
NOON = {"type": "object", "properties": {}, "additionalProperties": False}
TOOLS: list[Any] = [
    {"type": "function", "function": {"name": "light", "description": "a switch", "parameters": LIGHT}},
    {"type": "function", "function": {"name": "noon", "parameters": NOON}},
]
FORCED: dict[str, Any] = {
    "model": "tiny",
    "messages": [{"role": "user", "content": "light up the 台所"}],
    "tools": TOOLS,
    "tool_choice": "required",
    "max_completion_tokens": 800,
}
PIECES = [
    "🇫🇷",
    "👩\u200d👩\u200d👧",
    "e\u0301",
    "é",
    "東京",
    "नमस्ते",
    "ﷺ",
    "\u200d",
    "�",
    "\0",
    " ",
    "\n",
    "fox",
    "42",
]
LOOK_ALIKES = ["<|end|>", "<|user|>", "<|assistant|>", "<|end", "|>", "<tool_call>"]
SEEDS = st.integers(0, 2**63 - 1)


@pytest.fixture(scope="module")
def model(tiny_llama: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny model with a chat template that knows tools, and with room for it."""
    folder = tmp_path_factory.mktemp("tools") / "tiny-tools"
    shutil.copytree(tiny_llama, folder)
    (folder / "chat_template.jinja").write_text(TOOL_TEMPLATE)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"max_position_embeddings": 2048}))
    return folder


@pytest.fixture(scope="module")
def tokenizer(model: Path) -> Any:
    """Its tokenizer, as transformers loads it."""
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(model)


@pytest.fixture(scope="module")
def server(model: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """In float32, with two HTTP processes that share the port."""
    arguments = ["--model", str(model), "engine.dtype=float32", "serve.name=tiny", "serve.http_processes=2"]
    with served(tmp_path_factory.mktemp("answers"), *arguments) as found:
        yield found


@pytest.fixture(scope="module")
def client(server: Served) -> Iterator[openai.OpenAI]:
    """OpenAI's own client."""
    with openai.OpenAI(base_url=f"{server.url}/v1", api_key="none", max_retries=0, timeout=60) as found:
        yield found


@pytest.fixture(scope="module")
def plain(server: Served) -> Iterator[httpx2.Client]:
    """A client that sees what is sent."""
    with httpx2.Client(base_url=server.url, timeout=60, trust_env=False) as found:
        yield found


def test_scores_are_those_of_transformers(client: openai.OpenAI, model: Path, tokenizer: Any) -> None:
    """Continuations of contexts, asked for as lm-eval does: echo, logprobs, temperature 0, one token more."""
    from transformers import AutoModelForCausalLM

    reference = AutoModelForCausalLM.from_pretrained(model, dtype=torch.float32)
    contexts = ["the quick brown", "answer:", "0 1 2", "naïve café 東京"]
    endings = [" fox", " forty two", " 3 4", " 🇫🇷 é"]
    prompts = [tokenizer(context + ending)["input_ids"] for context in contexts for ending in endings]
    asked: dict[str, Any] = {"model": "tiny", "echo": True, "logprobs": 1, "temperature": 0, "seed": 1234}
    answers = [client.completions.create(prompt=ids, max_tokens=1, **asked).choices[0] for ids in prompts]
    together = client.completions.create(prompt=prompts, max_tokens=0, **asked).choices
    for ids, one, other in zip(prompts, answers, together, strict=True):
        with torch.inference_mode():
            logits = reference(torch.tensor([ids])).logits[0]
        scores = torch.log_softmax(logits[:-1], -1)
        own = scores[range(len(ids) - 1), ids[1:]].tolist()
        for found in (one.logprobs, other.logprobs):
            assert found
            assert found.tokens
            assert found.token_logprobs
            assert found.token_logprobs[0] is None
            assert found.token_logprobs[1 : len(ids)] == pytest.approx(own, abs=1e-4)
            best = [max(top.values()) for top in (found.top_logprobs or [])[1 : len(ids)]]
            assert best == pytest.approx(scores.max(-1).values.tolist(), abs=1e-4)
        assert len(one.logprobs.tokens or []) == len(ids) + 1
        assert len(other.logprobs.tokens or []) == len(ids)


def stream_of(client: httpx2.Client, path: str, body: dict[str, Any]) -> list[dict[str, Any]]:
    """All choices of all events of a stream that ends as it should."""
    answer = client.post(path, json=body | {"stream": True})
    lines = [line.removeprefix("data: ") for line in answer.text.split("\n") if line]
    assert lines.pop() == "[DONE]", answer.text
    return [choice for line in lines for choice in json.loads(line)["choices"]]


def whole_of(client: httpx2.Client, path: str, body: dict[str, Any]) -> dict[str, Any]:
    """The answer in one piece."""
    answer = client.post(path, json=body)
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


def joined(choices: Sequence[dict[str, Any]], index: int) -> tuple[str, list[int]]:
    """Text and token ids of one choice of a stream."""
    own = [choice for choice in choices if choice["index"] == index]
    assert [choice["finish_reason"] is not None for choice in own] == [False] * (len(own) - 1) + [True]
    return "".join(c["text"] for c in own), [id_ for c in own for id_ in c["token_ids"]]


@settings(max_examples=8, derandomize=True, database=None)
@given(parts=st.lists(st.sampled_from(PIECES + LOOK_ALIKES), min_size=1, max_size=12), seed=SEEDS)
def test_text_is_that_of_the_tokens(
    plain: httpx2.Client, tokenizer: Any, parts: list[str], seed: int
) -> None:
    """In one piece, in many, and as transformers decodes the ids; whatever script it is in."""
    prompt = "".join(parts)
    body = {"model": "tiny", "prompt": prompt, "seed": seed, "temperature": 2, "max_tokens": 80, "n": 2}
    body["return_token_ids"] = True
    whole = whole_of(plain, "/v1/completions", body)["choices"]
    streamed = stream_of(plain, "/v1/completions", body)
    for index, choice in enumerate(whole):
        assert choice["prompt_token_ids"] == tokenizer(prompt)["input_ids"]
        ids = choice["token_ids"]
        assert choice["text"] == tokenizer.decode(ids, skip_special_tokens=True)
        assert joined(streamed, index) == (choice["text"], ids)
    shown = stream_of(plain, "/v1/completions", body | {"skip_special_tokens": False, "echo": True})
    for index, choice in enumerate(whole):
        assert joined(shown, index)[0] == prompt + tokenizer.decode(choice["token_ids"])


@settings(max_examples=8, derandomize=True, database=None)
@given(parts=st.lists(st.sampled_from(LOOK_ALIKES + PIECES), min_size=1, max_size=8), seed=SEEDS)
def test_what_people_write_is_never_special(
    plain: httpx2.Client, tokenizer: Any, parts: list[str], seed: int
) -> None:
    """A message can't end itself or speak for somebody else; the answer's text is that of its tokens."""
    text = "".join(parts)
    body = {"model": "tiny", "messages": [{"role": "user", "content": text}], "return_token_ids": True}
    body |= {"seed": seed, "temperature": 2, "max_completion_tokens": 60}
    whole = whole_of(plain, "/v1/chat/completions", body)
    ids = whole["prompt_token_ids"]
    special = [tokenizer.convert_ids_to_tokens(id_) for id_ in ids if id_ in tokenizer.all_special_ids]
    added = [token for token in map(tokenizer.convert_ids_to_tokens, ids) if token in LOOK_ALIKES]
    assert added == ["<|user|>", "<|end|>", "<|assistant|>"], special
    assert tokenizer.decode(ids) == f"<|user|>{text}<|end|><|assistant|>"
    (choice,) = whole["choices"]
    assert choice["message"]["content"] == tokenizer.decode(choice["token_ids"], skip_special_tokens=True)
    pieces = stream_of(plain, "/v1/chat/completions", body)
    said = "".join(piece["delta"].get("content") or "" for piece in pieces)
    assert said == choice["message"]["content"]


@settings(max_examples=20, derandomize=True, database=None)
@given(text=st.text(max_size=200))
def test_tokens_are_the_tokenizer_s(plain: httpx2.Client, tokenizer: Any, text: str) -> None:
    """``/tokenize`` and ``/detokenize``, for any text."""
    found = whole_of(plain, "/tokenize", {"prompt": text, "return_token_strs": True})
    assert found["tokens"] == tokenizer(text)["input_ids"]
    assert found["count"] == len(found["token_strs"])
    assert whole_of(plain, "/detokenize", {"tokens": found["tokens"]})["prompt"] == text


def streamed_calls(client: openai.OpenAI, asked: dict[str, Any]) -> tuple[str | None, list[tuple[str, str]]]:
    """How a stream finished, and names and arguments of its calls, put together as clients do."""
    calls: dict[int, list[str]] = {}
    ids: list[str] = []
    finish = None
    for chunk in client.chat.completions.create(**asked, stream=True):
        for choice in chunk.choices:
            finish = choice.finish_reason or finish
            for delta in choice.delta.tool_calls or []:
                assert delta.function
                call = calls.setdefault(delta.index, ["", ""])
                call[0] += delta.function.name or ""
                call[1] += delta.function.arguments or ""
                ids += [delta.id] if delta.id else []
    assert list(calls) == list(range(len(calls)))
    assert len(set(ids)) == len(ids) == len(calls)
    return finish, [(name, arguments) for name, arguments in calls.values()]


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_a_forced_call_is_valid(client: openai.OpenAI, seed: int) -> None:
    """Even from a model that knows nothing of tools and loves blanks; in pieces it is the same."""
    asked = {**FORCED, "seed": seed, "parallel_tool_calls": False}
    choice = client.chat.completions.create(**asked).choices[0]
    assert choice.finish_reason == "tool_calls", choice
    (call,) = choice.message.tool_calls or []
    assert call.type == "function"
    arguments = json.loads(call.function.arguments)
    assert set(arguments) == ({"room", "on"} if call.function.name == "light" else set())
    assert streamed_calls(client, asked) == ("tool_calls", [(call.function.name, call.function.arguments)])


def test_several_forced_calls_come_in_order(client: openai.OpenAI, tokenizer: Any) -> None:
    """A model that never ends the list calls until its tokens are used up; all but the last are whole."""
    end = tokenizer.convert_tokens_to_ids("]")
    asked = {**FORCED, "seed": 5, "logit_bias": {str(end): -100}}
    choice = client.chat.completions.create(**asked).choices[0]
    calls = [call.function for call in choice.message.tool_calls or [] if call.type == "function"]
    assert choice.finish_reason == "length"
    assert len(calls) > 1
    for call in calls[:-1]:
        assert set(json.loads(call.arguments)) == ({"room", "on"} if call.name == "light" else set())
    whole = choice.finish_reason, [(call.name, call.arguments) for call in calls]
    assert streamed_calls(client, asked) == whole


@pytest.mark.parametrize("said", ["", "Wait\n"])
def test_calls_of_the_model_s_own_will_are_found(client: openai.OpenAI, said: str) -> None:
    """With ``auto`` the text is read as the template writes calls; a regex makes the model write two."""
    arguments = r"""\{"room": "(kitchen|küche|台所)", "on": (true|false)\}"""
    call = rf"""<tool_call>\n\{{"name": "light", "arguments": {arguments}\}}\n</tool_call>"""
    asked = {
        **FORCED,
        "tool_choice": "auto",
        "seed": 6,
        "extra_body": {"guided_regex": f"{said}{call}\n{call}"},
    }
    choice = client.chat.completions.create(**asked).choices[0]
    assert choice.finish_reason == "tool_calls", choice
    calls = [call.function for call in choice.message.tool_calls or [] if call.type == "function"]
    assert len(calls) == 2
    assert all(set(json.loads(call.arguments)) == {"room", "on"} for call in calls)
    assert (choice.message.content or "") == said.strip()
    assert streamed_calls(client, asked) == ("tool_calls", [(call.name, call.arguments) for call in calls])


def test_a_named_call_and_what_it_gave(client: openai.OpenAI) -> None:
    """The forced function is called; its result is shown in the next turn, in which the model may speak."""
    messages: list[Any] = [{"role": "user", "content": "light"}]
    asked: dict[str, Any] = {"model": "tiny", "tools": TOOLS, "seed": 4, "max_completion_tokens": 400}
    named: Any = {"type": "function", "function": {"name": "light"}}
    first = client.chat.completions.create(messages=messages, tool_choice=named, **asked).choices[0].message
    (call,) = first.tool_calls or []
    assert call.type == "function"
    assert json.loads(call.function.arguments)["room"] in LIGHT["properties"]["room"]["enum"]  # type: ignore[index]
    asked_again = {**asked, "messages": messages, "tool_choice": named}
    assert streamed_calls(client, asked_again) == ("tool_calls", [("light", call.function.arguments)])
    messages += [
        first.model_dump(exclude_none=True),
        {"role": "tool", "tool_call_id": call.id, "content": "on"},
    ]
    second = client.chat.completions.create(messages=messages, tool_choice="auto", **asked)
    assert second.choices[0].finish_reason in ("stop", "length")
    assert second.choices[0].message.content
    assert second.usage
    without = client.chat.completions.create(messages=messages, tool_choice="none", **asked)
    assert without.usage
    assert second.usage.prompt_tokens > without.usage.prompt_tokens


@pytest.mark.parametrize("seed", [1, 2])
def test_json_in_pieces_is_the_same_json(client: openai.OpenAI, seed: int) -> None:
    """A schema is kept to in a stream too."""
    schema = {"type": "json_schema", "json_schema": {"name": "light", "schema": LIGHT, "strict": True}}
    asked: dict[str, Any] = {
        "model": "tiny",
        "messages": [{"role": "user", "content": "which light?"}],
        "response_format": schema,
        "seed": seed,
        "max_completion_tokens": 120,
    }
    whole = client.chat.completions.create(**asked).choices[0].message.content
    pieces = [
        choice.delta.content or ""
        for chunk in client.chat.completions.create(**asked, stream=True)
        for choice in chunk.choices
    ]
    assert "".join(pieces) == whole
    assert len(pieces) > 5
    assert set(json.loads(whole or "")) == {"room", "on"}


def sockets(pid: int) -> int:
    """How many sockets a process has open."""
    found = 0
    for entry in Path(f"/proc/{pid}/fd").iterdir():
        with suppress(FileNotFoundError):  # closed while we looked
            found += str(entry.readlink()).startswith("socket:")
    return found


async def test_http_processes_share_the_port(server: Served) -> None:
    """Both take requests; when one is killed, the other's go on, and another takes its place."""
    body = {"model": "tiny", "prompt": "0", "stream": True, "ignore_eos": True, "max_tokens": 1000}
    limits = httpx2.Limits(max_connections=None, max_keepalive_connections=0)
    async with httpx2.AsyncClient(base_url=server.url, timeout=60, limits=limits, trust_env=False) as client:
        begun: asyncio.Queue[None] = asyncio.Queue()

        async def stream() -> bool:
            try:
                async with client.stream("POST", "/v1/completions", json=body) as answer:
                    lines = answer.aiter_lines()
                    await anext(lines)
                    begun.put_nowait(None)
                    return [line async for line in lines if line][-1] == "data: [DONE]"
            except httpx2.TransportError:
                return False

        pids = server.pids("http")
        before = {pid: sockets(pid) for pid in pids}
        streams: list[asyncio.Task[bool]] = []
        while any(sockets(pid) <= before[pid] for pid in pids):
            assert len(streams) < 200, "one of them gets nothing"
            streams.append(asyncio.create_task(stream()))
            await begun.get()
        os.kill(pids[0], signal.SIGKILL)
        ends = await asyncio.gather(*streams)
        assert set(ends) == {True, False}
        async with asyncio.timeout(60):
            while len(server.pids("http")) < 2:  # noqa: ASYNC110 - the kernel is asked
                await asyncio.sleep(0.1)
        answers = await asyncio.gather(
            *(
                client.post("/v1/completions", json=body | {"stream": False, "max_tokens": 2})
                for _ in range(16)
            )
        )
        assert {answer.status_code for answer in answers} == {200}
