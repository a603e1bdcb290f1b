"""Embeddings: those that transformers' own hidden states give, however prompts are cut into passes."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModel

from asynckit.engine.config import EngineConfig, SamplingParams
from asynckit.engine.embedding import Pooling, read_pooling
from asynckit.engine.engine import Engine
from asynckit.engine.request import Request
from asynckit.engine.simulated import SimulatedEngine
from asynckit.engine.simulated_config import SimulatedConfig
from asynckit.errors import InputError, NoRoom, RequestError
from asynckit.models.config import ModelConfig
from asynckit.models.files import model_files
from asynckit.models.resolve import resolve_model

PROMPTS = [[5, 6, 7], list(range(4, 60)), [9], [4 + index % 200 for index in range(170)], [8, 8]]
KIND = "sentence_transformers.models."


def describe(folder: Path, kinds: list[str], options: dict[str, Any]) -> Path:
    """Write what sentence-transformers writes beside a model."""
    paths = ["", "1_Pooling", "2_Normalize", "3_Dense"]
    modules = [
        {"idx": index, "name": str(index), "path": path, "type": KIND + kind}
        for index, (kind, path) in enumerate(zip(kinds, paths, strict=False))
    ]
    (folder / "modules.json").write_text(json.dumps(modules))
    (folder / "1_Pooling").mkdir(exist_ok=True)
    (folder / "1_Pooling" / "config.json").write_text(json.dumps(options))
    return folder


def load(folder: Path, **settings: Any) -> Engine:
    model = ModelConfig(name=str(folder))
    config = EngineConfig(dtype="float32", device="cpu", kv_cache_tokens=2048, max_step_tokens=64, **settings)
    return Engine.load(config, model, resolve_model(model))


def own_hidden(folder: Path) -> list[torch.Tensor]:
    """What transformers makes of each prompt: ``[T, D]``."""
    model = AutoModel.from_pretrained(folder, dtype=torch.float32).eval()
    with torch.inference_mode():
        return [model(torch.tensor([ids])).last_hidden_state[0] for ids in PROMPTS]


@pytest.mark.parametrize("optimize", [True, False])
@pytest.mark.parametrize(
    ("options", "mean"),
    [
        (
            {
                "word_embedding_dimension": 64,
                "pooling_mode_lasttoken": True,
                "pooling_mode_mean_tokens": False,
            },
            False,
        ),
        ({"pooling_mode_mean_tokens": True, "pooling_mode_cls_token": False}, True),
        ({"pooling_mode": "mean"}, True),
    ],
)
def test_vectors_are_those_of_transformers(
    options: dict[str, Any], mean: bool, optimize: bool, tiny_llama: Path, tmp_path: Path
) -> None:
    """Normalized or not, prompts of several passes and several prompts of one, beside running requests."""
    folder = shutil.copytree(tiny_llama, tmp_path / "model")
    expected = [hidden.mean(0) if mean else hidden[-1] for hidden in own_hidden(folder)]
    engine = load(describe(folder, ["Transformer", "Pooling"], options), optimize=optimize)
    assert engine.embeds
    engine.add(Request("beside", tuple(range(4, 20)), SamplingParams(temperature=0.0, max_tokens=6)))
    before = engine.step()
    found = engine.embed(PROMPTS)
    torch.testing.assert_close(torch.tensor(found), torch.stack(expected), rtol=1e-4, atol=1e-4)
    while engine.has_work():
        before += engine.step()
    alone = load(folder, optimize=optimize)
    alone.add(Request("beside", tuple(range(4, 20)), SamplingParams(temperature=0.0, max_tokens=6)))
    after = []
    while alone.has_work():
        after += alone.step()
    assert [event.token_id for event in before] == [event.token_id for event in after]


def test_a_normalized_vector_has_the_length_1(tiny_llama: Path, tmp_path: Path) -> None:
    """Where the folder asks for it."""
    folder = shutil.copytree(tiny_llama, tmp_path / "model")
    describe(folder, ["Transformer", "Pooling", "Normalize"], {"pooling_mode_lasttoken": True})
    expected = torch.stack([torch.nn.functional.normalize(h[-1], dim=0) for h in own_hidden(folder)])
    torch.testing.assert_close(torch.tensor(load(folder).embed(PROMPTS)), expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("kinds", "options"),
    [
        (["Transformer", "Pooling", "Dense"], {"pooling_mode_lasttoken": True}),
        (["Transformer", "Pooling"], {"pooling_mode_cls_token": True}),
        (["Transformer", "Pooling"], {"pooling_mode_mean_tokens": True, "pooling_mode_lasttoken": True}),
        (["Transformer", "Pooling"], {"pooling_mode_mean_tokens": True, "include_prompt": False}),
        (["Transformer", "WeightedLayerPooling"], {}),
    ],
)
def test_what_we_would_do_otherwise_is_not_done(
    kinds: list[str], options: dict[str, Any], tmp_path: Path
) -> None:
    """Another pooling, or layers behind it: no embeddings rather than wrong ones."""
    assert read_pooling(describe(tmp_path, kinds, options)) is None


def test_a_broken_description_is_an_error(tmp_path: Path) -> None:
    """Where it is JSON of another kind, it says nothing."""
    describe(tmp_path, ["Transformer", "Pooling"], {"pooling_mode_lasttoken": True})
    assert read_pooling(tmp_path) == Pooling(mean=False, normalize=False)
    (tmp_path / "modules.json").write_text("{}")
    assert read_pooling(tmp_path) is None
    (tmp_path / "modules.json").write_text("[")
    with pytest.raises(InputError):
        read_pooling(tmp_path)


def test_the_description_is_fetched_with_the_model() -> None:
    """Other JSON files in sub-folders are not wanted."""
    wanted = model_files(code=False)
    assert wanted.takes("modules.json")
    assert wanted.takes("1_Pooling/config.json")
    assert not wanted.takes("onnx/config.json")


def test_what_can_t_be_embedded_is_refused(tiny_llama: Path, tmp_path: Path) -> None:
    """Too long, empty, outside of the vocabulary, or with a model that is not for it."""
    folder = shutil.copytree(tiny_llama, tmp_path / "model")
    engine = load(describe(folder, ["Transformer", "Pooling"], {"pooling_mode_lasttoken": True}))
    assert len(engine.embed([[5] * 512])) == 1
    assert engine.embed([]) == []
    with pytest.raises(NoRoom, match="513 tokens, and 512"):
        engine.embed([[5], [5] * 513])
    with pytest.raises(RequestError, match="prompt is empty"):
        engine.embed([[]])
    with pytest.raises(RequestError, match="outside the vocabulary"):
        engine.embed([[100_000]])
    plain = load(tiny_llama)
    assert not plain.embeds
    with pytest.raises(RequestError, match="not made for embeddings"):
        plain.embed([[5]])


def test_an_engine_says_what_it_can_hold(tiny_llama: Path) -> None:
    """The engine with a model and the simulated one alike."""
    engine = load(tiny_llama, max_model_len=100, max_running=3)
    simulated = SimulatedEngine.load(
        EngineConfig(max_model_len=100, max_running=3, kv_cache_tokens=2048), SimulatedConfig(vocabulary=50)
    )
    for each in (engine, simulated):
        holds = each.capacity
        assert (holds.max_model_len, holds.max_running, holds.kv_cache_tokens) == (100, 3, 2048)
        assert not each.embeds
    assert simulated.capacity.vocabulary == 50
    with pytest.raises(RequestError, match="no model"):
        simulated.embed([[1]])
