"""transformers' continuous batching, ``generate_batch``, as one side of a comparison."""

import time
from pathlib import Path

from peers.padded import load_causal_model
from workloads import LONGEST, MOST_SLOTS, Workload

_PAGE = 256  # its own default


class GenerateBatch:
    """One call of ``generate_batch`` per run.

    The call takes one length for all responses, so workloads of mixed lengths are left out.
    """

    name = "generate_batch"

    def __init__(self, path: Path, dtype: str) -> None:
        self._model = load_causal_model(path, dtype)

    def serves(self, workload: Workload) -> bool:
        """Whether this side can run it."""
        return len(set(workload.new_tokens)) == 1 and workload.slots >= len(workload.prompts)

    def run(self, workload: Workload) -> float:
        """Seconds from the first request to the last token."""
        from transformers import ContinuousBatchingConfig, GenerationConfig

        new_tokens = workload.new_tokens[0]
        generation = GenerationConfig(
            max_new_tokens=new_tokens, do_sample=False, eos_token_id=-1, pad_token_id=0
        )
        # Sized by hand: its own choice takes nine tenths of the memory that is free.
        batching = ContinuousBatchingConfig(
            num_blocks=MOST_SLOTS * LONGEST // _PAGE, page_size=_PAGE, max_batch_tokens=2048
        )
        begin = time.perf_counter()
        outputs = self._model.generate_batch(
            [list(prompt) for prompt in workload.prompts],
            generation_config=generation,
            continuous_batching_config=batching,
            warmup=False,
        )
        seconds = time.perf_counter() - begin
        assert [len(o.generated_tokens) for o in outputs.values()] == [new_tokens] * len(workload.prompts)
        return seconds

    def close(self) -> None:
        """Free the model."""
        del self._model
