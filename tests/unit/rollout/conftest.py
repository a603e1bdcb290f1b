"""Two real servers, and generators at them, for the tests of ``--engine openai``."""

from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from openai_server import FINE, OpenAIServer

from asynckit.engine.config import SamplingParams
from asynckit.models.config import ModelConfig
from asynckit.models.tokenizer import load_tokenizer
from asynckit.rollout.engines.openai_engine import OpenAIGenerator
from asynckit.rollout.openai_config import OpenAIConfig

SAMPLING = SamplingParams(temperature=0.8, top_k=20, max_tokens=6, min_tokens=2, seed=7)
Open = Callable[..., Any]


@pytest.fixture(scope="module")
def servers(tiny_llama: Path) -> Iterator[tuple[OpenAIServer, OpenAIServer]]:
    with OpenAIServer(tiny_llama) as one, OpenAIServer(tiny_llama) as two:
        yield one, two


@pytest.fixture
def one(servers: tuple[OpenAIServer, OpenAIServer]) -> OpenAIServer:
    """The first server, as good as new."""
    for server in servers:
        server.stop()
        server.start()
        server.faults.clear()
        server.bodies.clear()
        server.somebody_left.clear()
        server.lasting, server.hung_up, server.most_open = FINE, 0, 0
        server.names, server.breaks = ["tiny"], lambda _: False
    return servers[0]


@pytest.fixture
def two(one: OpenAIServer, servers: tuple[OpenAIServer, OpenAIServer]) -> OpenAIServer:  # noqa: ARG001 - resets it
    return servers[1]


@pytest.fixture(scope="module")
def tokenizer(tiny_llama: Path) -> Any:
    return load_tokenizer(None, ModelConfig(name=str(tiny_llama)))


@pytest.fixture
def opened(tokenizer: Any) -> Open:
    """Open a generator at servers, with settings; it is closed on the way out."""

    @asynccontextmanager
    async def opened(
        *at: OpenAIServer, sampling: SamplingParams = SAMPLING, **settings: Any
    ) -> AsyncIterator[Any]:
        urls = ",".join(server.url for server in at)
        config = OpenAIConfig(base_urls=urls, **{"timeout": 30.0, "unreachable_timeout": 30.0, **settings})
        generator = await OpenAIGenerator.open(config, sampling, tokenizer)
        for server in at:
            server.bodies.clear()
        try:
            yield generator
        finally:
            await generator.close()

    return opened
