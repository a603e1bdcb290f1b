"""Keeps conversions of GGUF files exact, done once and quiet."""

import logging
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from asynckit.errors import InputError
from asynckit.models.config import ModelConfig
from asynckit.models.gguf import convert, load_gguf_tokenizer
from asynckit.models.local import open_model
from asynckit.models.resolve import resolve_model, resolve_tokenizer
from asynckit.models.tokenizer import load_tokenizer

Writer = Callable[..., Path]


def test_a_gguf_file_becomes_a_model_folder(gguf_file: Writer, capfd: pytest.CaptureFixture[str]) -> None:
    """The weights are the file's own values in float32, and nothing is printed meanwhile."""
    from gguf import GGUFReader
    from safetensors.numpy import load_file

    path = gguf_file()
    model = resolve_model(ModelConfig(name=str(path)))
    assert capfd.readouterr() == ("", "")
    stored = {tensor.name: tensor.data for tensor in GGUFReader(path).tensors}
    embedding = load_file(model.path / "model.safetensors")["model.embed_tokens.weight"]
    assert embedding.dtype == np.float32
    assert np.array_equal(embedding, stored["token_embd.weight"].reshape(embedding.shape))


def test_a_gguf_file_is_converted_once(gguf_file: Writer) -> None:
    """The second call finds what the first one made; another content is converted apart."""
    config = ModelConfig(name=str(gguf_file()))
    first = resolve_model(config).path
    written = (first / "model.safetensors").stat().st_mtime_ns
    assert resolve_model(config).path == first
    assert (first / "model.safetensors").stat().st_mtime_ns == written
    gguf_file(splitting="smollm")
    assert resolve_model(config).path != first


def test_a_killed_conversion_is_done_again(gguf_file: Writer, tmp_path: Path) -> None:
    """What a killed process left neither is used nor ends up in the result."""
    left = tmp_path / "models" / "x-v1.partial"
    left.mkdir(parents=True)
    (left / "garbage").write_text("")
    folder = convert(gguf_file(), tmp_path / "models", "x", part="model", progress=False)
    assert open_model("x", folder).path == folder
    assert not (folder / "garbage").exists()


def test_a_tokenizer_alone_is_converted_without_weights(gguf_file: Writer) -> None:
    """Tokenizing does not dequantize a model; where the model is there already, it serves."""
    config = ModelConfig(name=str(gguf_file()))
    folder = resolve_tokenizer(config)
    assert (folder / "tokenizer.json").is_file()
    assert not (folder / "model.safetensors").exists()
    assert resolve_tokenizer(ModelConfig(name=str(resolve_model(config).path))) == resolve_tokenizer(config)


def test_digits_are_split_as_the_vocabulary_was_trained(gguf_file: Writer) -> None:
    """SmolLM sets digits apart first: white space before a digit keeps together."""
    tokenizer = load_gguf_tokenizer(gguf_file(splitting="smollm"))
    pieces = tokenizer.backend_tokenizer.pre_tokenizer.pre_tokenize_str("\n\n12  x")
    assert [piece for piece, _ in pieces] == ["ĊĊ", "1", "2", "Ġ", "Ġx"]


def test_ids_are_the_same_after_saving(gguf_file: Writer) -> None:
    """The converted tokenizer is the Rust one and gives the ids of the file's."""
    path = gguf_file(splitting="smollm")
    original = load_gguf_tokenizer(path)
    config = ModelConfig(name=str(path))
    saved = load_tokenizer(resolve_model(config), config)
    assert saved.is_fast
    for text in ("the quick brown fox\n\n1. 42  7", "<|user|>é 漢字 \t\n", ""):
        assert saved.encode(text) == original.encode(text)


def test_an_unknown_splitting_is_told(gguf_file: Writer, caplog: pytest.LogCaptureFixture) -> None:
    """Where ids may differ from the model's own tokenizer, the person hears it."""
    with caplog.at_level(logging.WARNING):
        load_gguf_tokenizer(gguf_file(splitting="gpt-2"))
        assert not caplog.records
        load_gguf_tokenizer(gguf_file(splitting="novel"))
    assert "splits text as 'novel'" in caplog.text


def test_an_unknown_architecture_is_refused(gguf_file: Writer) -> None:
    """What transformers cannot convert ends in one sentence."""
    with pytest.raises(InputError, match="transformers cannot convert this GGUF file"):
        resolve_model(ModelConfig(name=str(gguf_file(architecture="novel"))))


@pytest.mark.parametrize("content", [b"", b"GG", b"PK\x03\x04"])
def test_a_file_of_another_kind_is_refused(tmp_path: Path, content: bytes) -> None:
    """The name alone does not make a GGUF file."""
    (tmp_path / "x.gguf").write_bytes(content)
    with pytest.raises(InputError, match="not a GGUF file"):
        resolve_model(ModelConfig(name=str(tmp_path / "x.gguf")))


def test_a_cut_off_file_is_refused(gguf_file: Writer) -> None:
    """A download that was cut off ends in one sentence."""
    path = gguf_file()
    for kept in (20, 400, path.stat().st_size - 100):
        path.write_bytes(path.read_bytes()[:kept])
        with pytest.raises(InputError, match="cannot convert"):
            resolve_model(ModelConfig(name=str(path)))


def test_a_part_of_a_split_file_is_refused(tmp_path: Path) -> None:
    """Split files have a mend of their own."""
    part = tmp_path / "x-00001-of-00003.gguf"
    part.write_bytes(b"GGUF")
    with pytest.raises(InputError, match="llama-gguf-split --merge"):
        resolve_model(ModelConfig(name=str(part)))
