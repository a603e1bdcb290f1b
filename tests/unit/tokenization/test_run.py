"""A run whose encoder turns out to be wrong."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from asynckit.cluster.config import RayConfig
from asynckit.errors import EncoderMismatch
from asynckit.models.config import ModelConfig
from asynckit.tokenization import run as module
from asynckit.tokenization.config import TokenizationConfig


@pytest.fixture
def piped(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Standard input with a document in it."""
    reading, writing = os.pipe()
    os.write(writing, b'{"text": "fox"}\n')
    os.close(writing)
    with os.fdopen(reading) as file:
        monkeypatch.setattr("sys.stdin", file)
        yield


def run_with(tokenizer: Path, out: Path) -> Any:
    config = TokenizationConfig(out=str(out), input_format="jsonl", workers=1)
    model = ModelConfig(tokenizer=str(tokenizer))
    return module.tokenize(
        ["-"], model=model, config=config, ray=RayConfig(), options={}, overwrite=False, quiet=True
    )


@pytest.mark.usefixtures("piped")
def test_standard_input_is_not_begun_in_its_middle(
    tiny_tokenizer: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a wrong encoder took of it is gone; the next run has to get it again, and uses another encoder."""

    def differs(*_: Any) -> None:
        raise EncoderMismatch("differs")

    with monkeypatch.context() as patched:
        patched.setattr(module, "_run", differs)
        with pytest.raises(EncoderMismatch, match="cannot be read again") as raised:
            run_with(tiny_tokenizer, tmp_path)
    assert raised.value.where == "standard input"
    summary = run_with(tiny_tokenizer, tmp_path)
    assert summary.manifest.encoder.name != "gigatoken"
    assert summary.manifest.totals.documents == 1
