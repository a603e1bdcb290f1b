"""transformers' ``generate`` over padded static batches as one side of a comparison."""

import time
from pathlib import Path
from typing import Any

from workloads import Workload


class PaddedGenerate:
    """Batches of as many requests as there are slots, in order, padded on the left to the longest prompt.

    A batch runs until its longest response is complete; only the tokens that were asked for count.
    """

    name = "transformers"

    def __init__(self, path: Path, dtype: str) -> None:
        self._model = load_causal_model(path, dtype)

    def serves(self, workload: Workload) -> bool:  # noqa: ARG002 - part of a side's interface
        """Whether this side can run it."""
        return True

    def run(self, workload: Workload) -> float:
        """Seconds from the first request to the last token."""
        begin = time.perf_counter()
        for start in range(0, len(workload.prompts), workload.slots):
            end = start + workload.slots
            self._generate(workload.prompts[start:end], max(workload.new_tokens[start:end]))
        return time.perf_counter() - begin

    def close(self) -> None:
        """Free the model."""
        del self._model

    def _generate(self, prompts: tuple[tuple[int, ...], ...], new_tokens: int) -> None:
        import torch

        width = max(map(len, prompts))
        ids = torch.tensor([[0] * (width - len(prompt)) + list(prompt) for prompt in prompts])
        mask = torch.tensor([[0] * (width - len(prompt)) + [1] * len(prompt) for prompt in prompts])
        output = self._model.generate(ids, attention_mask=mask, max_new_tokens=new_tokens, do_sample=False)
        assert output.shape == (len(prompts), width + new_tokens)


def load_causal_model(path: Path, dtype: str) -> Any:
    """The model as transformers loads it, made to go on past end-of-text."""
    import torch
    from transformers import AutoModelForCausalLM
    from transformers.utils import logging

    logging.disable_progress_bar()
    model: Any = AutoModelForCausalLM.from_pretrained(path, dtype=getattr(torch, dtype)).eval()
    model.generation_config.eos_token_id = None
    model.generation_config.pad_token_id = 0
    return model
