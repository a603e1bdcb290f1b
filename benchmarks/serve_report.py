"""What ``serve.py`` found, as a page."""

from statistics import median
from typing import Any

FLOORS = {"of the bare engine": 0.90, "ready": 8.0, "idle": 0.02}


def to_markdown(results: dict[str, Any]) -> str:
    """The whole report."""
    machine = results["machine"]
    lines = [f"# Serve, {results['date']}", "", "| machine | |", "|---|---|"]
    lines += [f"| {name.replace('_', ' ')} | {_text(value)} |" for name, value in machine.items()]
    lines += ["", f"Model {results['model']}, {results['dtype']}, {results['repeat']} repetitions.", ""]
    for part, write in (
        ("throughput", _throughput),
        ("arrivals", _arrivals),
        ("start", _start),
        ("idle", _idle),
        ("lora", _lora),
    ):
        if part in results:
            lines += [*write(results[part]), ""]
    return "\n".join(lines)


def throughput_line(row: dict[str, Any]) -> str:
    """One row of the table of throughputs."""
    low, high = row["ratio_range"]
    floor = f" (floor {FLOORS['of the bare engine']:.2f})" if row["peer"] == "bare engine" else ""
    return (
        f"| {row['peer']} | {row['ours_tokens_per_second']:.0f} | {row['peer_tokens_per_second']:.0f} "
        f"| **{row['ratio']:.2f}**{floor} | {low:.2f}-{high:.2f} |"
    )


def _throughput(found: dict[str, Any]) -> list[str]:
    shares = ", ".join(f"{name} {share:.1%}" for name, share in found["client_cpu_share"].items())
    return [
        f"{found['clients']} streaming clients that are always busy, tokens per second, prefill included.",
        "The ratio is asynckit's speed over the other's in the same repetition: median and range.",
        "",
        "| beside | asynckit | the other | ratio | range |",
        "|---|---|---|---|---|",
        *map(throughput_line, found["comparison"]),
        "",
        f"The clients took this share of one core: {shares}.",
        "",
        *_first_token(f"{found['clients']} clients", found["first_token"]),
    ]


def _arrivals(found: dict[str, Any]) -> list[str]:
    rate = found["requests_per_second"]
    return _first_token(f"{rate:.1f} requests/s at random moments", found["first_token"])


def _first_token(load: str, rows: dict[str, dict[str, float]]) -> list[str]:
    ours = rows["asynckit"]
    return [
        f"Seconds to the first token under {load}:",
        "",
        "| server | p50 | p95 | asynckit is sooner, p50 | p95 |",
        "|---|---|---|---|---|",
        *(
            f"| {name} | {row['p50']:.3f} | {row['p95']:.3f} "
            f"| {row['p50'] / ours['p50']:.2f}x | {row['p95'] / ours['p95']:.2f}x |"
            for name, row in rows.items()
        ),
    ]


def _start(found: dict[str, list[float]]) -> list[str]:
    times = ", ".join(f"{name} {median(seconds):.1f} s" for name, seconds in found.items())
    return [
        f"From the start of the process until it is ready: {times} (asynckit's bar: {FLOORS['ready']:.0f} s)."
    ]


def _idle(found: dict[str, float]) -> list[str]:
    shares = ", ".join(f"{name} {share:.2%}" for name, share in found.items())
    return [f"CPU of all processes while idle, of one core: {shares} (asynckit's bar: {FLOORS['idle']:.0%})."]


def _lora(found: dict[str, Any]) -> list[str]:
    low, high = found["ratio_range"]
    speeds = f"{found['peer_tokens_per_second']:.0f} and {found['ours_tokens_per_second']:.0f} tokens/s"
    return [
        f"{found['adapters']} adapters of rank {found['rank']} on {_text(found['targets'])}, one in every",
        f"request, computed and with `--no-lora-compute`: {speeds},",
        f"**{found['ratio']:.2f}x** ({low:.2f}-{high:.2f}).",
    ]


def _text(value: Any) -> str:
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)
