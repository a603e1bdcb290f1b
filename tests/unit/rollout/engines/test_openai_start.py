"""Before anything is generated, every server shows that it can do what the run needs."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from openai_server import Fault, OpenAIServer

from asynckit.engine.config import SamplingParams
from asynckit.engine.request import Request
from asynckit.errors import ConfigError, DependencyError, RequestError
from asynckit.rollout.engines.openai_engine import OpenAIGenerator
from asynckit.rollout.openai_config import OpenAIConfig

SAMPLING = SamplingParams(temperature=0.8, top_k=20, max_tokens=6, min_tokens=2, seed=7)
REQUEST = Request("one", (5, 6, 7), SAMPLING, n=3)
SINGLE = Request("single", (5, 6, 7), SAMPLING)
Open = Callable[..., Any]


async def test_nothing_opens_where_a_server_is_not_there(
    one: OpenAIServer, two: OpenAIServer, opened: Open
) -> None:
    """A typing error in an address shows at once."""
    two.stop()
    with pytest.raises(DependencyError, match="no connection") as caught:
        async with opened(one, two):
            pytest.fail("it opened")
    assert caught.value.where == two.url


async def test_a_server_that_is_starting_is_waited_for(one: OpenAIServer, opened: Open) -> None:
    """As long as a lost one would be."""
    one.faults.extend([Fault(503), Fault(503)])
    async with opened(one) as generator:
        assert len(await generator.generate(REQUEST)) == 3
    one.lasting = Fault(503)
    with pytest.raises(DependencyError, match="HTTP 503"):
        async with opened(one, unreachable_timeout=0.1):
            pytest.fail("it opened")


async def test_the_model_is_found_or_named(one: OpenAIServer, opened: Open) -> None:
    """One model needs no name; of several one has to be named."""
    one.names = ["tiny", "other"]
    with pytest.raises(DependencyError, match="which of its models"):
        async with opened(one):
            pytest.fail("it opened")
    with pytest.raises(DependencyError, match="no model 'third'"):
        async with opened(one, model="third"):
            pytest.fail("it opened")
    async with opened(one, model="other") as generator:
        await generator.generate(SINGLE)
    assert one.bodies[0]["model"] == "other"


async def test_the_key_is_sent(tiny_llama: Path, opened: Open) -> None:
    """And a server that wants one says so before anything is generated."""
    with OpenAIServer(tiny_llama, api_key="s3cret") as server:
        async with opened(server, api_key="s3cret") as generator:
            assert len(await generator.generate(SINGLE)) == 1
        with pytest.raises(DependencyError, match="401"):
            async with opened(server, api_key="wrong"):
                pytest.fail("it opened")


async def test_a_tokenizer_that_is_not_the_server_s_is_found_out(one: OpenAIServer, opened: Open) -> None:
    """Ids would mean other text here than there."""
    one.lasting = Fault(change=lambda choice: choice.update(text="something else"))
    with pytest.raises(DependencyError, match="another tokenizer"):
        async with opened(one):
            pytest.fail("it opened")


async def test_logprobs_of_another_meaning_are_refused_at_the_start(tiny_llama: Path, opened: Open) -> None:
    """A server as vLLM is by default: right at temperature 1 and 0, wrong at any other."""
    with OpenAIServer(tiny_llama, raw=True) as server:
        with pytest.raises(RequestError, match=r"not at temperature=0\.8"):
            async with opened(server):
                pytest.fail("it opened")
        cut = SamplingParams(temperature=1.0, top_k=9, repetition_penalty=1.2, max_tokens=4)
        async with opened(server, sampling=cut) as generator:
            assert len(await generator.generate(Request("cut", (5, 6), cut))) == 1
            with pytest.raises(RequestError, match="temperature"):
                await generator.generate(SINGLE)


async def test_settings_without_servers_are_refused(tokenizer: Any) -> None:
    """Before anything is sent."""
    with pytest.raises(ConfigError, match="no server is named"):
        await OpenAIGenerator.open(OpenAIConfig(), SAMPLING, tokenizer)
