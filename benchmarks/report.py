"""Results as tables for people and as JSON for comparisons."""

import json
from datetime import UTC, datetime
from pathlib import Path
from statistics import median
from typing import Any

Results = dict[str, Any]


def to_markdown(results: Results) -> str:
    """The whole report."""
    machine = results["machine"]
    lines = [f"# Engine, {results['date']}", "", "| machine | |", "|---|---|"]
    lines += [f"| {name.replace('_', ' ')} | {_text(value)} |" for name, value in machine.items()]
    lines += ["", f"Model {results['model']}, {results['dtype']}, {results['repeat']} repetitions.", ""]
    if results["workloads"]:
        lines += _throughput(results["workloads"])
    if "group" in results:
        lines += _group(results["group"])
    if "start" in results:
        lines += _start(results["start"])
    return "\n".join(lines)


def write(results: Results, folder: Path) -> Path:
    """Write ``DATE-engine.json`` and ``.md``; returns the path of the latter."""
    folder.mkdir(parents=True, exist_ok=True)
    name = datetime.now(UTC).strftime("%Y-%m-%dT%H%M-engine")
    (folder / f"{name}.json").write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
    page = folder / f"{name}.md"
    page.write_text(to_markdown(results) + "\n", encoding="utf-8")
    return page


def throughput_line(name: str, row: dict[str, Any]) -> str:
    """One row of the table of throughputs."""
    low, high = row["ratio_range"]
    return (
        f"| {name} | {row['peer']} | {row['ours_tokens_per_second']:.0f} "
        f"| {row['peer_tokens_per_second']:.0f} | **{row['ratio']:.2f}** | {low:.2f}-{high:.2f} |"
    )


def _throughput(workloads: dict[str, Any]) -> list[str]:
    head = [
        "Generated tokens per second, end to end (prefill included). The ratio is asynckit's speed over the",
        "peer's in the same repetition: median and range.",
        "",
        "| workload | peer | asynckit | peer | ratio | range |",
        "|---|---|---|---|---|---|",
    ]
    rows = [throughput_line(name, row) for name, entry in workloads.items() for row in entry["comparison"]]
    return [*head, *rows, ""]


def _group(group: dict[str, Any]) -> list[str]:
    together, separate = median(group["group_seconds"]), median(group["separate_seconds"])
    return [
        f"{group['samples']} samples of one prompt of {group['prompt_tokens']} tokens:",
        f"{group['prefilled_tokens']} tokens prefilled, {together:.2f} s.",
        f"As many different prompts of that length: {separate:.2f} s.",
        "",
    ]


def _start(start: dict[str, list[float]]) -> list[str]:
    times = ", ".join(f"{name} {median(seconds):.1f} s" for name, seconds in start.items())
    return [f"From the start of a process to its first token: {times}.", ""]


def _text(value: Any) -> str:
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)
