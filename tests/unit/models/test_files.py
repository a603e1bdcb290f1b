"""Keeps the selection of files safe and small."""

import pytest

from asynckit.models.files import model_files, tokenizer_files


@pytest.mark.parametrize(
    "path", ["config.json", "model-00001-of-00002.safetensors", "tokenizer.model", "a/chat.jinja"]
)
def test_a_model_takes_what_loading_needs(path: str) -> None:
    """Weights, vocabularies, settings and chat templates are fetched."""
    assert model_files(code=False).takes(path)


@pytest.mark.parametrize(
    "path",
    [
        "pytorch_model.bin",
        "optimizer.pt",
        "step-5/model.safetensors",
        "consolidated.safetensors",
        "modeling.py",
    ],
)
def test_a_model_leaves_pickles_duplicates_and_code(path: str) -> None:
    """Nothing that runs code when loaded, and no second copy of the weights, is fetched."""
    assert not model_files(code=False).takes(path)


def test_code_is_fetched_only_where_it_is_trusted() -> None:
    """trust_remote_code decides about Python files."""
    assert model_files(code=True).takes("modeling_x.py")
    assert tokenizer_files(code=True).takes("tokenization_x.py")
    assert not tokenizer_files(code=False).takes("tokenization_x.py")


def test_a_tokenizer_needs_no_weights() -> None:
    """Tokenizing text does not fetch gigabytes."""
    assert tokenizer_files(code=False).takes("tokenizer.json")
    assert not tokenizer_files(code=False).takes("model.safetensors")
