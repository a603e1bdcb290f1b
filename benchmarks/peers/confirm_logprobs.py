"""Compare the logprobs in a run's records with those of one plain forward pass of transformers per sample.

    asynckit rollout --engine openai openai.base_urls=http://127.0.0.1:8000 -o runs/there
    python benchmarks/peers/confirm_logprobs.py runs/there --model FOLDER

Against a server in bfloat16, differences of some hundredths are rounding; a wrong temperature makes tenths.
"""

import argparse
from pathlib import Path

import torch
from transformers import AutoModelForCausalLM

from asynckit.rollout.sinks import read_trajectories


def main() -> None:
    """Print the mean, 99th percentile and largest difference over all tokens."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("run", type=Path)
    parser.add_argument("--model", required=True, help="folder of the model, in transformers' format")
    parser.add_argument("--dtype", default="float32", choices=("float32", "bfloat16"))
    options = parser.parse_args()
    model = AutoModelForCausalLM.from_pretrained(options.model, dtype=getattr(torch, options.dtype))
    found = []
    for each in read_trajectories(options.run / "trajectories"):
        ids = torch.tensor([each.prompt_ids + each.response_ids])
        with torch.inference_mode():
            logits = model(ids).logits[0, len(each.prompt_ids) - 1 : -1].float()
        expected = (logits / (each.sampling["temperature"] or 1.0)).log_softmax(-1)
        chosen = expected[range(len(each.response_ids)), each.response_ids]
        found.append((chosen - torch.tensor(each.logprobs)).abs())
    gaps = torch.cat(found)
    print(
        f"{len(found)} samples, {gaps.numel()} tokens: "
        f"mean {gaps.mean():.4f}, p99 {gaps.quantile(0.99):.4f}, largest {gaps.max():.4f}"
    )


if __name__ == "__main__":
    main()
