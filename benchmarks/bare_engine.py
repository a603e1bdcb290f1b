"""Tokens per second of the engine alone on what ``rollout.py`` gives a rollout; prints one number."""

import sys
import time

from rollout import ENGINE_SAMPLES, ENGINE_TOKENS, question

from asynckit.engine.config import EngineConfig, SamplingParams
from asynckit.engine.engine import Engine
from asynckit.engine.request import Request
from asynckit.models.config import ModelConfig
from asynckit.models.resolve import resolve_model
from asynckit.models.tokenizer import load_tokenizer


def main() -> None:
    """Load, run all groups at once, print."""
    config = ModelConfig()
    local = resolve_model(config)
    tokenizer = load_tokenizer(local, config)
    engine = Engine.load(EngineConfig(), config, local)
    groups = int(sys.argv[1])
    begin = time.perf_counter()
    for index in range(groups):
        sampling = SamplingParams(seed=index, max_tokens=ENGINE_TOKENS, ignore_eos=True)
        prompt = tuple(tokenizer(question(index))["input_ids"])
        engine.add(Request(str(index), prompt, sampling, n=ENGINE_SAMPLES))
    tokens = 0
    while engine.has_work():
        tokens += sum(event.token_id is not None for event in engine.step())
    seconds = time.perf_counter() - begin
    assert tokens == groups * ENGINE_SAMPLES * ENGINE_TOKENS
    print(tokens / seconds)


if __name__ == "__main__":
    main()
