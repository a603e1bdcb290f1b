"""The tiny model as a subject, and settings with which a case takes milliseconds."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from asynckit.bench.config import BenchConfig
from asynckit.bench.subject import Subject, find_subject
from asynckit.bench.suite import Suite
from asynckit.engine.config import EngineConfig
from asynckit.models.config import ModelConfig


@pytest.fixture
def quick() -> BenchConfig:
    """As few repetitions as there can be."""
    return BenchConfig(min_repetitions=3, max_repetitions=3, warmup_seconds=0.0, max_seconds=0.01)


@pytest.fixture(scope="module")
def tiny_subject(tiny_llama: Path) -> Subject:
    """The tiny model."""
    return find_subject(ModelConfig(name=str(tiny_llama)))


@pytest.fixture
def suite(tiny_subject: Subject) -> Iterator[Suite]:
    """On the CPU, with the tiny model in float32."""
    suite = Suite("cpu", lambda: tiny_subject, engine=EngineConfig(dtype="float32"))
    yield suite
    suite.close()
