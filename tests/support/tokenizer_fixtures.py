"""Tokenizers of every kind, as transformers loads them and as light ones."""

import pytest
from made_tokenizers import SAVE, Pair, config_of

from asynckit.models import embedded
from asynckit.models.light_tokenizer import LightTokenizer
from asynckit.models.tokenizer import load_tokenizer

_EMBEDDED = pytest.param(
    "embedded",
    marks=[
        pytest.mark.embedded,
        pytest.mark.skipif(embedded.find_gguf() is None, reason="the embedded model is not installed"),
    ],
)


@pytest.fixture(scope="session", params=[*SAVE, _EMBEDDED])
def pair(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Pair:
    """Every kind of tokenizer in turn; the light one comes from the cache, as in a second start."""
    config = config_of(request.param, tmp_path_factory.mktemp("tokenizer"))
    LightTokenizer.load(config)
    return Pair(LightTokenizer.load(config), load_tokenizer(None, config))


@pytest.fixture(scope="session")
def byte_level(tmp_path_factory: pytest.TempPathFactory) -> LightTokenizer:
    """A byte-level tokenizer."""
    return LightTokenizer.load(config_of("byte-level", tmp_path_factory.mktemp("tokenizer")))


@pytest.fixture(scope="session")
def fallback(tmp_path_factory: pytest.TempPathFactory) -> LightTokenizer:
    """A tokenizer that falls back on bytes."""
    return LightTokenizer.load(config_of("byte-fallback", tmp_path_factory.mktemp("tokenizer")))
