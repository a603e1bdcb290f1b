"""asynckit's engine as one side of a comparison."""

import time
from collections.abc import Mapping
from dataclasses import replace

from workloads import LONGEST, MOST_SLOTS, Workload

from asynckit.engine.adapter_files import LayerSize
from asynckit.engine.config import EngineConfig, SamplingParams
from asynckit.engine.engine import Engine
from asynckit.engine.request import Finish, Request
from asynckit.models.config import ModelConfig
from asynckit.models.resolve import resolve_model

_GREEDY = SamplingParams(temperature=0.0, ignore_eos=True)


class Asynckit:
    """The engine with its default settings, deterministic mode aside; greedy, end-of-text ignored."""

    def __init__(self, model: str, dtype: str, threads: int, *, deterministic: bool = False) -> None:
        self.name = "deterministic" if deterministic else "asynckit"
        config = EngineConfig(
            dtype=dtype,
            device="cpu",
            threads=threads,
            max_running=MOST_SLOTS,
            max_model_len=LONGEST,
            deterministic=deterministic,
        )
        model_config = ModelConfig(name=model)
        self._engine = Engine.load(config, model_config, resolve_model(model_config))
        self._runs = 0

    def serves(self, workload: Workload) -> bool:  # noqa: ARG002 - part of a side's interface
        """Whether this side can run it."""
        return True

    def run(self, workload: Workload) -> float:
        """Seconds from the first request to the last token."""
        self._runs += 1
        requests = [
            Request(f"{self._runs}/{index}", prompt, replace(_GREEDY, max_tokens=count))
            for index, (prompt, count) in enumerate(zip(workload.prompts, workload.new_tokens, strict=True))
        ]
        begin = time.perf_counter()
        generated = self._drain(requests, workload.slots)
        seconds = time.perf_counter() - begin
        assert generated == workload.total_new_tokens
        return seconds

    def run_group(self, prompt: tuple[int, ...], samples: int, new_tokens: int) -> tuple[float, int]:
        """Seconds for several samples of one prompt, and how many prompt tokens that prefilled."""
        self._runs += 1
        sampling = replace(_GREEDY, temperature=1.0, max_tokens=new_tokens)
        before = self._engine.statistics().prefilled_tokens
        begin = time.perf_counter()
        generated = self._drain([Request(f"{self._runs}", prompt, sampling, n=samples)], slots=1)
        seconds = time.perf_counter() - begin
        assert generated == samples * new_tokens
        return seconds, self._engine.statistics().prefilled_tokens - before

    @property
    def layers(self) -> Mapping[str, LayerSize]:
        """The layers that adapters can change, by name."""
        return self._engine.adapters.layers

    def close(self) -> None:
        """Free the model."""
        self._engine.close()

    def _drain(self, requests: list[Request], slots: int) -> int:
        """Keep ``slots`` requests under way until all have ended; returns the number of tokens."""
        waiting, left, generated = requests[::-1], {r.id: r.n for r in requests}, 0
        under_way = 0
        while waiting or self._engine.has_work():
            while waiting and under_way < slots:
                self._engine.add(waiting.pop())
                under_way += 1
            for event in self._engine.step():
                generated += event.token_id is not None
                if event.finish:
                    assert event.finish is Finish.LENGTH, event
                    left[event.request_id] -= 1
                    under_way -= left[event.request_id] == 0
        return generated
