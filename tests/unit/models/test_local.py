"""Keeps broken model folders from reaching the engine."""

import json
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from asynckit.errors import AsynckitError, InputError, ModelNotFound
from asynckit.models.local import check_safetensors, open_model, read_json, sampled_digest


def test_a_whole_model_opens(tiny_llama: Path) -> None:
    """A saved model is accepted under the name that the person gave."""
    model = open_model("mine", tiny_llama)
    assert (model.name, model.path, len(model.digest)) == ("mine", tiny_llama, 64)


def test_the_digest_follows_the_weights(model_folder: Path, tiny_llama: Path) -> None:
    """Two copies have one digest; other weights have another."""
    assert open_model("a", model_folder).digest == open_model("b", tiny_llama).digest
    weights = model_folder / "model.safetensors"
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    assert open_model("a", model_folder).digest != open_model("b", tiny_llama).digest


def test_a_missing_config_is_named(tmp_path: Path) -> None:
    """An empty folder says which file it lacks."""
    with pytest.raises(ModelNotFound, match=r"has no config\.json"):
        open_model("x", tmp_path)


def test_missing_weights_are_named(model_folder: Path) -> None:
    """A folder without weights says which file it lacks."""
    (model_folder / "model.safetensors").unlink()
    with pytest.raises(ModelNotFound, match=r"has no model\.safetensors"):
        open_model("x", model_folder)


def test_a_missing_shard_is_named(model_folder: Path) -> None:
    """A model of several files is whole only with all of them."""
    index = {"weight_map": {"a": "model-1.safetensors", "b": "model-2.safetensors"}}
    (model_folder / "model.safetensors.index.json").write_text(json.dumps(index))
    (model_folder / "model.safetensors").rename(model_folder / "model-1.safetensors")
    with pytest.raises(ModelNotFound, match=r"has no model-2\.safetensors"):
        open_model("x", model_folder)


def test_an_index_without_files_is_refused(model_folder: Path) -> None:
    """A damaged index is an error of the input, not a model without weights."""
    (model_folder / "model.safetensors.index.json").write_text("{}")
    with pytest.raises(InputError, match="names no weight files"):
        open_model("x", model_folder)


def test_pickled_weights_are_refused_with_the_reason(model_folder: Path) -> None:
    """Pickles are never loaded, and the person hears why."""
    (model_folder / "model.safetensors").rename(model_folder / "pytorch_model.bin")
    with pytest.raises(ModelNotFound, match="can run code"):
        open_model("x", model_folder)


def test_an_adapter_is_recognized(tmp_path: Path) -> None:
    """A LoRA folder named as a model says what it is."""
    (tmp_path / "adapter_config.json").write_text("{}")
    with pytest.raises(ModelNotFound, match="LoRA adapter"):
        open_model("x", tmp_path)


def test_a_lfs_pointer_is_recognized(model_folder: Path) -> None:
    """A clone without git-lfs is the commonest broken model, and has its own mend."""
    (model_folder / "model.safetensors").write_text("version https://git-lfs.github.com/spec/v1\n")
    with pytest.raises(InputError, match="git lfs pull"):
        open_model("x", model_folder)


@pytest.mark.parametrize("kept", [0, 5, 100, -1])
def test_a_cut_off_file_is_refused(model_folder: Path, kept: int) -> None:
    """A download that was cut off is found before the engine starts."""
    weights = model_folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:kept])
    with pytest.raises(InputError):
        open_model("x", model_folder)


@given(content=st.binary(max_size=64))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_bytes_are_accepted_or_refused(tmp_path: Path, content: bytes) -> None:
    """No content of a weight file ends in anything but an error of ours."""
    file = tmp_path / "model.safetensors"
    file.write_bytes(content)
    try:
        check_safetensors(file)
    except AsynckitError as error:
        assert error.mend  # noqa: PT017 - either outcome is right


@pytest.mark.parametrize("content", [b"{,", b"[]", b"\xff"])
def test_a_file_that_is_no_json_object_is_refused(tmp_path: Path, content: bytes) -> None:
    """A damaged JSON file is named with its place."""
    file = tmp_path / "config.json"
    file.write_bytes(content)
    with pytest.raises(InputError, match=r"config\.json"):
        read_json(file)


@given(size=st.integers(1, 300_000), place=st.floats(0, 1, exclude_max=True))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=30)
def test_the_digest_of_a_small_file_sees_every_byte(tmp_path: Path, size: int, place: float) -> None:
    """Below 1 MiB the samples cover the whole file."""
    file = tmp_path / "weights"
    content = bytearray(size)
    file.write_bytes(content)
    before = sampled_digest(file)
    content[int(size * place)] = 1
    file.write_bytes(content)
    assert sampled_digest(file) != before


def test_the_digest_of_a_large_file_reaches_its_end(tmp_path: Path) -> None:
    """The last block of a file is among the samples."""
    file = tmp_path / "weights"
    file.write_bytes(bytes(5_000_000))
    before = sampled_digest(file)
    file.write_bytes(bytes(5_000_000 - 1) + b"x")
    assert sampled_digest(file) != before
