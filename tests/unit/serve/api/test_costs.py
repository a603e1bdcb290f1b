"""What one HTTP request may cost: bounds on what its parts cost together, and what is kept off the loop."""

import asyncio
import re
import threading
from typing import Any

import httpx2
import pytest
from fake_ring import ServerThread

from asynckit.engine.config import SamplingParams
from asynckit.serve.api import costs, generation, grammars
from asynckit.serve.api.costs import check_sent, check_shown, off_loop
from asynckit.serve.api.errors import ApiError
from asynckit.serve.api.generation import texts_of
from asynckit.serve.api.grammars import GrammarChecks
from asynckit.serve.messages import Text

ASK: dict[str, Any] = {"model": "tiny", "prompt": [7], "max_tokens": 2}
FIELDS = {"grammar_field": "guided_regex", "prompt_field": "prompt"}


@pytest.mark.parametrize(
    ("sampling", "field"),
    [
        (SamplingParams(allowed_token_ids=tuple(range(100_000))), "allowed_token_ids"),
        (SamplingParams(regex="a" * 65_536), "guided_regex"),
        (SamplingParams(), "prompt"),
    ],
)
def test_what_is_sent_for_every_prompt_counts_for_each(sampling: SamplingParams, field: str) -> None:
    """One prompt may have it; 256 may not, and the field that costs most is named."""
    prompts = [(1,) * 10_000] * 256
    check_sent(prompts[:1], sampling, **FIELDS)
    with pytest.raises(ApiError) as caught:
        check_sent(prompts, sampling, **FIELDS)
    assert (caught.value.status, caught.value.param, caught.value.code) == (400, field, "too_costly")


@pytest.mark.parametrize(
    ("n", "given"),
    [
        (20, {"prompt_logprobs": 20}),
        (64, {"characters": 1_000_000}),
        (1000, {"with_ids": True}),
    ],
)
def test_what_is_shown_in_every_sample_counts_for_each(n: int, given: dict[str, Any]) -> None:
    """One sample may show it; many may not."""
    shown: dict[str, Any] = {"prompt_logprobs": None, "longest_token": 128, **given}
    check_shown(7900, 1, 1, **shown)
    with pytest.raises(ApiError) as caught:
        check_shown(7900, 1, n, **shown)
    assert (caught.value.status, caught.value.param) == (400, "n")


def test_costs_are_checked_before_anything_is_sent(
    server: ServerThread, client: httpx2.Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Scores, echoed text and prompts that are too much never reach the ring."""
    monkeypatch.setattr(costs, "MOST_SHOWN", 2000)
    before = len(server.ring.generates)
    for fields in (
        {"prompt_logprobs": 5},
        {"echo": True, "logprobs": 5},
        {"echo": True, "n": 8},
        {"return_token_ids": True, "n": 8},
    ):
        answer = client.post("/v1/completions", json={**ASK, "prompt": [7] * 100, **fields})
        assert (answer.status_code, answer.json()["error"]["code"]) == (400, "too_costly"), fields
    monkeypatch.setattr(costs, "MOST_SENT", 1000)
    answer = client.post("/v1/embeddings", json={"model": "tiny", "input": [[7] * 40] * 2})
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, "input")
    assert len(server.ring.generates) == before


def test_repeated_ids_are_sent_once(server: ServerThread, client: httpx2.Client) -> None:
    """However often a list names a token, it costs what its different tokens cost."""
    fields = {"prompt": [[1]] * 64, "allowed_token_ids": [5, 6] * 131_072, "stop_token_ids": [9] * 1024}
    answer = client.post("/v1/completions", json={**ASK, **fields})
    assert answer.status_code == 200, answer.text
    sampling = server.ring.generates[-1].request.sampling
    assert (sampling.allowed_token_ids, sampling.stop_token_ids) == ((5, 6), (9,))


def test_sampling_is_checked_once(client: httpx2.Client, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not once for each prompt."""
    checked: list[int] = []
    monkeypatch.setattr(generation, "check_request", lambda request, **_: checked.append(request.n))
    answer = client.post("/v1/completions", json={**ASK, "prompt": [[1, 2]] * 32})
    assert answer.status_code == 200
    assert checked == [1]


def test_answers_with_too_many_logprobs_are_streamed(
    client: httpx2.Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing that is kept until it is whole grows without a bound."""
    monkeypatch.setattr(costs, "MOST_LOGPROBS", 5)
    chat = {"model": "tiny", "messages": [{"role": "user", "content": "x"}], "logprobs": True}
    for path, body in (("/v1/completions", {**ASK, "logprobs": 2}), ("/v1/chat/completions", chat)):
        answer = client.post(path, json=body)
        assert (answer.status_code, answer.json()["error"]["code"]) == (400, "too_costly")
        assert client.post(path, json={**body, "stream": True}).status_code == 200


async def test_large_work_leaves_the_loop() -> None:
    """Others are served meanwhile; small work is not worth a thread."""
    here = threading.get_ident()
    assert await off_loop(costs.LARGE + 1, threading.get_ident) != here
    assert await off_loop(1, threading.get_ident) == here


@pytest.mark.parametrize("stream", [False, True])
def test_large_answers_are_the_same(
    client: httpx2.Client, monkeypatch: pytest.MonkeyPatch, stream: bool
) -> None:
    """Written in a thread or not."""
    body = {**ASK, "prompt": [7, 8], "logprobs": 2, "echo": True, "n": 2, "stream": stream}
    small = choices(client.post("/v1/completions", json=body).text)
    monkeypatch.setattr(costs, "LARGE", 0)
    assert choices(client.post("/v1/completions", json=body).text) == small != []


def choices(answer: str) -> list[str]:
    """Without what names and dates the answer."""
    return re.findall(r'"(?:text|tokens|text_offset|top_logprobs)":.*?[\]",]', answer)


def test_an_answer_too_large_to_send_is_the_request_s_fault() -> None:
    """The client asked for it."""
    piece = Text("1", 0, "", finish="error", error="the answer is too large to be sent: ask for fewer")
    with pytest.raises(ApiError) as caught:
        list(texts_of([piece]))
    assert caught.value.status == 400


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"guided_regex": "("}, "guided_regex"),
        ({"guided_json": {"type": "nonsense"}}, "guided_json"),
        (
            {"response_format": {"type": "json_schema", "json_schema": {"name": "x", "schema": {"type": 1}}}},
            "response_format",
        ),
    ],
)
def test_a_bad_grammar_is_blamed_on_its_field(
    client: httpx2.Client, fields: dict[str, Any], param: str
) -> None:
    """And on no other."""
    answer = client.post("/v1/completions", json={**ASK, **fields})
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, param)


async def test_a_trial_counts_until_it_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    """Clients that leave don't let more of them run at once."""
    begun: list[int] = []
    ended: list[int] = []
    most: list[int] = []
    release = threading.Event()

    def slow(*_: object) -> None:
        begun.append(1)
        most.append(len(begun) - len(ended))
        release.wait(20)
        ended.append(1)

    monkeypatch.setattr(grammars, "check_grammar", slow)
    checks = GrammarChecks()
    waiting = [asyncio.create_task(checks.check(SamplingParams(regex=f"a{i}"), "x")) for i in range(8)]
    async with asyncio.timeout(20):
        while len(begun) < grammars.MOST_TRIALS:  # noqa: ASYNC110 - threads tell nobody
            await asyncio.sleep(0)
    for task in waiting:
        task.cancel()
    await asyncio.wait(waiting)
    later = asyncio.create_task(checks.check(SamplingParams(regex="b"), "x"))
    await asyncio.sleep(0)
    release.set()
    await later
    assert max(most) == grammars.MOST_TRIALS


async def test_a_trial_that_the_system_refuses(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is no bug of ours, and may work later."""

    def refused(*_: object) -> None:
        raise OSError(24, "Too many open files")

    monkeypatch.setattr(grammars, "check_grammar", refused)
    with pytest.raises(ApiError) as caught:
        await GrammarChecks().check(SamplingParams(regex="a"), "guided_regex")
    assert caught.value.status == 503
