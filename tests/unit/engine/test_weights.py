"""New weights in a running engine: right afterwards, complete or not at all, running requests go on."""

import json
import re
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, PreTrainedModel

from asynckit.engine.config import EngineConfig, SamplingParams
from asynckit.engine.engine import Engine
from asynckit.engine.request import Finish, OnUpdate, Request
from asynckit.errors import InputError, RequestError, WorkFailed
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
    engine.update_weights(3, str(other) if as_folder else state)
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


def break_name(state: dict[Any, torch.Tensor]) -> None:
    state[5] = torch.zeros(2, 2)


LAST = "model.norm.weight"  # in the order of updates


def becomes(change: Callable[[torch.Tensor], Any]) -> Callable[[dict[str, Any]], None]:
    def spoil(state: dict[str, Any]) -> None:
        assert max(state) == LAST
        state[LAST] = change(state[LAST])

    return spoil


class Wrapped(torch.Tensor):
    """Stands for wrappers such as DTensor."""


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (break_missing, "lack .*up_proj"),
        (break_unknown, "layers.9"),
        (break_shape, "has the shape"),
        (break_name, "the new 5 is no string"),
        (becomes(lambda t: t.to("meta")), "on the meta device"),
        (becomes(torch.Tensor.to_sparse), "not dense but torch.sparse_coo"),
        (becomes(lambda t: torch.nested.nested_tensor([t, t], layout=torch.jagged)), "plain|not dense"),
        (becomes(lambda t: t.to(torch.int8)), "is torch.int8"),
        (becomes(lambda t: t.to(torch.complex64)), "is torch.complex64"),
        (becomes(lambda t: t.to(torch.float8_e4m3fn)), "is torch.float8_e4m3fn"),
        (becomes(lambda t: t.as_subclass(Wrapped)), "is a Wrapped, not a plain tensor"),
        (becomes(torch.Tensor.tolist), "is a list"),
        (becomes(lambda _: None), "is a NoneType"),
    ],
)
def test_weights_that_don_t_fit_change_nothing(
    tiny_llama: Path, other: Path, spoil: "object", words: str
) -> None:
    """An update is applied whole or not at all, even where its last tensor is the wrong one."""
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
    with pytest.raises(InputError, match="version must be an integer"):
        engine.update_weights(float("nan"), other)  # type: ignore[arg-type]
    with pytest.raises(InputError, match="on_update must be one of"):
        engine.update_weights(1, other, "whatever")
    engine.close()
    with pytest.raises(InputError, match="is closed"):
        engine.update_weights(1, other)


def truncate(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:-100])


def overwrite(file: Path) -> None:
    file.write_bytes(b"\xff" * 1000)


def rename_type(file: Path) -> None:
    file.write_bytes(file.read_bytes().replace(b'"F32"', b'"F77"', 1))


def as_integers(file: Path) -> None:
    state = load_file(file)
    state[LAST] = state[LAST].to(torch.int32)
    save_file(state, file)


def in_two_files(file: Path) -> None:
    shutil.copy(file, file.parent / "b.safetensors")
    index = {"weight_map": {"a": "model.safetensors", "b": "b.safetensors"}}
    (file.parent / "model.safetensors.index.json").write_text(json.dumps(index))


def become_a_folder(file: Path) -> None:
    shutil.rmtree(file.parent)


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (truncate, "its header says"),
        (overwrite, "not a safetensors file"),
        (rename_type, "can't be read"),
        (as_integers, "is I32"),
        (in_two_files, "another file of the model has"),
        (become_a_folder, "has no config.json"),
        (Path.unlink, "has no model.safetensors"),
    ],
)
def test_a_folder_that_can_t_be_read_changes_nothing(
    tiny_llama: Path, other: Path, tmp_path: Path, spoil: Callable[[Path], None], words: str
) -> None:
    """Every file is looked at before the first tensor is put in place."""
    folder = tmp_path / "broken"
    shutil.copytree(other, folder)
    spoil(folder / "model.safetensors")
    engine = load(tiny_llama)
    before = tokens(engine)
    with pytest.raises(InputError, match=re.escape(words)) as caught:
        engine.update_weights(1, folder)
    assert str(folder) in caught.value.where
    assert caught.value.mend
    assert (engine.version, tokens(engine)) == (0, before)


@pytest.mark.parametrize("given", [[torch.zeros(2)], torch.zeros(2), 5])
def test_weights_are_a_folder_or_tensors_by_name(tiny_llama: Path, given: Any) -> None:
    """Anything else is named for what it is."""
    with pytest.raises(InputError, match="must be a model folder or tensors by name"):
        load(tiny_llama).update_weights(1, given)


def test_an_update_that_breaks_off_leaves_nobody_on_mixed_weights(tiny_llama: Path, other: Path) -> None:
    """Whoever runs ends with an error and nobody new is served; a whole update mends it all."""
    engine, expected = load(tiny_llama), tokens(load(other))
    engine.add(Request("running", PROMPT, GREEDY))
    engine.step()
    slots, read = engine._weights._loads, []

    def fail(_: torch.Tensor) -> None:
        read.append(True)
        if len(read) == 1:
            raise MemoryError("no memory for it")

    slots[LAST].append(fail)
    with pytest.raises(WorkFailed, match=f"broke off at {LAST}: no memory"):
        engine.update_weights(1, other)
    assert [(event.finish, event.version) for event in engine.step()] == [(Finish.ERROR, 0)]
    assert not engine.has_work()
    with pytest.raises(RequestError, match="serves nobody"):
        engine.add(Request("new", PROMPT, GREEDY))
    engine.update_weights(1, other)
    assert (engine.version, tokens(engine)) == (1, expected)
