"""Runs inside the virtual environment of vLLM: workloads in on stdin, seconds out on stdout, as JSON lines.

Started by ``vllm_process.py`` beside it. The first line out says that the engine is loaded. Each line in is a
``Workload`` as a JSON object; each answer has the seconds from the first request to the last token.
"""

import argparse
import json
import os
import sys
import time
from typing import Any

MIB = 2**20


def main() -> None:
    """Serve workloads until stdin ends."""
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)  # what vLLM prints must not come between the answers
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", required=True)
    parser.add_argument("--dtype", required=True)
    parser.add_argument("--max-model-len", type=int, required=True)
    parser.add_argument("--max-num-seqs", type=int, required=True)
    options = parser.parse_args()
    import torch
    import vllm  # type: ignore[import-not-found,unused-ignore]

    engine = vllm.LLM(
        options.model,
        dtype=options.dtype,
        max_model_len=options.max_model_len,
        max_num_seqs=options.max_num_seqs,
        kv_cache_memory_bytes=2048 * MIB,
    )
    answers.write(json.dumps({"version": vllm.__version__, "torch": torch.__version__}) + "\n")
    for line in sys.stdin:
        answers.write(json.dumps({"seconds": run(engine, json.loads(line))}) + "\n")


def run(engine: Any, workload: dict[str, Any]) -> float:
    """Seconds that vLLM takes for a workload."""
    from vllm import SamplingParams
    from vllm.sampling_params import (  # type: ignore[import-not-found,unused-ignore]
        RequestOutputKind,
    )

    prompts = [{"prompt_token_ids": ids} for ids in workload["prompts"]]
    parameters = [
        SamplingParams(
            temperature=0.0,
            max_tokens=count,
            ignore_eos=True,
            detokenize=False,
            output_kind=RequestOutputKind.FINAL_ONLY,
        )
        for count in workload["new_tokens"]
    ]
    begin = time.perf_counter()
    if workload["slots"] >= len(prompts):
        outputs = engine.generate(prompts, parameters, use_tqdm=False)
    else:
        outputs = drain(engine.llm_engine, prompts, parameters, workload["slots"])
    seconds = time.perf_counter() - begin
    assert sum(len(output.outputs[0].token_ids) for output in outputs) == sum(workload["new_tokens"])
    return seconds


def drain(engine: Any, prompts: list[Any], parameters: list[Any], slots: int) -> list[Any]:
    """Keep ``slots`` requests under way until all have ended."""
    outputs: list[Any] = []
    sent = 0
    while len(outputs) < len(prompts):
        while sent < len(prompts) and sent - len(outputs) < slots:
            engine.add_request(str(sent), prompts[sent], parameters[sent])
            sent += 1
        outputs += [output for output in engine.step() if output.finished]
    return outputs


if __name__ == "__main__":
    main()
