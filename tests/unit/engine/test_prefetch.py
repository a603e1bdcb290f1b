"""Prefetching in the engine: a hint that is kept where there is room, and never harms anybody."""

import shutil
import threading
from collections import defaultdict
from concurrent.futures import wait
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from lora_adapters import save_random_adapter
from safetensors.torch import load_file, save_file

from asynckit.engine.adapter_files import LayerSize, open_adapter, read_content, read_deltas
from asynckit.engine.adapters import AdapterStatistics
from asynckit.engine.config import EngineConfig, SamplingParams
from asynckit.engine.engine import Engine
from asynckit.engine.native import load_kernels
from asynckit.engine.request import Finish, Request, TokenEvent
from asynckit.errors import InputError
from asynckit.models.config import ModelConfig
from asynckit.models.resolve import resolve_model

CONFIG = EngineConfig(
    dtype="float32", device="cpu", max_running=4, max_model_len=128, block_size=16, kv_cache_tokens=1024
)
GREEDY = SamplingParams(temperature=0.0, max_tokens=6, ignore_eos=True)
PROMPT = (5, 9, 77, 130)
SIZE = 2 * 8 * (64 + 64 + 64 + 32) * 4  # bytes of an adapter: two layers of rank 8 on q_proj and v_proj


@pytest.fixture
def folders(tmp_path: Path) -> list[Path]:
    return [save_random_adapter(tmp_path / f"a{seed}", seed=seed) for seed in range(4)]


def load(model: Path, folders: list[Path], **options: object) -> Engine:
    """An engine with the adapters in the folders, by their names."""
    model_config = ModelConfig(name=str(model))
    engine = Engine.load(replace(CONFIG, **options), model_config, resolve_model(model_config))  # type: ignore[arg-type]
    for folder in folders:
        engine.adapters.register(folder.name, folder)
    return engine


def run(engine: Engine, *requests: Request) -> dict[str, list[TokenEvent]]:
    for request in requests:
        engine.add(request)
    events = defaultdict(list)
    while engine.has_work():
        for event in engine.step():
            events[event.request_id].append(event)
    return events


def ask(name: str) -> Request:
    return Request(name, PROMPT, GREEDY, adapter=name)


def prefetch(engine: Engine, *names: str) -> None:
    """Prefetch and wait until all has been read that is read at all."""
    for name in names:
        engine.adapters.prefetch(name)
    wait(engine.adapters._memory._reads._reads.values(), timeout=10)


def room_for(adapters: int) -> int:
    """Bytes for so many adapters that wait as files, which have a header."""
    return adapters * (SIZE + 4096)


def test_a_prefetched_adapter_is_used(tiny_llama: Path, folders: list[Path]) -> None:
    """It takes room at once, counts as loaded when a request uses it, and gives the same bits."""
    engine = load(tiny_llama, folders)
    prefetch(engine, "a1", "a1", "a1")
    before = engine.adapters.statistics()
    assert (before.loaded, before.loads) == (0, 0)
    assert before.loaded_bytes > SIZE
    ahead = run(engine, ask("a1"))["a1"]
    after = engine.adapters.statistics()
    assert (after.loaded, after.loads, after.prefetched, after.loaded_bytes) == (1, 1, 1, SIZE)
    assert ahead == run(load(tiny_llama, folders), ask("a1"))["a1"]
    engine.adapters.prefetch("a1")
    assert engine.adapters.statistics() == after


def test_nobody_is_evicted_who_is_needed_sooner(tiny_llama: Path, folders: list[Path]) -> None:
    """Not who runs, who waits in the engine, or who was named before; who is idle goes."""
    engine = load(tiny_llama, folders, lora_bytes=room_for(2), max_running=1)
    engine.add(ask("a0"))
    engine.step()
    prefetch(engine, "a1", "a2")  # no room for a2: a0 runs, and a1 was named before
    assert run(engine, ask("a1"))["a1"][-1].finish is Finish.LENGTH
    assert engine.adapters.statistics().prefetched == 1
    prefetch(engine, "a2", "a3")  # a0 and a1 are idle and go
    run(engine, ask("a2"), ask("a3"))
    statistics = engine.adapters.statistics()
    assert (statistics.loads, statistics.prefetched) == (4, 3)


def test_a_request_s_need_comes_before_a_hint(tiny_llama: Path, folders: list[Path]) -> None:
    """What was only read ahead makes room for what is needed now."""
    engine = load(tiny_llama, folders, lora_bytes=room_for(1))
    prefetch(engine, "a0")
    run(engine, ask("a1"))
    run(engine, ask("a0"))
    statistics = engine.adapters.statistics()
    assert (statistics.loads, statistics.prefetched) == (2, 0)


def test_what_can_t_be_prefetched_is_left(tiny_llama: Path, folders: list[Path]) -> None:
    """Unknown names, engines that keep all adapters loaded, pinned ones: a hint never fails."""
    engine = load(tiny_llama, folders)
    engine.adapters.prefetch("nobody")
    engine.adapters.pin("a0")
    engine.adapters.prefetch("a0")
    assert engine.adapters.statistics() == AdapterStatistics(4, 1, SIZE, 1, loads=1, swaps=1)
    kept = load(tiny_llama, folders, lora_swap=False)
    kept.adapters.prefetch("a0")
    run(kept, ask("a0"))
    assert kept.adapters.statistics().prefetched == 0


@pytest.mark.parametrize("early", [True, False])
def test_a_broken_file_fails_its_own_requests_only(
    tiny_llama: Path, folders: list[Path], early: bool
) -> None:
    """Gone, changed or not finite, before or after it is read ahead: nobody else notices."""
    path = folders[0] / "adapter_model.safetensors"
    weights = {key: tensor.clone() for key, tensor in load_file(path).items()}
    next(iter(weights.values()))[0, 0] = float("inf")
    save_file(weights, path)
    engine = load(tiny_llama, folders)
    if early:
        shutil.rmtree(folders[1])
        shutil.copy(folders[3] / "adapter_model.safetensors", folders[2] / "adapter_model.safetensors")
    prefetch(engine, "a0", "a1", "a2", "a3")
    events = run(engine, *map(ask, ("a0", "a1", "a2", "a3")))
    assert [event.finish for event in events["a0"]] == [Finish.ERROR]
    assert "not finite" in events["a0"][0].error
    if early:
        assert "no such adapter" in events["a1"][0].error
        assert "have changed" in events["a2"][0].error
    assert len(events["a3"]) == GREEDY.max_tokens
    loaded = 1 if early else 3
    assert engine.adapters.statistics().loaded == loaded
    assert engine.adapters.statistics().loaded_bytes == loaded * SIZE


def test_a_file_that_is_back_is_read_again(tiny_llama: Path, folders: list[Path]) -> None:
    """A hint that failed is no reason to refuse a request that would succeed."""
    engine = load(tiny_llama, folders)
    hidden = folders[0].rename(folders[0].parent / "hidden")
    prefetch(engine, "a0")
    hidden.rename(folders[0])
    assert len(run(engine, ask("a0"))["a0"]) == GREEDY.max_tokens


def test_what_leaves_is_no_longer_read(tiny_llama: Path, folders: list[Path]) -> None:
    """Unregistering frees what was read ahead; closing ends the thread."""
    others = {*threading.enumerate()}
    engine = load(tiny_llama, folders)
    engine.adapters.prefetch("a0")
    engine.adapters.unregister("a0")
    assert engine.adapters.statistics().loaded_bytes == 0
    engine.adapters.prefetch("a1")
    engine.close()
    assert engine.adapters.statistics().loaded_bytes == 0
    assert not [t for t in threading.enumerate() if t not in others and t.name.startswith("adapters")]
    engine.adapters.prefetch("a2")
    assert engine.adapters.statistics().loaded_bytes == 0


def test_a_file_that_changes_while_it_is_read_is_refused(folders: list[Path]) -> None:
    """Half of the old and half of the new would be neither."""
    layers = {
        f"model.layers.{index}.self_attn.{name}": LayerSize(64, width, transposed=False)
        for index in range(2)
        for name, width in (("q_proj", 64), ("v_proj", 32))
    }
    file = open_adapter(folders[0], layers, 64)
    ahead = read_deltas(file, torch.bfloat16, read_content(file))
    for layer, delta in read_deltas(file, torch.bfloat16).items():
        assert torch.equal(delta.down, ahead[layer].down)
        assert torch.equal(delta.up, ahead[layer].up)
        assert delta.up.is_contiguous()
    shutil.copy(folders[1] / "adapter_model.safetensors", folders[0] / "adapter_model.safetensors")
    with pytest.raises(InputError, match="have changed"):
        read_content(file)


def test_a_deterministic_engine_stays_so_with_adapters_and_prefetch(
    tiny_llama: Path, folders: list[Path]
) -> None:
    """The same bits alone, and in a mixed batch whose adapters were read ahead."""
    if load_kernels(torch.float32, None) is None:
        pytest.skip("no C compiler on this machine")
    sampling = replace(GREEDY, temperature=1.0, seed=3)
    names = [None, *(folder.name for folder in folders)]
    together = load(tiny_llama, folders, deterministic=True, max_running=8)
    prefetch(together, *(folder.name for folder in folders))
    mixed = run(together, *(Request(f"r-{name}", PROMPT, sampling, adapter=name) for name in names))
    assert together.adapters.statistics().prefetched == len(folders)
    for name in names:
        alone = load(tiny_llama, folders, deterministic=True)
        assert run(alone, Request(f"r-{name}", PROMPT, sampling, adapter=name)) == {
            f"r-{name}": mixed[f"r-{name}"]
        }
    assert len({tuple(event.logprob for event in events) for events in mixed.values()}) == len(names)
