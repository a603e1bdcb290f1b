"""One process from start to first token. ``engine.py`` starts it and times it from outside."""

import argparse
from pathlib import Path

from workloads import Workload

WORKLOAD = Workload((tuple(range(100, 228)),), (1,), 1)


def main() -> None:
    """Load one side, generate a token, say so."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("side", choices=("asynckit", "transformers"))
    parser.add_argument("--model", required=True)
    parser.add_argument("--dtype", required=True)
    parser.add_argument("--threads", type=int, required=True)
    options = parser.parse_args()
    if options.side == "asynckit":
        from ours import Asynckit

        Asynckit(options.model, options.dtype, options.threads).run(WORKLOAD)
    else:
        import torch
        from peers.padded import PaddedGenerate

        torch.set_num_threads(options.threads)
        PaddedGenerate(Path(options.model), options.dtype).run(WORKLOAD)
    print("first token", flush=True)


if __name__ == "__main__":
    main()
