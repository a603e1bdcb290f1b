"""Results of ``tokenization.py`` as a page, and what follows from them."""

from statistics import median
from textwrap import wrap
from typing import Any

from tokenization_sides import OURS

Row = dict[str, Any]


def of_whole(row: Row, size: int, what: str = "seconds") -> list[float]:
    """What a file of so many bytes takes in each repetition: start-up, and the rest in proportion."""
    scale = (size - row["start_bytes"]) / (row["bytes"] - row["start_bytes"])
    begin = median(run[what] for run in row["start"])
    return [begin + (run[what] - begin) * scale for run in row["work"]]


def compare(rows: dict[str, Row], size: int) -> list[Row]:
    """Every side over the whole file.

    Returns:
        For each side its median megabytes per second, the share of start-up in its time, its memory, and
        how many times as fast we are: within each repetition, as median, smallest and largest; None without
        us.
    """
    seconds = {name: of_whole(row, size) for name, row in rows.items()}
    found = []
    for name, row in rows.items():
        pairs = zip(seconds[name], seconds.get(OURS, ()), strict=False)
        ratios = [theirs / ours for theirs, ours in pairs]
        begin = median(run["seconds"] for run in row["start"])
        found.append(
            {
                "side": name,
                "megabytes_per_second": size / 1e6 / median(seconds[name]),
                "start_seconds": begin,
                "start_share": begin / median(seconds[name]),
                "cpu_seconds_per_gigabyte": median(of_whole(row, size, "cpu_seconds")) / size * 1e9,
                "peak_mib": max(run["peak_mib"] for run in row["work"]),
                "ratio": median(ratios) if ratios else None,
                "ratio_range": [min(ratios), max(ratios)] if ratios else None,
            }
        )
    return found


def to_markdown(results: dict[str, Any]) -> str:
    """The results as a page."""
    lines = [f"# Tokenizing, {results['date']}", "", "| machine | |", "|---|---|"]
    machine = results["machine"] | {f"peers' {k}": v for k, v in results.get("datatrove", {}).items()}
    lines += [f"| {name.replace('_', ' ')} | {value} |" for name, value in machine.items()]
    if "sides" in results:
        lines += _speed(results)
    if "memory" in results:
        lines += _memory(results["memory"])
    return "\n".join(lines)


def _speed(results: dict[str, Any]) -> list[str]:
    corpus, prefix = results["corpus"], results["prefix"]
    said = (
        f"JSONL of {corpus['bytes'] / 1e6:.0f} MB, {corpus['documents']:,} documents, to token files, from "
        f"the start of a process to its end; {results['repeat']} repetitions, medians. Peers were given the "
        f"first {prefix['bytes'] / 1e6:.0f} MB; their time for all of it follows from that and their start. "
        "Every side wrote the same ids for the same documents. The ratio is asynckit's speed over the "
        "peer's, median and range."
    )
    lines = ["", *wrap(said, 110)]
    for name, rows in results["sides"].items():
        encoder = rows.get(OURS, {}).get("encoder", {}).get("name")
        lines += ["", f"## {name}" + (f", encoded by {encoder}" if encoder else ""), ""]
        lines += ["| side | MB/s | ratio | range | start-up | of the time | CPU s/GB | memory, MiB |"]
        lines += ["|---|---|---|---|---|---|---|---|"]
        lines += [_speed_line(row) for row in compare(rows, corpus["bytes"])]
    return lines


def _speed_line(row: Row) -> str:
    low, high = row["ratio_range"] or (0.0, 0.0)
    others = row["ratio"] and row["side"] != OURS
    cells = [
        row["side"],
        f"{row['megabytes_per_second']:.1f}",
        f"**{row['ratio']:.1f}**" if others else "",
        f"{low:.1f}-{high:.1f}" if others else "",
        f"{row['start_seconds']:.1f} s",
        f"{row['start_share']:.0%}",
        f"{row['cpu_seconds_per_gigabyte']:.0f}",
        f"{row['peak_mib']:.0f}",
    ]
    return f"| {' | '.join(cells)} |"


def _memory(rows: list[Row]) -> list[str]:
    said = (
        "asynckit alone. Memory of all its processes together, pages that they share counted once; in "
        "brackets without pages of files, which the kernel can drop. Quarters are those of the run."
    )
    lines = ["", *wrap(said, 110), ""]
    lines += ["| tokenizer | input | MB | documents | seconds | memory, MiB | largest process | by quarter |"]
    lines += ["|---|---|---|---|---|---|---|---|"]
    for row in rows:
        cells = [
            row["tokenizer"],
            row["input"],
            f"{row['bytes'] / 1e6:.0f}",
            f"{row['documents']:,}",
            f"{row['seconds']:.1f}",
            f"**{row['peak_mib']:.0f}** ({row['anonymous_mib']:.0f})",
            f"{row['largest_mib']:.0f}",
            str(row["quarters_mib"]),
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return lines
