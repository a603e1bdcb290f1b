"""The engine's cases run the steps that they say, for as long as they are measured."""

from pathlib import Path

import pytest
from transformers import AutoModelForCausalLM

from asynckit.bench.cases.case import Case, Prepared
from asynckit.bench.cases.decoding import WINDOW, Decoding
from asynckit.bench.cases.engine_shelf import EngineShelf
from asynckit.bench.cases.engine_steps import cache_tokens, prompt_tokens
from asynckit.bench.config import BenchConfig
from asynckit.bench.running import run_case
from asynckit.bench.subject import NO_WEIGHTS, Subject, find_subject
from asynckit.bench.suite import Suite
from asynckit.engine.config import EngineConfig
from asynckit.engine.engine import Engine
from asynckit.engine.request import TokenEvent
from asynckit.errors import ConfigError, InputError, ModelNotFound, WorkFailed
from asynckit.models.config import ModelConfig


def engine_of(suite: Suite, *, lora_compute: bool = True) -> Engine:
    """The engine that the suite's cases share."""
    shelf = suite.engine_cases.shelf
    assert shelf
    return shelf.engine("cpu", lora_compute=lora_compute)


def call(prepared: Prepared) -> object:
    """One call as it is timed, after its set-up."""
    inputs = prepared.setup() if prepared.setup else ()
    return prepared.function(*inputs) if isinstance(inputs, tuple) else prepared.function(inputs)


def tokens(case: Case, steps: int) -> list[list[int | None]]:
    """What so many steps of a decoding case sample."""
    prepared = case.make("cpu")
    found: list[list[int | None]] = []
    for _ in range(steps):
        events = call(prepared)
        assert isinstance(events, list)
        found.append([event.token_id for event in sorted(events, key=_index)])
    prepared.close()
    return found


def _index(event: TokenEvent) -> str:
    return event.request_id


@pytest.mark.parametrize("batch", [1, 8, 64])
def test_every_timed_step_decodes_the_whole_batch(suite: Suite, batch: int) -> None:
    """Also past the window, where the sequences begin again, and the contexts stay where they were."""
    case = suite.cases([f"decode B={batch}"])[0]
    prepared, engine = case.make("cpu"), engine_of(suite)
    assert prepared.setup
    for _ in range(2 * WINDOW + 3):
        prepared.setup()
        before = engine.statistics()
        prepared.function()
        after = engine.statistics()
        assert after.step_tokens == batch
        assert after.steps == before.steps + 1
        assert after.prefilled_tokens == before.prefilled_tokens
    prepared.close()
    assert not engine.has_work()


def test_beginning_again_costs_little(suite: Suite) -> None:
    """The prompts are in the prefix cache: of each, one token is computed anew."""
    prepared, engine = suite.cases(["decode B=8"])[0].make("cpu"), engine_of(suite)
    assert prepared.setup
    call(prepared)
    first = engine.statistics().prefilled_tokens
    for _ in range(WINDOW):
        call(prepared)
    assert engine.statistics().prefilled_tokens == first + 2 * 8
    prepared.close()


def test_prefills_find_nothing_in_the_cache(suite: Suite) -> None:
    """Every call computes its whole prompt: after decode steps, after shorter ones, and once more."""
    engine = engine_of(suite)
    for pattern in ("decode B=8", "prefill T=128", "prefill T=511", "prefill T=128"):
        case = suite.cases([pattern])[0]
        prepared = case.make("cpu")
        for _ in range(3):
            before = engine.statistics()
            call(prepared)
            after = engine.statistics()
            if case.name == "prefill":
                assert after.prefilled_tokens == before.prefilled_tokens + case.parameters["context"]
                assert after.steps == before.steps + 1
                assert after.prefix_hit_tokens == before.prefix_hit_tokens
        prepared.close()
        assert not engine.has_work()


def test_adapters_are_computed_only_where_they_are_on(suite: Suite) -> None:
    """Loaded and skipped ones leave the model's own tokens; computed ones change them."""
    cases = {case.variant.split()[0]: case for case in suite.cases(["lora"])}
    found = {kind: tokens(case, 6) for kind, case in cases.items()}
    assert found["off"] == found["skipped"]
    assert found["off"] != found["on"]
    assert engine_of(suite, lora_compute=False).adapters.statistics().resident == 4


@pytest.mark.parametrize("source", ["memory", "files"])
def test_updates_bring_the_same_weights(suite: Suite, source: str) -> None:
    """The version grows with every call and the model says what it said."""
    decode = suite.cases(["decode B=1"])[0]
    before = tokens(decode, 4)
    case = suite.cases([f"weight-update {source}"])[0]
    prepared, engine = case.make("cpu"), engine_of(suite)
    for version in (1, 2):
        call(prepared)
        assert engine.version == version
    assert tokens(decode, 4) == before


def test_updates_move_every_weight(suite: Suite, tiny_llama: Path) -> None:
    """As many bytes as the model has numbers in the engine's dtype, read and written."""
    model = AutoModelForCausalLM.from_pretrained(tiny_llama)
    assert suite.cases(["weight-update"])[0].counts.bytes == 2 * 4 * model.num_parameters()


def test_a_configuration_alone_has_shapes_but_no_steps(tiny_llama: Path) -> None:
    """``--model path/config.json`` measures products; what needs weights says so."""
    subject = find_subject(ModelConfig(name=str(tiny_llama / "config.json")))
    assert subject.local is None
    suite = Suite("cpu", lambda: subject)
    assert {case.missing for case in suite.cases(["engine"])} == {NO_WEIGHTS}
    assert {case.missing for case in suite.cases(["gemm"])} == {""}
    suite.close()


def test_broken_configurations_are_told(tmp_path: Path) -> None:
    """A file that is missing, or no JSON, or of no transformer."""
    with pytest.raises(ModelNotFound, match="no file"):
        find_subject(ModelConfig(name=str(tmp_path / "config.json")))
    broken = tmp_path / "broken.json"
    broken.write_text("{", encoding="utf-8")
    with pytest.raises(InputError, match="not valid JSON"):
        find_subject(ModelConfig(name=str(broken)))
    broken.write_text('{"model_type": "no such thing"}', encoding="utf-8")
    with pytest.raises(InputError, match="can't be used"):
        find_subject(ModelConfig(name=str(broken)))


def test_short_models_decode_nothing(tiny_subject: Subject) -> None:
    """Where sequences have no room for a window, there is no case rather than a wrong one."""
    suite = Suite("cpu", lambda: tiny_subject, engine=EngineConfig(max_model_len=100))
    assert not suite.engine_cases.decode()
    assert not suite.engine_cases.lora()
    assert [case.parameters["context"] for case in suite.engine_cases.prefill()] == [99]
    assert cache_tokens("cpu", 100, 32) > 99


def test_prompts_fill_blocks_and_one_token() -> None:
    """So that a known prompt begins again with one token."""
    assert {prompt_tokens(device, 8192) % 32 for device in ("cpu", "cuda")} == {1}


def test_an_engine_that_does_something_else_is_found_out(tiny_subject: Subject) -> None:
    """A timing of anything but a decode step would be a wrong number."""
    config = EngineConfig(dtype="float32", max_step_tokens=4, device="cpu")
    shelf = EngineShelf(tiny_subject, config, kv_cache_tokens=4096, batch=8, seed=0)
    decoding = Decoding(shelf.engine("cpu"), 8, 33, seed=0)
    with pytest.raises(WorkFailed, match="could not be brought to decode together"):
        decoding.ready()
    shelf.close()


def test_a_model_that_cannot_run_is_tried_once(tiny_subject: Subject) -> None:
    """All cases of it say why, and none loads it again."""
    config = EngineConfig(max_model_len=10_000)
    shelf = EngineShelf(tiny_subject, config, kv_cache_tokens=1024, batch=8, seed=0)
    with pytest.raises(ConfigError, match="max_model_len") as first:
        shelf.engine("cpu")
    with pytest.raises(ConfigError) as second:
        shelf.engine("cpu", lora_compute=False)
    assert first.value is second.value


def test_a_shelf_loads_again_after_it_was_closed(tiny_subject: Subject) -> None:
    """Closing frees the adapters' files too."""
    shelf = EngineShelf(tiny_subject, EngineConfig(dtype="float32"), kv_cache_tokens=1024, batch=8, seed=0)
    first = shelf.engine("cpu")
    assert shelf.engine("cpu") is first
    assert shelf.register(first) == shelf.register(first) == list(first.adapters.names())
    folder = Path(shelf._folder.name) if shelf._folder else None
    shelf.close()
    assert folder
    assert not folder.exists()
    assert len(shelf.register(shelf.engine("cpu"))) == 4
    shelf.close()


def test_adapters_keep_to_the_engines_limits(tiny_subject: Subject, quick: BenchConfig) -> None:
    """With fewer slots or lower ranks the adapters are fewer and lower."""
    config = EngineConfig(dtype="float32", max_loras=2, max_lora_rank=4)
    suite = Suite("cpu", lambda: tiny_subject, engine=config)
    case = suite.cases(["lora on"])[0]
    assert case.parameters["adapters"] == 2
    assert case.parameters["rank"] == 4
    assert run_case(case, "cpu", quick).timing
    suite.close()
