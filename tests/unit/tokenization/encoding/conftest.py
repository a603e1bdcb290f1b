"""Tokenizers that the encoders are compared on."""

from pathlib import Path

import pytest
from byte_level import KINDS, parts

from asynckit.models.config import ModelConfig
from asynckit.models.tokenizer_parts import TokenizerParts, load_parts


@pytest.fixture(scope="session")
def embedded_parts() -> TokenizerParts:
    """The embedded model's tokenizer."""
    found = load_parts(ModelConfig())
    assert isinstance(found, TokenizerParts)
    return found


@pytest.fixture(scope="session", params=[*KINDS, "embedded"])
def each_parts(request: pytest.FixtureRequest, embedded_parts: TokenizerParts) -> TokenizerParts:
    """Each kind of byte-level tokenizer in turn."""
    return embedded_parts if request.param == "embedded" else parts(KINDS[request.param]())


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache of tokenizers."""
    from asynckit.models.cache import CACHE_VARIABLE

    monkeypatch.setenv(CACHE_VARIABLE, str(tmp_path / "cache"))
    return tmp_path / "cache"
