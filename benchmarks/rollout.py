"""What a rollout costs and gains, both sides in one run on this machine.

    python benchmarks/rollout.py                         # all parts, about ten minutes
    python benchmarks/rollout.py --only asynchrony       # fully asynchronous against synchronous
    python benchmarks/rollout.py --only coordination     # trajectories per second beside an engine of no time
    python benchmarks/rollout.py --only engine           # the real engine through Ray against the bare engine

Ratios are what to read. Results are kept in benchmarks/results if the machine was quiet when the run began,
or where --out says.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from statistics import median
from typing import Any

from arguments import choice
from environment import QUIET_LOAD, describe_machine

RESULTS = Path(__file__).parent / "results"
PARTS = ("asynchrony", "coordination", "engine")

# Lognormal lengths with p99 ten times p50; a batch trains for about half as long as it takes to generate.
LONG_TAIL = (
    "--engine=simulated",
    "--reward=none",
    "rollout.n=4",
    "engine.max_running=128",
    "sampling.max_tokens=4000",
    "simulated.response_tokens=lognormal(100,1000)",
    "simulated.step_seconds=constant(0.005)",
    "simulated.sequence_seconds=0",
    "learner.kind=simulated",
    "learner.batch_size=16",
    "learner.step_seconds=constant(2.5)",
    "async_training.staleness_threshold=1",
    "async_training.max_staleness=1",
)
LONG_TAIL_GROUPS = 192
INSTANT = (
    "--engine=simulated",
    "--reward=none",
    "rollout.n=4",
    "simulated.clock=virtual",
    "simulated.response_tokens=constant(8)",
    "engine.max_running=256",
)
ENGINE_GROUPS, ENGINE_SAMPLES, ENGINE_TOKENS = 128, 4, 128


def main() -> None:
    """Measure what was asked for, print it, keep it."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", type=choice(PARTS), default=list(PARTS), metavar="PART,...")
    parser.add_argument("--repeat", type=int, default=3, help="repetitions of the part engine (3)")
    parser.add_argument(
        "--trajectories", type=int, default=100_000, help="of the part coordination (100,000)"
    )
    parser.add_argument("--out", type=Path, help="folder for the results, written even on a busy machine")
    options = parser.parse_args()
    machine = describe_machine(len(os.sched_getaffinity(0)))
    quiet = machine["load_average_before"] <= QUIET_LOAD
    if not quiet:
        print(f"warning: the load average is {machine['load_average_before']}; nothing else should run")
    results: dict[str, Any] = {"date": datetime.now(UTC).isoformat(timespec="minutes"), "machine": machine}
    if "asynchrony" in options.only:
        results["asynchrony"] = measure_asynchrony()
    if "coordination" in options.only:
        results["coordination"] = measure_coordination(options.trajectories)
    if "engine" in options.only:
        results["engine"] = measure_engine(options.repeat)
    machine["load_average_after"] = round(os.getloadavg()[0], 2)
    page = to_markdown(results)
    print("\n" + page)
    if quiet or options.out:
        folder = options.out or RESULTS
        folder.mkdir(parents=True, exist_ok=True)
        name = datetime.now(UTC).strftime("%Y-%m-%dT%H%M-rollout")
        (folder / f"{name}.json").write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
        (folder / f"{name}.md").write_text(page + "\n", encoding="utf-8")
        print(f"written to {folder / name}.md")


def measure_asynchrony() -> list[dict[str, Any]]:
    """The same workload on the synchronous schedule and on asynchronous ones, by the real clock."""
    rows: list[dict[str, Any]] = []
    for name, settings in (
        ("sync", ("rollout.mode=sync",)),
        ("async, a version per batch", ("async_training.trigger_parameter_sync_step=1",)),
        ("async, a version per four batches", ("async_training.trigger_parameter_sync_step=4",)),
    ):
        forecast = rollout(LONG_TAIL_GROUPS, *LONG_TAIL, *settings, "--simulate")["prediction"]["makespan"]
        summary = rollout(LONG_TAIL_GROUPS, *LONG_TAIL, *settings)
        seconds = summary["response_tokens"] / summary["tokens_per_second"]
        row = {
            "schedule": name,
            "makespan_seconds": seconds,
            "forecast_seconds": forecast,
            "idle_ratio": summary["idle_ratio"],
            "staleness": summary["staleness"],
            "ratio": (rows[0]["makespan_seconds"] if rows else seconds) / seconds,
        }
        print(f"{name}: {seconds:.1f} s (forecast {forecast:.1f}), ratio {row['ratio']:.2f}", flush=True)
        rows.append(row)
    return rows


def measure_coordination(trajectories: int) -> dict[str, Any]:
    """Trajectories committed per second when generating takes no time, and the memory of every process."""
    groups = trajectories // 4
    samples: list[dict[str, float]] = []
    summary = rollout(groups, *INSTANT, watch=samples)
    seconds = summary["response_tokens"] / summary["tokens_per_second"]
    rate = 4 * groups / seconds
    growth = memory_growth(samples)
    print(f"{rate:.0f} trajectories/s; memory in MiB over the run: {growth}", flush=True)
    return {"trajectories": 4 * groups, "seconds": seconds, "per_second": rate, "memory_mib": growth}


def measure_engine(repeat: int) -> list[dict[str, Any]]:
    """The real engine, once in a rollout on Ray and once alone, taking turns."""
    rows = []
    for _ in range(repeat):
        settings = (f"rollout.n={ENGINE_SAMPLES}", f"sampling.max_tokens={ENGINE_TOKENS}")
        summary = rollout(ENGINE_GROUPS, "--reward=none", *settings, "sampling.ignore_eos=true")
        bare = subprocess.run(
            [sys.executable, __file__.replace("rollout.py", "bare_engine.py"), *map(str, (ENGINE_GROUPS,))],
            stdout=subprocess.PIPE,
            check=True,
            text=True,
        )
        alone = float(bare.stdout)
        row = {
            "through_ray": summary["tokens_per_second"],
            "bare": alone,
            "ratio": summary["tokens_per_second"] / alone,
        }
        print(f"through Ray {row['through_ray']:.0f}, bare {alone:.0f}, ratio {row['ratio']:.3f}", flush=True)
        rows.append(row)
    return rows


def rollout(groups: int, *settings: str, watch: list[dict[str, float]] | None = None) -> dict[str, Any]:
    """Run ``asynckit rollout`` over so many small prompts; returns its summary."""
    with tempfile.TemporaryDirectory() as folder:
        prompts = Path(folder) / "prompts.jsonl"
        lines = (json.dumps({"prompt": question(index)}) for index in range(groups))
        prompts.write_text("\n".join(lines) + "\n", encoding="utf-8")
        command = [
            sys.executable,
            "-m",
            "asynckit",
            "rollout",
            "--json",
            "--quiet",
            "--prompts",
            str(prompts),
        ]
        with subprocess.Popen(
            [*command, "--out", f"{folder}/run", *settings], stdout=subprocess.PIPE, text=True
        ) as process:
            while watch is not None and process.poll() is None:
                watch.append(memory_of_parts())
                time.sleep(1)
            answer, _ = process.communicate()
        if process.returncode:
            sys.exit(f"the rollout ended with {process.returncode}")
        summary: dict[str, Any] = json.loads(answer)
        return summary


def question(index: int) -> str:
    """A prompt of about twenty tokens."""
    return f"Question {index}: what is {index} plus {index + 1}? Think, then answer with one number."


def memory_of_parts() -> dict[str, float]:
    """Resident MiB of every Ray actor of a rollout, by its name."""
    found: dict[str, float] = {}
    for entry in Path("/proc").iterdir():
        with suppress(OSError):  # a process may end while its entry is read
            if entry.name.isdigit() and (name := (entry / "cmdline").read_text()).startswith("ray::"):
                pages = int((entry / "statm").read_text().split()[1])
                part = name.removeprefix("ray::").partition(".")[0].partition(":")[0].strip("\0")
                found[part] = found.get(part, 0.0) + pages * os.sysconf("SC_PAGE_SIZE") / 2**20
    return found


def memory_growth(samples: list[dict[str, float]]) -> dict[str, list[int]]:
    """For every part its memory a quarter into the run, at the half, at three quarters and at the end."""
    parts = sorted({part for sample in samples for part in sample if not part.startswith("IDLE")})
    growth = {}
    for part in parts:
        series = [sample[part] for sample in samples if part in sample]
        marks = [series[min(len(series) - 1, len(series) * quarter // 4)] for quarter in (1, 2, 3, 4)]
        growth[part] = [round(value) for value in marks]
    return growth


def asynchrony_line(row: dict[str, Any]) -> str:
    """One schedule."""
    error = row["forecast_seconds"] / row["makespan_seconds"] - 1
    cells = [
        row["schedule"],
        f"{row['makespan_seconds']:.1f} s",
        f"{row['forecast_seconds']:.1f} s ({error:+.1%})",
        f"{row['idle_ratio']:.0%}",
        str(row["staleness"]),
        f"**{row['ratio']:.2f}**",
    ]
    return f"| {' | '.join(cells)} |"


def to_markdown(results: dict[str, Any]) -> str:
    """The results as a page."""
    lines = [f"# Rollout, {results['date']}", "", "| machine | |", "|---|---|"]
    lines += [f"| {name.replace('_', ' ')} | {value} |" for name, value in results["machine"].items()]
    if rows := results.get("asynchrony"):
        lines += ["", "| schedule | makespan | forecast | engines idle | tokens by age | ratio |"]
        lines += ["|---|---|---|---|---|---|", *map(asynchrony_line, rows)]
    if found := results.get("coordination"):
        rate, memory = f"**{found['per_second']:,.0f} per second**", found["memory_mib"]
        lines += ["", f"{found['trajectories']:,} trajectories with an engine that takes no time: {rate}."]
        lines += [f"Resident MiB of the parts at each quarter of the run: {memory}."]
    if rows := results.get("engine"):
        ratio = median(row["ratio"] for row in rows)
        lines += ["", "| tokens/s through Ray | tokens/s bare | ratio |", "|---|---|---|"]
        lines += [f"| {row['through_ray']:.0f} | {row['bare']:.0f} | {row['ratio']:.3f} |" for row in rows]
        lines += ["", f"Median ratio **{ratio:.3f}**."]
    return "\n".join(lines)


if __name__ == "__main__":
    main()
