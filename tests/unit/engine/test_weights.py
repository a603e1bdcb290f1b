"""New weights in a running engine: right afterwards, complete or not at all, running requests go on."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM, PreTrainedModel

from asynckit.engine.config import EngineConfig, SamplingParams
from asynckit.engine.engine import Engine
from asynckit.engine.request import Finish, OnUpdate, Request
from asynckit.errors import InputError
from asynckit.models.config import ModelConfig
from asynckit.models.resolve import resolve_model

PROMPT = tuple(range(10, 40))
GREEDY = SamplingParams(temperature=0.0, max_tokens=10, ignore_eos=True)


def load(folder: Path, dtype: str = "float32") -> Engine:
    model = ModelConfig(name=str(folder))
    config = EngineConfig(dtype=dtype, device="cpu", block_size=16, kv_cache_tokens=1024)
    return Engine.load(config, model, resolve_model(model))


@pytest.fixture(scope="module")
def other(tiny_llama: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model of the same shape with other weights."""
    import shutil

    folder = tmp_path_factory.mktemp("models") / "other"
    shutil.copytree(tiny_llama, folder)
    model = AutoModelForCausalLM.from_pretrained(tiny_llama)
    torch.manual_seed(7)
    for parameter in model.parameters():
        parameter.data += 0.2 * torch.randn_like(parameter)
    model.save_pretrained(folder)
    return folder


def tokens(engine: Engine, request: Request = Request("r", PROMPT, GREEDY)) -> list[int]:  # noqa: B008 - frozen
    engine.add(request)
    found = []
    while engine.has_work():
        found += [event.token_id for event in engine.step() if event.token_id is not None]
    return found


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("as_folder", [True, False])
def test_after_an_update_the_engine_is_the_new_model(
    tiny_llama: Path, other: Path, dtype: str, as_folder: bool
) -> None:
    """Fused and packed layers, norms and embeddings alike, from a folder or from tensors."""
    engine, expected = load(tiny_llama, dtype), tokens(load(other, dtype))
    before = tokens(engine)
    state = AutoModelForCausalLM.from_pretrained(other).state_dict()
    engine.update_weights(3, other if as_folder else state)
    assert engine.version == 3
    assert tokens(engine) == expected != before


@pytest.mark.parametrize("on_update", list(OnUpdate))
def test_running_requests_go_on_as_asked(tiny_llama: Path, other: Path, on_update: OnUpdate) -> None:
    """Kept, recomputed or aborted; every token carries the version that sampled it."""
    engine = load(tiny_llama)
    engine.add(Request("r", PROMPT, GREEDY))
    events = [event for _ in range(4) for event in engine.step()]
    engine.update_weights(1, other, on_update)
    while engine.has_work():
        events += engine.step()
    assert [event.version for event in events[:4]] == [0] * 4
    if on_update is OnUpdate.ABORT:
        assert [event.finish for event in events[4:]] == [Finish.ABORT]
        return
    assert [event.version for event in events[4:]] == [1] * 6
    if on_update is OnUpdate.RECOMPUTE_KV:
        sampled = [event.token_id for event in events if event.token_id is not None]
        fresh = load(other)
        rest = replace(GREEDY, max_tokens=6)
        assert tokens(fresh, Request("r", (*PROMPT, *sampled[:4]), rest)) == sampled[4:]


def test_the_prefix_cache_does_not_outlive_the_weights(tiny_llama: Path, other: Path) -> None:
    """A prompt seen before the update is computed again after it."""
    engine = load(tiny_llama)
    tokens(engine)
    engine.update_weights(1, other)
    assert tokens(engine) == tokens(load(other))


def break_missing(state: dict[str, torch.Tensor]) -> None:
    del state["model.layers.1.mlp.up_proj.weight"]


def break_unknown(state: dict[str, torch.Tensor]) -> None:
    state["model.layers.9.mlp.up_proj.weight"] = torch.zeros(2, 2)


def break_shape(state: dict[str, torch.Tensor]) -> None:
    state["model.norm.weight"] = torch.zeros(3)


@pytest.mark.parametrize(
    ("spoil", "words"),
    [(break_missing, "lack .*up_proj"), (break_unknown, "layers.9"), (break_shape, "has the shape")],
)
def test_weights_that_don_t_fit_change_nothing(
    tiny_llama: Path, other: Path, spoil: "object", words: str
) -> None:
    """An update is applied whole or not at all."""
    engine = load(tiny_llama)
    before = tokens(engine)
    network: PreTrainedModel = AutoModelForCausalLM.from_pretrained(other)
    state = dict(network.state_dict())
    spoil(state)  # type: ignore[operator]
    with pytest.raises(InputError, match=words):
        engine.update_weights(1, state)
    assert (engine.version, tokens(engine)) == (0, before)


def test_a_version_must_grow(tiny_llama: Path, other: Path) -> None:
    """Two sets of weights under one version could not be told apart in the records."""
    engine = load(tiny_llama)
    with pytest.raises(InputError, match="not above"):
        engine.update_weights(0, other)
