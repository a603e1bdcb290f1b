"""The generator at servers: samples are the servers' own, faults are outlived, and every wait has an end."""

import asyncio
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
from openai_server import CONFIG, Fault, OpenAIServer

from asynckit.engine.config import SamplingParams
from asynckit.engine.driver import EngineDriver
from asynckit.engine.engine import Engine
from asynckit.engine.request import Finish, OnUpdate, Request
from asynckit.errors import DependencyError, InputError, RequestError
from asynckit.models.config import ModelConfig
from asynckit.models.resolve import resolve_model
from asynckit.rollout.engines.openai_engine import OpenAIGenerator

SAMPLING = SamplingParams(temperature=0.8, top_k=20, max_tokens=6, min_tokens=2, seed=7)
REQUEST = Request("one", (5, 6, 7), SAMPLING, n=3)
SINGLE = Request("single", (5, 6, 7), SAMPLING)


Open = Callable[..., Any]


async def test_samples_are_those_of_the_servers_engine(
    one: OpenAIServer, opened: Open, tiny_llama: Path
) -> None:
    """Ids, logprobs and ends arrive as they were sampled, each sample with a seed of its own."""
    async with opened(one) as generator:
        found = await generator.generate(REQUEST)
        assert generator.sampled_tokens == sum(len(done.token_ids) for done in found) > 0
        assert generator.prefilled_tokens == 3
        assert generator.busy_seconds > 0
    model = ModelConfig(name=str(tiny_llama))
    driver = EngineDriver(Engine.load(CONFIG, model, resolve_model(model)))
    for index, done in enumerate(found):
        sampling = SamplingParams(**{**asdict(SAMPLING), "seed": 7 + index})
        (own,) = await driver.generate(Request(str(index), REQUEST.prompt_ids, sampling))
        assert done.token_ids == own.token_ids
        assert done.logprobs == pytest.approx(own.logprobs, abs=1e-5)
        assert done.finish is own.finish
        assert done.versions == [0] * len(done.token_ids)
        assert done.end > 1e9
    await driver.close()
    assert len({tuple(done.token_ids) for done in found}) == 3


async def test_every_parameter_is_spelled_out(one: OpenAIServer, opened: Open) -> None:
    """A server fills in what is missing from the model's own generation settings."""
    async with opened(one) as generator:
        await generator.generate(SINGLE)
    (body,) = one.bodies
    assert body["prompt"] == [5, 6, 7]
    assert (body["temperature"], body["top_k"], body["top_p"], body["min_p"]) == (0.8, 20, 1.0, 0.0)
    assert (body["seed"], body["max_tokens"], body["min_tokens"]) == (7, 6, 2)
    assert body["repetition_penalty"] == 1.0
    assert body["return_token_ids"] is True


FAULTS = {
    "unavailable": Fault(503),
    "error": Fault(500),
    "bad gateway": Fault(502),
    "busy": Fault(429, headers="Retry-After: 0\r\n"),
    "request timeout": Fault(408),
    "dropped": Fault(drop=1),
    "cut off": Fault(drop=2),
    "no JSON": Fault(text="<html>"),
    "aborted": Fault(change=lambda choice: choice.update(finish_reason="abort")),
}


@pytest.mark.parametrize("fault", FAULTS.values(), ids=FAULTS.keys())
async def test_a_passing_fault_costs_time_only(one: OpenAIServer, opened: Open, fault: Fault) -> None:
    """The server is set aside, asked what it is, and then gets the request again."""
    async with opened(one) as generator:
        (undisturbed,) = await generator.generate(SINGLE)
        one.faults.append(fault)
        (again,) = await generator.generate(SINGLE)
    assert again.token_ids == undisturbed.token_ids
    assert len(one.bodies) > 3, "nobody asked the server what it is before it got the request again"


async def test_another_server_takes_over(one: OpenAIServer, two: OpenAIServer, opened: Open) -> None:
    """What a failed server was at goes elsewhere at once."""
    async with opened(one, two, unreachable_timeout=60.0) as generator:
        one.stop()
        found = await generator.generate(REQUEST)
        assert [done.finish for done in found] == [Finish.LENGTH] * 3
        assert len(two.bodies) == 3
        one.start()


async def test_the_least_busy_server_is_next(one: OpenAIServer, two: OpenAIServer, opened: Open) -> None:
    """Eight samples over two servers are four for each."""
    async with opened(one, two) as generator:
        await generator.generate(Request("many", (5, 6, 7), SAMPLING, n=8))
    assert (len(one.bodies), len(two.bodies)) == (4, 4)


async def test_no_more_than_the_allowed_number_is_under_way(one: OpenAIServer, opened: Open) -> None:
    """``max_connections`` holds back the others."""
    async with opened(one, max_connections=2) as generator:
        found = await generator.generate(Request("many", (5, 6, 7), SAMPLING, n=8))
    assert len(found) == 8
    assert one.most_open == 2


async def test_a_server_that_is_lost_ends_the_run_in_time(one: OpenAIServer, opened: Open) -> None:
    """Nothing waits longer than ``unreachable_timeout``, and the error says that the run can be resumed."""
    async with opened(one, unreachable_timeout=0.5) as generator:
        one.stop()
        with pytest.raises(DependencyError, match=r"unreachable_timeout=0\.5 s.*--resume"):
            await generator.generate(REQUEST)


async def test_a_server_that_comes_back_is_used_again(one: OpenAIServer, opened: Open) -> None:
    """Requests wait for it meanwhile."""
    async with opened(one) as generator:
        one.stop()
        waiting = asyncio.create_task(generator.generate(REQUEST))
        await asyncio.wait([waiting], timeout=0.3)
        assert not waiting.done()
        one.start()
        assert len(await waiting) == 3


async def test_a_server_that_comes_back_with_another_model_ends_the_run(
    one: OpenAIServer, opened: Open
) -> None:
    """Half of a run by one model and half by another would be worse than none."""
    async with opened(one) as generator:
        one.names = ["other", "models"]
        one.faults.append(Fault(503))
        with pytest.raises(DependencyError, match="which of its models"):
            await generator.generate(SINGLE)


async def begun(generator: OpenAIGenerator, count: int) -> None:
    """Return once so many samples are under way."""
    while len(generator._samples.under_way) < count:  # noqa: ASYNC110 - the generator has no event for this
        await asyncio.sleep(0)


def is_single(body: dict[str, Any]) -> bool:
    return bool(body["prompt"] == [5, 6, 7])


async def test_what_breaks_off_alone_fails_alone(one: OpenAIServer, opened: Open) -> None:
    """A request that the servers can't bear is refused while others go well."""
    one.breaks = is_single
    async with opened(one, retries=2) as generator:
        poison = asyncio.create_task(generator.generate(SINGLE))
        while not poison.done():
            await generator.generate(Request("other", (8,), SAMPLING))
        with pytest.raises(RequestError, match="broken off 3 times"):
            await poison


async def test_servers_that_break_everything_off_end_the_run(one: OpenAIServer, opened: Open) -> None:
    """No group is recorded as failed where it is the servers that fail."""
    one.breaks = is_single
    async with opened(one, retries=1) as generator:
        with pytest.raises(DependencyError, match="broken off 2 times"):
            await generator.generate(SINGLE)


async def test_a_server_that_is_always_full_ends_the_run_in_time(one: OpenAIServer, opened: Open) -> None:
    """Refusals don't count as break-offs, but they don't go on for ever either."""
    async with opened(one, unreachable_timeout=0.5) as generator:
        one.lasting = Fault(429)
        with pytest.raises(DependencyError, match=r"unreachable_timeout=0\.5 s"):
            await generator.generate(SINGLE)


async def test_an_answer_that_takes_too_long_is_given_up(one: OpenAIServer, opened: Open) -> None:
    """The connection is closed, so that the server stops too, and the sample is tried again."""
    async with opened(one) as generator:
        generator._client._timeout = 0.3
        one.faults.append(Fault(hang=True))
        assert len(await generator.generate(SINGLE)) == 1
    assert one.hung_up == 1


async def test_a_cancelled_caller_hangs_up(one: OpenAIServer, opened: Open) -> None:
    """The server is not left generating for nobody."""
    one_is_at_it = asyncio.Event()
    loop = asyncio.get_running_loop()
    async with opened(one) as generator:
        one.lasting = Fault(hang=True)
        one.breaks = lambda _: bool(loop.call_soon_threadsafe(one_is_at_it.set)) and False
        waiting = asyncio.create_task(generator.generate(REQUEST))
        await one_is_at_it.wait()
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        assert not generator._samples.under_way
        assert await asyncio.to_thread(one.somebody_left.wait, 30)


async def test_a_refused_request_fails_alone(one: OpenAIServer, opened: Open) -> None:
    """HTTP 400 carries the server's own words, and the server goes on being used."""
    async with opened(one) as generator:
        one.faults.append(Fault(400))
        with pytest.raises(RequestError, match="told to"):
            await generator.generate(SINGLE)
        with pytest.raises(RequestError, match="leaves no room"):
            await generator.generate(Request("long", (5,) * 512, SAMPLING))
        with pytest.raises(RequestError, match="adapter"):
            await generator.generate(Request("lora", (5,), SAMPLING, adapter="sql"))
        with pytest.raises(RequestError, match="outside the vocabulary"):
            await generator.generate(Request("foreign", (10**6,), SAMPLING))
        (done,) = await generator.generate(
            Request("close", (5,) * 510, SamplingParams(max_tokens=9, ignore_eos=True))
        )
        assert len(done.token_ids) == 2, "the server's limit cuts the response"
        assert done.finish is Finish.LENGTH


UNUSABLE = {
    "no token_ids": lambda choice: choice.pop("token_ids") and None,
    "no logprobs": lambda choice: choice.update(logprobs=None),
    "token ids and": lambda choice: choice["logprobs"]["token_logprobs"].pop() and None,
    "not those that it was sent": lambda choice: choice.update(prompt_token_ids=[1]),
    "finite numbers up to 0": lambda choice: choice["logprobs"].update(
        token_logprobs=[0.5] * len(choice["token_ids"])
    ),
    "unknown reason": lambda choice: choice.update(finish_reason="content_filter"),
    "not a list of token ids": lambda choice: choice.update({"token_ids": "5 6"}),
    "the one choice": lambda choice: {"choices": [choice, choice]},
    "at most": lambda choice: choice.update(token_ids=[1] * 99, logprobs={"token_logprobs": [-1.0] * 99}),
}


@pytest.mark.parametrize(("words", "change"), UNUSABLE.items(), ids=UNUSABLE.keys())
async def test_an_answer_that_can_t_be_trusted_ends_the_run(
    one: OpenAIServer, opened: Open, words: str, change: Callable[[dict[str, Any]], Any]
) -> None:
    """At start-up and in the middle; text is never turned back into tokens."""
    async with opened(one) as generator:
        one.lasting = Fault(change=change)
        with pytest.raises(DependencyError, match=words) as caught:
            await generator.generate(SINGLE)
        assert caught.value.where == one.url
    with pytest.raises(DependencyError, match=words):
        async with opened(one):
            pytest.fail("it opened")


@pytest.mark.parametrize(
    ("status", "mend"), [(401, "api_key"), (403, "key"), (404, "base_urls"), (301, "base_urls")]
)
async def test_a_server_that_refuses_us_ends_the_run(
    one: OpenAIServer, opened: Open, status: int, mend: str
) -> None:
    """Trying again would not help."""
    async with opened(one) as generator:
        one.faults.append(Fault(status))
        with pytest.raises(DependencyError, match=str(status)) as caught:
            await generator.generate(SINGLE)
        assert mend in caught.value.mend


async def test_a_new_version_is_a_label(one: OpenAIServer, opened: Open) -> None:
    """What was under way keeps the version that it was sent at; weights can't be sent."""
    async with opened(one) as generator:
        await generator.update_weights(3)
        (done,) = await generator.generate(SINGLE)
        assert set(done.versions) == {3}
        with pytest.raises(InputError, match="above the present 3"):
            await generator.update_weights(3)
        with pytest.raises(InputError, match="on_update"):
            await generator.update_weights(4, None, "sometimes")
        with pytest.raises(InputError, match="can't be sent weights"):
            await generator.update_weights(4, {"lm_head.weight": object()})


async def test_a_new_version_may_end_what_is_under_way(one: OpenAIServer, opened: Open) -> None:
    """As in the engine, the samples say that they were aborted."""
    async with opened(one) as generator:
        one.lasting = Fault(hang=True)
        waiting = asyncio.create_task(generator.generate(REQUEST))
        await begun(generator, 3)
        await generator.update_weights(1, None, OnUpdate.ABORT)
        assert [done.finish for done in await waiting] == [Finish.ABORT] * 3


async def test_closing_ends_what_runs(one: OpenAIServer, opened: Open) -> None:
    """Whatever the servers do."""
    async with opened(one) as generator:
        one.lasting = Fault(hang=True)
        waiting = asyncio.create_task(generator.generate(REQUEST))
        await begun(generator, 3)
    assert [done.finish for done in await waiting] == [Finish.ABORT] * 3
