"""The engine with a real (tiny, random) model: right tokens, right logprobs, right ends, clear refusals."""

import random
from collections import defaultdict
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM, PreTrainedModel

from asynckit.engine.config import EngineConfig, SamplingParams
from asynckit.engine.engine import Engine
from asynckit.engine.request import Finish, Request, TokenEvent
from asynckit.errors import ConfigError, DependencyError, InputError, RequestError
from asynckit.models.config import ModelConfig
from asynckit.models.local import LocalModel
from asynckit.models.resolve import resolve_model

CONFIG = EngineConfig(
    dtype="float32",
    device="cpu",
    max_running=6,
    max_step_tokens=40,
    max_model_len=256,
    block_size=16,
    kv_cache_tokens=1024,
)
GREEDY = SamplingParams(temperature=0.0, max_tokens=12, ignore_eos=True)


def load(folder: Path, config: EngineConfig = CONFIG) -> Engine:
    model_config = ModelConfig(name=str(folder))
    return Engine.load(config, model_config, resolve_model(model_config))


@pytest.fixture
def engine(tiny_llama: Path) -> Engine:
    return load(tiny_llama)


@pytest.fixture(scope="module")
def reference(tiny_llama: Path) -> PreTrainedModel:
    return AutoModelForCausalLM.from_pretrained(tiny_llama, dtype=torch.float32)


def drain(engine: Engine) -> dict[tuple[str, int], list[TokenEvent]]:
    events = defaultdict(list)
    while engine.has_work():
        for event in engine.step():
            events[event.request_id, event.sample_index].append(event)
    return events


def tokens_of(events: list[TokenEvent]) -> list[int]:
    return [event.token_id for event in events if event.token_id is not None]


def prompts(count: int, seed: int = 0) -> list[tuple[int, ...]]:
    generator = random.Random(seed)  # noqa: S311 - reproducible
    return [tuple(generator.randrange(4, 250) for _ in range(generator.randint(1, 90))) for _ in range(count)]


def test_greedy_equals_generate_whatever_arrives_and_is_aborted(
    engine: Engine, reference: PreTrainedModel
) -> None:
    """Requests that come and go between steps never change each other's tokens."""
    generator = random.Random(1)  # noqa: S311 - reproducible
    arriving = {str(i): prompt for i, prompt in enumerate(prompts(14))}
    events: dict[tuple[str, int], list[TokenEvent]] = defaultdict(list)
    waiting, aborted = list(arriving), set()
    while waiting or engine.has_work():
        if waiting and generator.random() < 0.5:
            name = waiting.pop()
            engine.add(Request(name, arriving[name], GREEDY, n=generator.choice([1, 3])))
            if generator.random() < 0.2:
                aborted.add(name)
        if aborted and generator.random() < 0.2:
            engine.abort(generator.choice(sorted(aborted)))
        for event in engine.step():
            events[event.request_id, event.sample_index].append(event)
    for (name, _), seen in events.items():
        assert [event.finish is not None for event in seen] == [False] * (len(seen) - 1) + [True]
        expected = without_eos_rule(reference, arriving[name], GREEDY.max_tokens)
        assert tokens_of(seen) == expected[: len(tokens_of(seen))]
        if seen[-1].finish is Finish.LENGTH:
            assert len(tokens_of(seen)) == GREEDY.max_tokens
    assert engine.statistics().kv_usage == 0


def without_eos_rule(reference: PreTrainedModel, prompt: tuple[int, ...], length: int) -> list[int]:
    """Greedy continuation that goes on past end-of-text, by plain forward passes."""
    ids = list(prompt)
    with torch.inference_mode():
        for _ in range(length):
            ids.append(int(reference(torch.tensor([ids])).logits[0, -1].argmax()))
    return ids[len(prompt) :]


def test_greedy_equals_generate_up_to_end_of_text(engine: Engine, reference: PreTrainedModel) -> None:
    """With its own end-of-text rule the engine stops where generate stops."""
    params = replace(GREEDY, ignore_eos=False, max_tokens=60)
    for index, prompt in enumerate(prompts(8, seed=3)):
        engine.add(Request(str(index), prompt, params))
    events = drain(engine)
    for index, prompt in enumerate(prompts(8, seed=3)):
        output = reference.generate(
            torch.tensor([prompt]),
            attention_mask=torch.ones(1, len(prompt), dtype=torch.long),
            do_sample=False,
            max_new_tokens=60,
        )
        assert tokens_of(events[str(index), 0]) == output[0, len(prompt) :].tolist()


def test_sampled_logprobs_equal_a_plain_forward_pass(engine: Engine, reference: PreTrainedModel) -> None:
    """A learner that recomputes softmax(logits / temperature) finds the engine's numbers."""
    params = SamplingParams(temperature=0.7, top_k=20, top_p=0.9, max_tokens=20, seed=4, ignore_eos=True)
    for index, prompt in enumerate(prompts(5, seed=5)):
        engine.add(Request(str(index), prompt, params, n=3))
    for (name, _), seen in drain(engine).items():
        prompt = prompts(5, seed=5)[int(name)]
        tokens = tokens_of(seen)
        with torch.inference_mode():
            logits = reference(torch.tensor([[*prompt, *tokens]])).logits[0, len(prompt) - 1 : -1]
        expected = (logits / 0.7).log_softmax(-1)[range(len(tokens)), tokens]
        assert [event.logprob for event in seen] == pytest.approx(expected.tolist(), abs=1e-4)


def test_samples_don_t_depend_on_company(engine: Engine, tiny_llama: Path) -> None:
    """The same request gives the same tokens alone and among others; its n samples differ from each other."""
    params = SamplingParams(max_tokens=15, seed=9, ignore_eos=True)
    request = Request("mine", prompts(1)[0], params, n=4)
    engine.add(request)
    for index, prompt in enumerate(prompts(6, seed=8)):
        engine.add(Request(str(index), prompt, replace(params, seed=index)))
    among = drain(engine)
    other = load(tiny_llama)
    other.add(request)
    alone = drain(other)
    mine = [tokens_of(alone["mine", index]) for index in range(4)]
    assert mine == [tokens_of(among["mine", index]) for index in range(4)]
    assert len({tuple(tokens) for tokens in mine}) == 4


def test_a_group_larger_than_the_batch_is_finished_too(engine: Engine) -> None:
    """A group may exceed max_running: the rest of the samples wait their turn."""
    engine.add(Request("big", prompts(1)[0], replace(GREEDY, temperature=1.0, max_tokens=3), n=15))
    events = drain(engine)
    assert sorted(index for _, index in events) == list(range(15))
    assert engine.statistics().kv_usage == 0


def test_a_prompt_is_prefilled_once_for_its_samples(engine: Engine) -> None:
    """Eight samples would cost eight prefills without sharing."""
    prompt = tuple(range(4, 68))
    engine.add(Request("group", prompt, GREEDY, n=5))
    drain(engine)
    assert engine.statistics().prefilled_tokens == len(prompt)


def test_stop_string_and_stop_token_end_a_sample(engine: Engine) -> None:
    """Both kinds of stop end a sample with the reason ``stop``."""
    prompt = prompts(1)[0]
    engine.add(Request("free", prompt, GREEDY))
    free = tokens_of(drain(engine)["free", 0])
    engine.add(Request("token", prompt, replace(GREEDY, stop_token_ids=(free[3],))))
    stopped = drain(engine)["token", 0]
    assert tokens_of(stopped) == free[: free.index(free[3]) + 1]
    assert stopped[-1].finish is Finish.STOP
    decode = engine._decode
    piece = decode(free[2:4])
    if "\ufffd" in piece or not piece:
        piece = decode(free)[:2]
    engine.add(Request("string", prompt, replace(GREEDY, stop=(piece,))))
    stopped = drain(engine)["string", 0]
    assert stopped[-1].finish is Finish.STOP
    assert piece in decode(tokens_of(stopped))


def test_abort_ends_all_samples_once_and_frees_the_cache(engine: Engine) -> None:
    """After an abort every sample has one last event and the cache is empty."""
    engine.add(Request("gone", prompts(1)[0], GREEDY, n=4))
    engine.step()
    engine.abort("gone")
    engine.abort("gone")
    engine.abort("never there")
    events = engine.step()
    assert [(e.sample_index, e.finish) for e in events] == [(i, Finish.ABORT) for i in range(4)]
    assert not engine.has_work()
    assert engine.statistics().kv_usage == 0


def test_logits_that_are_not_finite_fail_their_request_only(engine: Engine) -> None:
    """NaN in the model ends the requests concerned with a reason; the engine goes on."""
    network = engine._runner.model if engine._runner else None
    assert network is not None
    broken = 77
    with torch.no_grad():
        weight = network.get_input_embeddings().weight
        kept = weight[broken].clone()
        weight[broken] = float("nan")
    engine.add(Request("broken", (5, broken), GREEDY))
    engine.add(Request("healthy", (5, 6), replace(GREEDY, max_tokens=1)))
    events = drain(engine)
    assert events["broken", 0][-1].finish is Finish.ERROR
    assert "not finite" in events["broken", 0][-1].error
    with torch.no_grad():
        weight[broken] = kept
    engine.add(Request("after", (5, 6), GREEDY))
    assert drain(engine)["after", 0][-1].finish is Finish.LENGTH


@pytest.mark.parametrize("optimize", [True, False])
@pytest.mark.parametrize("how", ["abort", "preempt"])
def test_what_is_left_in_freed_blocks_harms_nobody(tiny_llama: Path, how: str, optimize: bool) -> None:
    """A prompt that makes keys and values infinite loses its blocks in mid-prefill; others get them."""
    engine = load(tiny_llama, replace(CONFIG, max_step_tokens=32, kv_cache_tokens=256, optimize=optimize))
    with torch.inference_mode():
        engine._runner.model.get_input_embeddings().weight[9] = torch.inf  # type: ignore[union-attr]
    innocent = [tuple(t + (t == 9) for t in prompt) for prompt in prompts(7, seed=7)]
    engine.add(Request("bad", (9, *[t for p in innocent for t in p][:200]), GREEDY))
    for _ in range(4):
        engine.step()
    if how == "abort":
        engine.abort("bad")
    for index, prompt in enumerate(innocent):
        engine.add(Request(str(index), prompt, GREEDY, priority=-1))
    events = drain(engine)
    assert {events[str(index), 0][-1].finish for index in range(7)} == {Finish.LENGTH}
    if how == "preempt":
        assert engine.statistics().preemptions > 0
        assert events["bad", 0][-1].finish is Finish.ERROR


class Broken(Exception):
    """What nobody expects."""


def raising(*_: object) -> None:
    raise Broken("as planned")


def test_an_error_in_sampling_ends_those_in_the_pass_and_the_engine_goes_on(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever kind of error it is, each request hears of it once."""
    engine.add(Request("a", (5, 6, 7), GREEDY, n=2))
    engine.step()
    with monkeypatch.context() as patch:
        patch.setattr("asynckit.engine.engine.sample", raising)
        engine.add(Request("b", (5, 6), GREEDY))
        ended = engine.step()
    assert {(e.request_id, e.sample_index, e.finish) for e in ended} == {
        ("a", 0, Finish.ERROR),
        ("a", 1, Finish.ERROR),
        ("b", 0, Finish.ERROR),
    }
    assert {event.error for event in ended} == {"Broken: as planned"}
    engine.add(Request("c", (5, 6, 7), GREEDY))
    assert drain(engine)["c", 0][-1].finish is Finish.LENGTH
    assert engine.statistics().kv_usage == 0


def test_an_error_in_a_stop_string_ends_its_request_alone(engine: Engine) -> None:
    """Decoding text is the business of the request that asked for it."""
    engine._decode = raising  # type: ignore[assignment]
    engine.add(Request("a", (5, 6, 7), replace(GREEDY, stop=("x",))))
    engine.add(Request("b", (5, 6, 7), GREEDY))
    events = drain(engine)
    assert events["a", 0][-1].error == "Broken: as planned"
    assert events["b", 0][-1].finish is Finish.LENGTH


def test_a_temperature_of_any_number_type_means_its_value(engine: Engine) -> None:
    """Numpy's numbers and integers come out of configuration and notebooks."""
    found = []
    for index, temperature in enumerate((1.0, 1, np.float64(1.0))):
        params = replace(GREEDY, temperature=temperature, seed=3)
        engine.add(Request(str(index), (5, 6, 7), params))
        events = drain(engine)[str(index), 0]
        found.append([(event.token_id, event.logprob) for event in events])
    assert found == [found[0]] * 3
    assert all(token is not None for token, _ in found[0])


def test_a_cache_without_room_for_the_trial_is_a_configuration_error(tiny_llama: Path) -> None:
    """It is the cache that is wrong, not the model."""
    with pytest.raises(ConfigError, match="no room"):
        load(tiny_llama, replace(CONFIG, block_size=1, kv_cache_tokens=1))


@pytest.mark.parametrize(
    ("request_", "words"),
    [
        (Request("r", (), GREEDY), "prompt is empty"),
        (Request("r", (5, 10_000), GREEDY), "outside the vocabulary"),
        (Request("r", (5, -1), GREEDY), "outside the vocabulary"),
        (Request("r", (5,) * 256, GREEDY), "no room for a response"),
        (Request("r", (5,), GREEDY, n=0), "n must be at least 1"),
        (Request("r", (5,), replace(GREEDY, temperature=float("nan"))), "temperature must be a finite"),
        (Request("r", (5,), replace(GREEDY, temperature=-1.0)), "temperature must be at least 0"),
        (Request("r", (5,), replace(GREEDY, top_p=0.0)), "top_p must be greater than 0"),
        (Request("r", (5,), replace(GREEDY, max_tokens=0)), "max_tokens must be at least 1"),
        (Request("r", (5,), replace(GREEDY, stop=("",))), "stop string must not be empty"),
    ],
)
def test_bad_requests_are_refused_before_they_reach_the_model(
    engine: Engine, request_: Request, words: str
) -> None:
    """Each has its own reason and leaves nothing behind."""
    with pytest.raises(RequestError, match=words):
        engine.add(request_)
    assert not engine.has_work()


def test_the_same_id_twice_is_refused(engine: Engine) -> None:
    """Two requests with one id would mix their tokens."""
    engine.add(Request("r", (5,), GREEDY))
    with pytest.raises(RequestError, match="already running"):
        engine.add(Request("r", (5,), GREEDY))


def test_a_request_that_can_never_fit_the_cache_is_refused(tiny_llama: Path) -> None:
    """Waiting for room that never comes would hang."""
    engine = load(tiny_llama, replace(CONFIG, kv_cache_tokens=16))
    with pytest.raises(RequestError, match="KV cache"):
        engine.add(Request("r", (5,) * 10, GREEDY))


def test_settings_that_the_model_can_t_keep_are_refused(tiny_llama: Path) -> None:
    """A context longer than the model's, or a GPU that isn't there, is said at once."""
    with pytest.raises(ConfigError, match="made for 512 tokens"):
        load(tiny_llama, replace(CONFIG, max_model_len=100_000))
    if not torch.cuda.is_available():
        with pytest.raises(DependencyError, match=r"engine\.device is cuda"):
            load(tiny_llama, replace(CONFIG, device="cuda"))


def test_a_model_that_is_not_decoder_only_is_refused(tmp_path: Path) -> None:
    """A T5 would load and compute nonsense."""
    from transformers import T5Config, T5ForConditionalGeneration

    T5ForConditionalGeneration(
        T5Config(d_model=16, d_ff=16, d_kv=8, num_layers=1, num_heads=2, vocab_size=32)
    ).save_pretrained(tmp_path)
    with pytest.raises(InputError, match="encoder-decoder"):
        Engine.load(CONFIG, ModelConfig(), LocalModel("t5", tmp_path, "digest"))
