"""Decode steps replayed over static buffers: the plain path's tokens, whoever joins, leaves or is preempted.

On a CPU the engine's own graphs run, and only the capture is another: it calls the pass again.
"""

import random
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from tiny_models import GPT2, QWEN2_SLIDING, SMALL, save_tokenizer

from asynckit.engine.config import EngineConfig, SamplingParams
from asynckit.engine.decode_graphs import DecodeGraphs, Replay
from asynckit.engine.engine import Engine
from asynckit.engine.kv_cache import KVCache
from asynckit.engine.model import ModelRunner
from asynckit.engine.plan import Chunk, Plan
from asynckit.engine.request import Request, Sequence, TokenEvent
from asynckit.models.config import ModelConfig
from asynckit.models.resolve import resolve_model

FAMILIES: dict[str, tuple[str, dict[str, Any]]] = {
    "llama": ("LlamaConfig", SMALL),
    "qwen2, sliding": ("Qwen2Config", {**SMALL, **QWEN2_SLIDING}),
    "gpt2": ("GPT2Config", GPT2),
}
CONFIG = EngineConfig(
    dtype="float32",
    device="cpu",
    optimize=False,
    max_running=6,
    max_step_tokens=40,
    max_model_len=200,
    block_size=8,
    kv_cache_tokens=1600,
)
SAMPLED = SamplingParams(temperature=0.8, max_tokens=30, seed=3, ignore_eos=True)
Events = dict[tuple[str, int], list[TokenEvent]]


@dataclass
class Recorder:
    """Captures by remembering the function; as in one pool of memory, a replay overwrites others' results."""

    captures: int = 0
    replays: int = 0
    outputs: list[torch.Tensor] = field(default_factory=list)

    def __call__(self, function: Replay) -> Replay:
        """What repeats ``function`` into the same tensor."""
        self.captures += 1
        output = function()
        self.outputs.append(output)

        def replay() -> torch.Tensor:
            self.replays += 1
            for each in self.outputs:
                each.fill_(torch.nan)
            return output.copy_(function())

        return replay


def load(folder: Path, config: EngineConfig = CONFIG) -> Engine:
    model = ModelConfig(name=str(folder))
    return Engine.load(config, model, resolve_model(model))


def runner_of(engine: Engine) -> ModelRunner:
    assert engine._runner is not None
    return engine._runner


def add_graphs(
    engine: Engine, capture: Callable[[Replay], Replay], most_rows: int = 6, most_graphs: int = 32
) -> DecodeGraphs:
    """Give a new engine graphs, and the block of its cache that they need."""
    runner = runner_of(engine)
    shape, blocks, device = runner.cache.shape, runner.cache.keys.shape[1], torch.device("cpu")
    cache = KVCache(shape, blocks + 1, runner.block_size, runner.model.dtype, device)
    graphs = DecodeGraphs(
        runner.model, cache, runner.block_size, most_rows, lambda: capture, most_graphs=most_graphs
    )
    engine._runner = replace(runner, cache=cache, graphs=graphs)
    return graphs


def traffic(engine: Engine, requests: int = 14) -> Events:
    """Requests of mixed lengths that arrive between steps; one of them is aborted."""
    generator = random.Random(1)  # noqa: S311 - reproducible
    events: Events = defaultdict(list)
    waiting = list(range(requests))
    steps = 0
    while waiting or engine.has_work():
        if waiting and steps % 6 == 0:
            name = waiting.pop()
            prompt = tuple(generator.randrange(4, 250) for _ in range(generator.randint(1, 90)))
            params = replace(SAMPLED, seed=name, temperature=0.8 * (name % 2), max_tokens=3 + 5 * (name % 7))
            engine.add(Request(str(name), prompt, params, n=1 + name % 3))
        if steps == 20:
            engine.abort(str(requests - 1))
        for event in engine.step():
            events[event.request_id, event.sample_index].append(event)
        steps += 1
    return events


def assert_equal(found: Events, expected: Events) -> None:
    """The same tokens and ends; the same logprobs up to the order of sums."""
    assert found.keys() == expected.keys()
    for key, events in expected.items():
        assert [(e.token_id, e.finish) for e in found[key]] == [(e.token_id, e.finish) for e in events]
        assert [e.logprob for e in found[key]] == pytest.approx(
            [e.logprob for e in events], abs=1e-4, nan_ok=True
        )


@pytest.fixture(scope="module", params=FAMILIES)
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    made: Path = tmp_path_factory.mktemp("family")
    config_class, values = FAMILIES[request.param]
    config = getattr(transformers, config_class)(vocab_size=save_tokenizer(made), **values)
    torch.manual_seed(0)
    transformers.AutoModelForCausalLM.from_config(config).save_pretrained(made)
    return made


@pytest.mark.parametrize(
    ("config", "most_rows"),
    [(CONFIG, 6), (CONFIG, 3), (replace(CONFIG, kv_cache_tokens=256), 6)],
    ids=["all decodes", "more sequences than the largest bucket", "preemption"],
)
def test_tokens_equal_the_plain_path(folder: Path, config: EngineConfig, most_rows: int) -> None:
    """Whatever arrives, leaves or loses its blocks, and with rows of padding beside it."""
    engine, plain, recorder = load(folder, config), load(folder, config), Recorder()
    graphs = add_graphs(engine, recorder, most_rows)
    assert_equal(traffic(engine), traffic(plain))
    assert graphs.count == recorder.captures
    assert recorder.replays > 3 * recorder.captures
    assert (plain.statistics().preemptions > 0) == (config is not CONFIG)


def test_more_graphs_than_are_kept(tiny_llama: Path) -> None:
    """The one unused for longest goes and is captured again when it is needed."""
    engine, recorder = load(tiny_llama), Recorder()
    graphs = add_graphs(engine, recorder, most_graphs=2)
    assert_equal(traffic(engine), traffic(load(tiny_llama)))
    assert graphs.count == 2
    assert recorder.captures > 4


def decoding(blocks: list[list[int]], **settings: Any) -> list[Chunk]:
    """Sequences at the last token of their blocks, of size 8."""
    sequences = []
    for row, owned in enumerate(blocks):
        tokens = [(5 * row + position) % 250 + 4 for position in range(8 * len(owned))]
        sequences.append(Sequence(Request(str(row), tuple(tokens)), 0, tokens, list(owned), **settings))
    return [Chunk(s, len(s.tokens) - 1, 1, samples=True) for s in sequences]


def test_padding_writes_to_the_spare_block_alone(tiny_llama: Path) -> None:
    """Every other place of the cache stays as it was, and what is not finite there reaches nobody."""
    engine = load(tiny_llama)
    add_graphs(engine, Recorder())
    runner, chunks = runner_of(engine), decoding([[3, 1, 2], [7], [9, 4, 5]])
    cache = runner.cache
    generator = torch.Generator().manual_seed(0)
    for each in (cache.keys, cache.values):
        each.copy_(torch.randn(each.shape, generator=generator))
        each[:, -1] = torch.nan
    before = cache.keys.clone()
    expected = replace(runner, graphs=None).forward(Plan(tuple(chunks), ()))
    found = runner.forward(Plan(tuple(chunks), ()))
    assert found.shape == expected.shape
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-4)
    moved = (cache.keys != before).any(4).any(2).any(0)  # by block and place in it; NaN is never equal
    assert moved[:-1].nonzero().tolist() == [[2, 7], [5, 7], [7, 7]]


@pytest.mark.parametrize(
    "chunks",
    [
        decoding([[0]], adapter=3),
        decoding([[0]], needs_all_rows=True),
        decoding([[0]] * 7),
        [replace(decoding([[0]])[0], samples=False)],
        [replace(decoding([[0]])[0], start=6, length=2)],
        [replace(each, start=9) for each in decoding([list(range(9000))] * 5)],
    ],
    ids=["adapter", "prompt scores", "too many rows", "no logits", "prefill", "too much context"],
)
def test_other_passes_are_left_to_the_plain_path(tiny_llama: Path, chunks: list[Chunk]) -> None:
    """A graph repeats one kind of pass only."""
    recorder = Recorder()
    graphs = add_graphs(load(tiny_llama), recorder)
    assert graphs.run(chunks) is None
    assert recorder.captures == 0


def test_adapters_whose_arithmetic_is_left_out_are_replayed(tiny_llama: Path) -> None:
    """Else what adapters cost would be told from steps with graphs and steps without."""
    runner, recorder = runner_of(load(tiny_llama)), Recorder()
    graphs = DecodeGraphs(
        runner.model, runner.cache, runner.block_size, 6, lambda: recorder, adapters_skipped=True
    )
    with torch.inference_mode():
        assert graphs.run(decoding([[0]], adapter=3)) is not None
    assert recorder.replays == 1


def test_what_can_t_be_captured_is_said_once(tiny_llama: Path, caplog: pytest.LogCaptureFixture) -> None:
    """The engine goes on without graphs, and the log says why it is slower."""
    attempts: list[Replay] = []

    def fail(function: Replay) -> Replay:
        attempts.append(function)
        raise RuntimeError("operation not permitted when stream is capturing\ndetails")

    engine = load(tiny_llama)
    add_graphs(engine, fail)
    assert_equal(traffic(engine), traffic(load(tiny_llama)))
    assert len(attempts) == 1
    (record,) = caplog.records
    assert "not permitted when stream is capturing" in record.getMessage()


def test_graphs_outlive_new_weights_unless_these_have_moved(tiny_llama: Path) -> None:
    """Replays read the weights that are there; an address that changed means to capture again."""
    engine, plain, recorder = load(tiny_llama), load(tiny_llama), Recorder()
    graphs = add_graphs(engine, recorder)
    traffic(engine, 3)
    kept = graphs.count
    network = runner_of(engine).model
    torch.manual_seed(1)
    new = {name: 0.3 * torch.randn_like(each) for name, each in network.named_parameters()}
    for each in (engine, plain):
        each.update_weights(1, new)
    assert graphs.count == kept > 0
    assert_equal(traffic(engine, 4), traffic(plain, 4))
    weight = network.get_output_embeddings().weight
    weight.data = weight.data.clone()
    runner_of(engine).weights_changed()
    assert graphs.count == 0


def test_a_cpu_has_no_graphs(tiny_llama: Path) -> None:
    """Nothing is replayed there and no block is set aside."""
    runner = runner_of(load(tiny_llama))
    assert runner.graphs is None
    assert runner.cache.keys.shape[1] == 200


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("compiled", [False, True])
def test_cuda_graphs_give_the_plain_tokens(
    folder: Path, caplog: pytest.LogCaptureFixture, compiled: bool
) -> None:
    """On the device that they are for, with real captures, and with compiled layers inside."""
    config = replace(CONFIG, device="cuda")
    engine = load(folder, replace(config, compile=compiled))
    assert_equal(traffic(engine), traffic(load(folder, replace(config, cuda_graphs=False))))
    graphs = runner_of(engine).graphs
    assert graphs
    assert not caplog.records
