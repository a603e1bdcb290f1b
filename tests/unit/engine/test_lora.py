"""Adapters in the engine: equal to PEFT's merged models, never mixed, loaded and evicted as room allows."""

import functools
import random
import shutil
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM

from asynckit.engine.adapter_files import Delta
from asynckit.engine.adapters import AdapterStatistics
from asynckit.engine.config import EngineConfig, SamplingParams
from asynckit.engine.engine import Engine
from asynckit.engine.lora import LoraSite, LoraState, adapter_rows
from asynckit.engine.native import Kernels, load_kernels
from asynckit.engine.request import Finish, Request, TokenEvent
from asynckit.errors import InputError, RequestError
from asynckit.models.config import ModelConfig
from asynckit.models.resolve import resolve_model

# PEFT's own use of an attribute that transformers has deprecated.
pytestmark = pytest.mark.filterwarnings("ignore:.is_gradient_checkpointing. is deprecated:FutureWarning")

CONFIG = EngineConfig(
    dtype="float32",
    device="cpu",
    max_running=12,
    max_step_tokens=60,
    max_model_len=128,
    block_size=16,
    kv_cache_tokens=2048,
)
GREEDY = SamplingParams(temperature=0.0, max_tokens=10, ignore_eos=True)
ATTENTION = ["q_proj", "v_proj"]
EVERYTHING = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
ADAPTERS: dict[str, dict[str, Any]] = {
    "r4": {"r": 4, "target_modules": ATTENTION},
    "r6": {"r": 6, "target_modules": ["k_proj", "up_proj"]},
    "r8": {"r": 8, "target_modules": EVERYTHING},
    "r16": {"r": 16, "target_modules": ["gate_proj", "down_proj"], "use_rslora": True},
    "r13": {"r": 13, "lora_alpha": 5, "target_modules": "all-linear"},
    "r32": {"r": 32, "target_modules": r".*layers\.1\..*(o|up)_proj"},
    "r64": {"r": 64, "target_modules": ["v_proj", "o_proj"]},
    "mixed": {
        "r": 8,
        "target_modules": EVERYTHING,
        "rank_pattern": {"q_proj": 3},
        "alpha_pattern": {"layers.1.mlp.up_proj": 1},
        "layers_to_transform": [1],
        "use_rslora": True,
    },
}


def save_adapter(model: Path, folder: Path, seed: int = 0, **options: Any) -> Path:
    """Train-like adapter: both halves random."""
    torch.manual_seed(seed)
    base = AutoModelForCausalLM.from_pretrained(model, dtype=torch.float32)
    config = LoraConfig(**{"lora_alpha": 16, "init_lora_weights": False, "task_type": "CAUSAL_LM", **options})
    get_peft_model(base, config).save_pretrained(str(folder))
    return folder


def load(folder: Path, **options: Any) -> Engine:
    model_config = ModelConfig(name=str(folder))
    return Engine.load(replace(CONFIG, **options), model_config, resolve_model(model_config))


@pytest.fixture(scope="module")
def folders(tiny_llama: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("adapters")
    return {
        name: save_adapter(tiny_llama, root / name, seed, **options)
        for seed, (name, options) in enumerate(ADAPTERS.items())
    }


@pytest.fixture(scope="module")
def expected(
    tiny_llama: Path, folders: dict[str, Path]
) -> Callable[[str | None, tuple[int, ...]], list[int]]:
    """Greedy tokens of PEFT's merged model, by plain forward passes."""

    @functools.cache
    def merged(name: str | None) -> Any:
        base = AutoModelForCausalLM.from_pretrained(tiny_llama, dtype=torch.float32)
        return PeftModel.from_pretrained(base, folders[name]).merge_and_unload() if name else base

    @functools.cache
    def tokens(name: str | None, prompt: tuple[int, ...]) -> list[int]:
        ids = list(prompt)
        with torch.inference_mode():
            for _ in range(GREEDY.max_tokens):
                ids.append(int(merged(name)(torch.tensor([ids])).logits[0, -1].argmax()))
        return ids[len(prompt) :]

    return tokens


def prompts(count: int, seed: int = 0) -> list[tuple[int, ...]]:
    generator = random.Random(seed)  # noqa: S311 - reproducible
    return [tuple(generator.randrange(4, 250) for _ in range(generator.randint(1, 40))) for _ in range(count)]


def drain(engine: Engine) -> dict[tuple[str, int], list[TokenEvent]]:
    events = defaultdict(list)
    while engine.has_work():
        for event in engine.step():
            events[event.request_id, event.sample_index].append(event)
    return events


def run(engine: Engine, wanted: Sequence[tuple[str | None, tuple[int, ...]]]) -> list[list[int]]:
    """Greedy tokens of requests that all start together."""
    for index, (adapter, prompt) in enumerate(wanted):
        engine.add(Request(str(index), prompt, GREEDY, adapter=adapter))
    events = drain(engine)
    return [tokens_of(events[str(index), 0]) for index in range(len(wanted))]


def tokens_of(events: list[TokenEvent]) -> list[int]:
    return [event.token_id for event in events if event.token_id is not None]


@pytest.mark.parametrize("optimize", [True, False])
def test_a_mixed_batch_equals_merged_models(
    tiny_llama: Path, folders: dict[str, Path], expected: Callable[..., list[int]], optimize: bool
) -> None:
    """Base and eight adapters of different ranks and targets, arriving at random, each as if it ran alone."""
    engine = load(tiny_llama, optimize=optimize)
    for name, folder in folders.items():
        engine.adapters.register(name, folder)
    generator = random.Random(2)  # noqa: S311 - reproducible
    # Every adapter gets the same prompts, so that a prefix shared by mistake would be found out.
    waiting = [(name, prompt) for prompt in prompts(3) for name in (None, *folders)]
    generator.shuffle(waiting)
    requests = {str(i): wanted for i, wanted in enumerate(waiting)}
    arriving, events = list(requests), defaultdict(list)
    while arriving or engine.has_work():
        for _ in range(min(len(arriving), generator.randint(0, 4))):
            name = arriving.pop()
            engine.add(
                Request(
                    name, requests[name][1], GREEDY, n=generator.choice([1, 2]), adapter=requests[name][0]
                )
            )
        for event in engine.step():
            events[event.request_id, event.sample_index].append(event)
    for (name, _), seen in events.items():
        assert tokens_of(seen) == expected(*requests[name])
    distinct = {tuple(expected(name, prompts(1)[0])) for name in (None, *folders)}
    assert len(distinct) == 9, "adapters that change nothing would prove nothing"


def test_base_requests_are_bit_identical_to_an_engine_without_adapters(
    tiny_llama: Path, folders: dict[str, Path]
) -> None:
    """A base row gets no delta, not even one of zero; its logprobs say so."""
    sampling = replace(GREEDY, temperature=1.0, max_tokens=8)

    def logprobs(companion: str | None) -> list[float]:
        engine = load(tiny_llama, dtype="bfloat16")
        if companion:
            engine.adapters.register(companion, folders[companion])
        engine.add(Request("base", prompts(1)[0], sampling))
        engine.add(Request("other", prompts(2)[1], sampling, adapter=companion))
        return [event.logprob for event in drain(engine)["base", 0]]

    assert logprobs("r8") == logprobs(None)


def test_adapters_take_turns_where_room_is_short(
    tiny_llama: Path, folders: dict[str, Path], expected: Callable[..., list[int]]
) -> None:
    """Two slots serve eight adapters: requests wait, adapters come and go, tokens stay right."""
    sizes = sum(t.numel() * 4 for t in load_file(folders["r8"] / "adapter_model.safetensors").values())
    engine = load(tiny_llama, max_loras=2, lora_bytes=int(2.5 * sizes))
    for name, folder in folders.items():
        engine.adapters.register(name, folder)
    wanted = [(name, prompt) for prompt in prompts(3, seed=4) for name in (*folders, None)]
    assert run(engine, wanted) == [expected(*each) for each in wanted]
    statistics = engine.adapters.statistics()
    assert statistics.loads > len(folders)
    assert statistics.resident <= 2
    assert statistics.loaded_bytes <= 2.5 * sizes
    assert engine.statistics().kv_usage == 0


def test_prefetched_adapters_equal_merged_models(
    tiny_llama: Path, folders: dict[str, Path], expected: Callable[..., list[int]]
) -> None:
    """Read ahead at random, with room for two or three of eight, while others run and come and go."""
    sizes = sum(t.numel() * 4 for t in load_file(folders["r8"] / "adapter_model.safetensors").values())
    engine = load(tiny_llama, max_loras=2, lora_bytes=int(3.5 * sizes), max_running=4)
    for name, folder in folders.items():
        engine.adapters.register(name, folder)
    generator = random.Random(5)  # noqa: S311 - reproducible
    wanted = [(name, prompt) for prompt in prompts(3, seed=6) for name in (*folders, None)]
    waiting = list(enumerate(wanted))
    events = defaultdict(list)
    while waiting or engine.has_work():
        if waiting and engine.statistics().waiting < 2:
            index, (adapter, prompt) = waiting.pop(0)
            engine.add(Request(str(index), prompt, GREEDY, adapter=adapter))
        for _, (soon, _) in waiting[: generator.randint(0, 3)]:
            engine.adapters.prefetch(soon or "")
        for event in engine.step():
            events[event.request_id].append(event)
        assert engine.adapters.statistics().loaded_bytes <= 3.5 * sizes
    assert [tokens_of(events[str(index)]) for index in range(len(wanted))] == [expected(*w) for w in wanted]
    statistics = engine.adapters.statistics()
    assert 0 < statistics.prefetched <= statistics.loads


def test_who_waits_for_a_slot_gets_the_next_one(tiny_llama: Path, folders: dict[str, Path]) -> None:
    """Requests for a loaded adapter don't starve one for another; base requests pass meanwhile."""
    engine = load(tiny_llama, max_loras=1, max_running=4)
    for name in ("r4", "r8"):
        engine.adapters.register(name, folders[name])
    prompt = prompts(1)[0]
    engine.add(Request("first", prompt, GREEDY, adapter="r4"))
    engine.step()
    engine.add(Request("other", prompt, GREEDY, adapter="r8"))
    for index in range(3):
        engine.add(Request(f"more {index}", prompt, GREEDY, adapter="r4"))
    engine.add(Request("base", prompt, replace(GREEDY, max_tokens=3)))
    ends = []
    while engine.has_work():
        ends += [event.request_id for event in engine.step() if event.finish]
    assert ends.index("first") < ends.index("other") < ends.index("more 0")


def test_preempted_requests_come_back_with_their_adapter(
    tiny_llama: Path, folders: dict[str, Path], expected: Callable[..., list[int]]
) -> None:
    """A cache too small for all makes some start over, with their adapter gone and loaded again meanwhile."""
    engine = load(tiny_llama, max_loras=2, kv_cache_tokens=96)
    for name in ("r4", "r8", "r16"):
        engine.adapters.register(name, folders[name])
    wanted = [(name, prompt) for prompt in prompts(6, seed=9) for name in ("r4", None, "r8", "r16")]
    assert run(engine, wanted) == [expected(*each) for each in wanted]
    assert engine.statistics().preemptions > 0


def test_unknown_adapters_are_refused(tiny_llama: Path, folders: dict[str, Path]) -> None:
    """A typo must not run the base model; nothing is queued."""
    engine = load(tiny_llama)
    engine.adapters.register("r4", folders["r4"])
    with pytest.raises(RequestError, match="did you mean 'r4'"):
        engine.add(Request("r", (5,), replace(GREEDY, stop=("x",)), adapter="r44"))
    assert not engine.has_work()
    with pytest.raises(InputError, match="no adapter of this name"):
        engine.adapters.unregister("r44")
    with pytest.raises(InputError, match="of this name is registered"):
        engine.adapters.register("r4", folders["r8"])
    with pytest.raises(InputError, match="be a string and not be empty"):
        engine.adapters.register("", folders["r8"])


def test_without_arithmetic_adapters_change_nothing_but_are_loaded(
    tiny_llama: Path, folders: dict[str, Path], expected: Callable[..., list[int]]
) -> None:
    """lora_compute=false measures what loading and swapping cost."""
    engine = load(tiny_llama, lora_compute=False, max_loras=1)
    for name in ("r4", "r8"):
        engine.adapters.register(name, folders[name])
    prompt = prompts(1)[0]
    wanted = [("r4", prompt), ("r8", prompt), ("r4", prompt)]
    assert run(engine, wanted) == [expected(None, prompt)] * 3
    statistics = engine.adapters.statistics()
    assert (statistics.loads, statistics.swaps) == (2, 3)


def test_without_swapping_all_adapters_stay_loaded(
    tiny_llama: Path, folders: dict[str, Path], expected: Callable[..., list[int]]
) -> None:
    """lora_swap=false reads everything at registration, whatever the limits say."""
    engine = load(tiny_llama, lora_swap=False, max_loras=1, lora_bytes=1)
    for name, folder in folders.items():
        engine.adapters.register(name, folder)
    engine.adapters.pin("r4")
    assert engine.adapters.statistics().resident == len(folders)
    wanted = [(name, prompts(1)[0]) for name in folders]
    assert run(engine, wanted) == [expected(*each) for each in wanted]
    assert engine.adapters.statistics().loads == len(folders)


def test_what_is_unregistered_serves_the_requests_that_it_has(
    tiny_llama: Path, folders: dict[str, Path], expected: Callable[..., list[int]]
) -> None:
    """Running and waiting requests end with the weights that they asked for, even if the name is reused."""
    engine = load(tiny_llama, max_running=1)
    engine.adapters.register("name", folders["r4"])
    prompt = prompts(1)[0]
    engine.add(Request("runs", prompt, GREEDY, adapter="name"))
    engine.add(Request("waits", prompt, GREEDY, adapter="name"))
    engine.step()
    engine.adapters.unregister("name")
    with pytest.raises(RequestError, match="no adapter"):
        engine.add(Request("late", prompt, GREEDY, adapter="name"))
    engine.adapters.register("name", folders["r8"])
    engine.add(Request("new", prompt, GREEDY, adapter="name"))
    events = drain(engine)
    assert [len(events[name, 0]) for name in ("runs", "waits")] == [GREEDY.max_tokens - 1, GREEDY.max_tokens]
    assert tokens_of(events["waits", 0]) == expected("r4", prompt)
    assert tokens_of(events["new", 0]) == expected("r8", prompt)
    statistics = engine.adapters.statistics()
    assert (statistics.registered, statistics.loaded, statistics.resident) == (1, 1, 1)


def test_an_adapter_that_can_t_be_loaded_fails_its_requests_only(
    tiny_llama: Path, folders: dict[str, Path], tmp_path: Path, expected: Callable[..., list[int]]
) -> None:
    """Files that are gone, changed or full of NaN end the requests that need them, with the reason."""
    engine = load(tiny_llama)
    for name in ("gone", "changed", "nan", "fine"):
        shutil.copytree(folders["r4"], tmp_path / name)
    weights = load_file(tmp_path / "nan" / "adapter_model.safetensors")
    next(iter(weights.values()))[0, 0] = float("nan")
    save_file(weights, tmp_path / "nan" / "adapter_model.safetensors")
    for name in ("gone", "changed", "nan", "fine"):
        engine.adapters.register(name, tmp_path / name)
    shutil.rmtree(tmp_path / "gone")
    shutil.copy(
        folders["r4"] / "adapter_model.safetensors", tmp_path / "changed" / "adapter_model.safetensors"
    )
    prompt = prompts(1)[0]
    for name in ("gone", "changed", "nan", "fine"):
        engine.add(Request(name, prompt, GREEDY, n=2, adapter=name))
    events = drain(engine)
    for name, words in {"gone": "no such adapter", "changed": "have changed", "nan": "not finite"}.items():
        for index in range(2):
            assert [event.finish for event in events[name, index]] == [Finish.ERROR]
            assert words in events[name, index][0].error
    assert tokens_of(events["fine", 1]) == expected("r4", prompt)
    assert engine.adapters.statistics().loaded == 1
    assert not engine.has_work()


def test_pinned_adapters_stay(tiny_llama: Path, folders: dict[str, Path]) -> None:
    """A pinned adapter is loaded at once and is never evicted; others still find room."""
    engine = load(tiny_llama, max_loras=2)
    for name, folder in folders.items():
        engine.adapters.register(name, folder)
    engine.adapters.pin("r4")
    engine.adapters.pin("r4")
    assert engine.adapters.statistics().loads == 1
    with pytest.raises(InputError, match="no slot for others"):
        engine.adapters.pin("r8")
    run(engine, [(name, prompts(1)[0]) for name in folders if name != "r4"])
    run(engine, [("r4", prompts(1)[0])])
    assert engine.adapters.statistics().loads == len(folders)
    engine.adapters.unpin("r4")
    engine.add(Request("a", (5,), GREEDY, adapter="r6"))
    engine.add(Request("b", (5,), GREEDY, adapter="r16"))
    engine.step()
    with pytest.raises(InputError, match="that run now need all the room"):
        engine.adapters.pin("r64")
    drain(engine)
    engine.adapters.pin("r64")
    engine.adapters.unregister("r64")
    assert "r64" not in engine.adapters.names()


def test_close_frees_the_adapters(tiny_llama: Path, folders: dict[str, Path]) -> None:
    """A closed engine that somebody still holds keeps no weights."""
    engine = load(tiny_llama)
    engine.adapters.register("r8", folders["r8"])
    engine.adapters.pin("r8")
    engine.close()
    assert engine.adapters.statistics() == AdapterStatistics(0, 0, 0, 0, loads=1, swaps=1)


def test_an_adapter_larger_than_the_memory_for_adapters_is_refused(
    tiny_llama: Path, folders: dict[str, Path]
) -> None:
    """Its requests would wait for ever."""
    with pytest.raises(InputError, match=r"room for 1000$|room for 1000 "):
        load(tiny_llama, lora_bytes=1000).adapters.register("r4", folders["r4"])


def test_a_transposed_model_takes_adapters_too(tmp_path: Path, tiny_llama: Path) -> None:
    """GPT-2 keeps its weights the other way round and fuses q, k and v by itself."""
    from transformers import GPT2Config, GPT2LMHeadModel

    torch.manual_seed(0)
    model = tmp_path / "gpt2"
    GPT2LMHeadModel(
        GPT2Config(vocab_size=320, n_positions=128, n_embd=48, n_layer=2, n_head=4, initializer_range=0.3)
    ).save_pretrained(model)
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(tiny_llama / name, model / name)
    targets = ["c_attn", "c_proj"]
    folder = save_adapter(model, tmp_path / "adapter", r=5, target_modules=targets, fan_in_fan_out=True)
    engine = load(model)
    engine.adapters.register("mine", folder)
    base = AutoModelForCausalLM.from_pretrained(model, dtype=torch.float32)
    merged = PeftModel.from_pretrained(base, folder).merge_and_unload()
    prompt = prompts(1)[0]
    ids = list(prompt)
    with torch.inference_mode():
        for _ in range(GREEDY.max_tokens):
            ids.append(int(merged(torch.tensor([ids])).logits[0, -1].argmax()))
    assert run(engine, [("mine", prompt)]) == [ids[len(prompt) :]]


def test_a_thousand_registered_adapters_load_nothing(tiny_llama: Path, folders: dict[str, Path]) -> None:
    """Registering reads headers only."""
    engine = load(tiny_llama)
    for index in range(1000):
        engine.adapters.register(f"adapter {index}", folders["r4"])
    assert engine.adapters.statistics().registered == 1000
    assert engine.adapters.statistics().loaded == 0


DTYPES = [torch.float32, torch.bfloat16]
PRODUCT = torch.nn.Identity()  # only sites are tested here; they keep no module alive
RANKS = (1, 2, 4, 7, 8, 13, 16, 64)
TOLERANCE = {torch.float32: 1e-5, torch.bfloat16: 0.06}  # torch rounds in between, the kernel at the end


def random_site(
    kernels: Kernels | None,
    dtype: torch.dtype,
    ranks: Sequence[Sequence[int]],
    inputs: int,
    outputs: Sequence[int],
) -> LoraSite:
    """A product with an adapter per entry of ``ranks``, each with a rank per layer (0: left alone)."""
    generator = torch.Generator().manual_seed(0)
    site = LoraSite(PRODUCT, inputs, outputs, LoraState(), kernels)
    site.reach(len(ranks))
    for slot, of_layers in enumerate(ranks):
        for part, rank in enumerate(of_layers):
            if rank:
                down = torch.randn(rank, inputs, generator=generator) / inputs**0.5
                up = torch.randn(rank, outputs[part], generator=generator) / rank**0.5
                site.put(slot, part, Delta(down.to(dtype), up.to(dtype), 0.5 + slot / 8))
    return site


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("inputs", "outputs"), [(64, (64, 16)), (50, (7, 33, 20)), (5, (3,)), (96, (40,))])
def test_kernel_and_torch_add_the_same(dtype: torch.dtype, inputs: int, outputs: tuple[int, ...]) -> None:
    """For ranks and sizes that fill vectors and that don't; rows without an adapter stay as they are."""
    kernels = load_kernels(dtype, None)
    if kernels is None:
        pytest.skip("no C compiler on this machine")
    ranks = [
        [rank if (slot + part) % 3 else 0 for part in range(len(outputs))] for slot, rank in enumerate(RANKS)
    ]
    generator = torch.Generator().manual_seed(1)
    x_TI, before_TO = (
        torch.randn(40, size, generator=generator).to(dtype) for size in (inputs, sum(outputs))
    )
    chooser = random.Random(3)  # noqa: S311 - reproducible
    slot_of_T = [chooser.choice([None, *range(len(ranks))]) for _ in range(40)]
    rows = adapter_rows(slot_of_T, torch.device("cpu"))
    assert rows is not None
    after = []
    for choice in (kernels, None):
        out_TO = before_TO.clone()
        random_site(choice, dtype, ranks, inputs, outputs).add(out_TO, x_TI, rows)
        after.append(out_TO)
    assert torch.allclose(after[0].float(), after[1].float(), atol=TOLERANCE[dtype], rtol=TOLERANCE[dtype])
    untouched = [row for row, slot in enumerate(slot_of_T) if slot is None]
    assert torch.equal(after[0][untouched], before_TO[untouched])
    assert not torch.equal(after[0], before_TO)


@pytest.mark.parametrize("dtype", DTYPES)
def test_a_row_s_delta_does_not_depend_on_the_batch(dtype: torch.dtype) -> None:
    """Bit for bit the same alone, among rows of the same adapter, and among others."""
    kernels = load_kernels(dtype, None)
    if kernels is None:
        pytest.skip("no C compiler on this machine")
    site = random_site(kernels, dtype, [[rank] for rank in RANKS], 72, (56,))
    generator = torch.Generator().manual_seed(2)
    x_TI, before_TO = (torch.randn(90, size, generator=generator).to(dtype) for size in (72, 56))
    together = before_TO.clone()
    slot_of_T = [row % len(RANKS) for row in range(90)]
    rows = adapter_rows(slot_of_T, torch.device("cpu"))
    assert rows is not None
    site.add(together, x_TI, rows)
    for row, slot in enumerate(slot_of_T):
        alone = before_TO[row : row + 1].clone()
        own = adapter_rows([slot], torch.device("cpu"))
        assert own is not None
        site.add(alone, x_TI[row : row + 1], own)
        assert torch.equal(alone[0], together[row])
