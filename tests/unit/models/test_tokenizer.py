"""Keeps tokenizers and processors loaded as they were saved, and the ids that end a text complete."""

import json
import logging
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from asynckit.errors import DependencyError, InputError, ModelNotFound
from asynckit.models.config import ModelConfig
from asynckit.models.local import LocalModel
from asynckit.models.tokenizer import eos_token_ids, load_processor, load_tokenizer, tokenizer_digest

DEFAULTS = ModelConfig()


def at(folder: Path) -> LocalModel:
    return LocalModel("test", folder, "")


@pytest.fixture
def byte_tokenizer(tmp_path: Path) -> Path:
    """A folder with a tokenizer that exists in Python only and needs no vocabulary file."""
    from transformers import ByT5Tokenizer

    ByT5Tokenizer().save_pretrained(tmp_path / "bytes")
    return tmp_path / "bytes"


def test_the_models_own_tokenizer_is_loaded(tiny_llama: Path) -> None:
    """Without an override the tokenizer comes from the model's folder, as Rust, with its chat template."""
    tokenizer = load_tokenizer(at(tiny_llama), DEFAULTS)
    assert tokenizer.is_fast
    assert tokenizer.decode(tokenizer.encode("the quick fox")) == "the quick fox"
    assert tokenizer.chat_template


def test_another_tokenizer_can_be_named(tiny_llama: Path, byte_tokenizer: Path) -> None:
    """model.tokenizer wins over the model's own, and may be a folder with a tokenizer alone."""
    tokenizer = load_tokenizer(at(tiny_llama), ModelConfig(tokenizer=str(byte_tokenizer)))
    assert type(tokenizer).__name__ == "ByT5Tokenizer"


def test_a_slow_tokenizer_is_told(byte_tokenizer: Path, caplog: pytest.LogCaptureFixture) -> None:
    """use_fast says so when it falls back."""
    load_tokenizer(at(byte_tokenizer), DEFAULTS)
    assert "ByT5Tokenizer has no Rust version" in caplog.text
    caplog.clear()
    load_tokenizer(at(byte_tokenizer), ModelConfig(use_fast=False))
    assert not caplog.records


def test_a_wish_for_a_slow_tokenizer_without_effect_is_told(
    tiny_llama: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """use_fast=false is not ignored in silence."""
    with caplog.at_level(logging.WARNING):
        load_tokenizer(at(tiny_llama), ModelConfig(use_fast=False))
    assert "use_fast=false has no effect" in caplog.text


@pytest.mark.parametrize("settings_file", [None, {}, {"tokenizer_class": "LlamaTokenizer"}])
def test_missing_tokenizer_files_are_told(model_folder: Path, settings_file: dict[str, str] | None) -> None:
    """An empty tokenizer never takes the place of a missing one."""
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (model_folder / name).unlink()
    if settings_file is not None:
        (model_folder / "tokenizer_config.json").write_text(json.dumps(settings_file))
    with pytest.raises(ModelNotFound, match="has no tokenizer files"):
        load_tokenizer(at(model_folder), DEFAULTS)


@pytest.mark.parametrize("content", ["{", "{}", '{"model": {"type": "BPE"}}', "[]"])
def test_a_damaged_tokenizer_is_one_sentence(model_folder: Path, content: str) -> None:
    """Whatever transformers or its Rust side raises is reported with the folder."""
    (model_folder / "tokenizer.json").write_text(content)
    with pytest.raises(InputError) as caught:
        load_tokenizer(at(model_folder), DEFAULTS)
    assert str(model_folder) in caught.value.where
    assert "\n" not in caught.value.message


def test_code_does_not_run_unasked(model_folder: Path) -> None:
    """A tokenizer with code of its own is refused, and its code has not run."""
    trace = model_folder / "trace"
    auto_map = {"auto_map": {"AutoTokenizer": ["tokenization_own.Own", None]}}
    (model_folder / "tokenizer.json").unlink()
    (model_folder / "config.json").write_text('{"model_type": "novel"}')
    (model_folder / "tokenizer_config.json").write_text(json.dumps(auto_map))
    (model_folder / "tokenization_own.py").write_text(f"open({str(trace)!r}, 'w').close()\n")
    with pytest.raises(DependencyError, match="trust_remote_code=true"):
        load_tokenizer(at(model_folder), DEFAULTS)
    assert not trace.exists()


def test_a_text_model_has_no_processor(tiny_llama: Path) -> None:
    """Nothing is loaded where no file says that there is a processor."""
    assert load_processor(at(tiny_llama), DEFAULTS) is None


def test_a_processor_is_loaded_where_one_is_saved(model_folder: Path) -> None:
    """A multimodal model's processor comes as transformers saved it."""
    settings_file = {
        "feature_extractor_type": "WhisperFeatureExtractor",
        "processor_class": "WhisperProcessor",
    }
    (model_folder / "preprocessor_config.json").write_text(json.dumps(settings_file))
    assert type(load_processor(at(model_folder), DEFAULTS)).__name__ == "WhisperProcessor"


def test_a_damaged_processor_is_one_sentence(model_folder: Path) -> None:
    """A processor that is there but broken is an error, not a text-only model."""
    (model_folder / "preprocessor_config.json").write_text("{")
    with pytest.raises(InputError, match="cannot be loaded"):
        load_processor(at(model_folder), DEFAULTS)


def test_the_digest_is_that_of_the_folder(tiny_llama: Path, byte_tokenizer: Path) -> None:
    """A record's digest can be checked against a folder."""
    for folder in (tiny_llama, byte_tokenizer):
        assert tokenizer_digest(load_tokenizer(at(folder), DEFAULTS)) == tokenizer_digest(folder)
    assert tokenizer_digest(tiny_llama) != tokenizer_digest(byte_tokenizer)


def test_the_digest_ignores_the_settings_of_a_call(tiny_llama: Path) -> None:
    """Padding one batch does not make another tokenizer of it; a new token does."""
    tokenizer = load_tokenizer(at(tiny_llama), DEFAULTS)
    before = tokenizer_digest(tokenizer)
    tokenizer(["a b"], padding="max_length", max_length=9, truncation=True)
    assert tokenizer_digest(tokenizer) == before
    tokenizer.add_tokens(["<new>"])
    assert tokenizer_digest(tokenizer) != before


def test_every_declared_end_counts(model_folder: Path) -> None:
    """Ids of the generation config, the model's config and the tokenizer are joined."""
    (model_folder / "generation_config.json").write_text('{"eos_token_id": [7, 8]}')
    (model_folder / "config.json").write_text('{"text_config": {"eos_token_id": 9}}')
    assert eos_token_ids(model_folder) == {7, 8, 9}
    assert eos_token_ids(model_folder, load_tokenizer(at(model_folder), DEFAULTS)) == {0, 7, 8, 9}


@given(ids=st.one_of(st.none(), st.integers(0, 9), st.lists(st.integers(0, 9)), st.text(), st.booleans()))
@settings(max_examples=30)
def test_any_declared_end_is_read_or_refused(tmp_path_factory: pytest.TempPathFactory, ids: object) -> None:
    """An end that is no token id is an error that names its file."""
    folder = tmp_path_factory.mktemp("eos")
    (folder / "config.json").write_text(json.dumps({"eos_token_id": ids}))
    if isinstance(ids, str | bool):
        with pytest.raises(InputError, match=r"config\.json"):
            eos_token_ids(folder)
    else:
        assert eos_token_ids(folder) == set(ids if isinstance(ids, list) else [] if ids is None else [ids])
