"""Groups and samples as a person reads them: panels on a terminal, plain indented lines elsewhere.

Everything that comes out of a run passes through :func:`asynckit.readable.readable` and reaches
rich as :class:`rich.text.Text`, so nothing in it is taken for markup or obeyed by the terminal.
"""

from collections.abc import Iterator, Mapping
from itertools import chain
from typing import TYPE_CHECKING, Any

from asynckit.readable import in_one_line, readable
from asynckit.rollout.afterwards.run_view import GroupRow
from asynckit.rollout.record import Trajectory

if TYPE_CHECKING:
    from rich.console import Console, RenderableType

_ID = 10  # characters of an id in a table
_PROMPT = 48
_SPANS = 12
_STYLES = {"assistant": "green", "user": "cyan", "system": "magenta", "tool": "yellow"}


def groups_table(rows: list[GroupRow], total: int) -> "RenderableType":
    """Groups, one a line.

    Args:
        rows: those to show.
        total: groups in the run.
    """
    from rich.table import Table
    from rich.text import Text

    table = Table(title=f"{len(rows):,} of {total:,} groups", title_justify="left")
    for heading in ("group", "samples", "reward", "length", "versions", "prompt", "file"):
        right = heading in ("reward", "length", "versions")
        table.add_column(heading, justify="right" if right else "left", overflow="fold")
    for row in rows:
        cells = (
            row.id[:_ID],
            ", ".join(f"{count} {status}" for status, count in row.statuses.items()),
            _reward_range(row),
            f"{row.mean_length:.1f}",
            _range(row.min_version, row.max_version),
            in_one_line(row.prompt, _PROMPT),
            row.file,
        )
        table.add_row(*(Text(readable(cell)) for cell in cells))
    return table


def _reward_range(row: GroupRow) -> str:
    if row.mean_reward is None:
        return ""
    spread = "" if row.least_reward == row.most_reward else f" ({row.least_reward:g} to {row.most_reward:g})"
    return f"{row.mean_reward:.4f}{spread}"


def _range(least: int | None, most: int | None) -> str:
    if least is None:
        return ""
    return str(least) if least == most else f"{least} to {most}"


def summary_table(summary: Mapping[str, Any]) -> "RenderableType":
    """``summary.json`` as it is, one number a line."""
    from rich.table import Table
    from rich.text import Text

    table = Table(title="summary", title_justify="left", show_header=False)
    for name, value in summary.items():
        if name not in ("schema", "files", "folder"):
            table.add_row(Text(readable(name.replace("_", " ")), "bold"), Text(readable(_value(value))))
    return table


def _value(value: Any) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{count} {name}" for name, count in value.items() if count) or "none"
    if isinstance(value, float):
        return f"{value:,.4g}"
    return "none" if value is None else str(value)


def print_samples(samples: list[Trajectory], console: "Console") -> None:
    """Every sample with its messages, on a terminal in panels."""
    if not console.is_terminal:
        encoding = console.encoding
        for line in chain.from_iterable(map(plain_lines, samples)):
            console.file.write(readable(line, encoding) + "\n")
        return
    for each in samples:
        for part in _panels(each, console.encoding):
            console.print(part)


def plain_lines(trajectory: Trajectory) -> Iterator[str]:
    """A sample as lines; those of messages are indented, so that no message can pass for a heading."""
    yield f"sample {trajectory.sample_index} of group {trajectory.group_id}"
    for name, value in facts(trajectory):
        yield f"{name}: {value.replace(chr(10), chr(10) + '  ')}"
    for message in trajectory.messages:
        yield f"[{message['role']}]".replace("\n", " ")
        for line in message["content"].split("\n"):
            yield f"  {line}"
    yield ""


def _panels(trajectory: Trajectory, encoding: str) -> "Iterator[RenderableType]":
    from rich.panel import Panel
    from rich.table import Table
    from rich.text import Text

    yield Text(f"sample {trajectory.sample_index} of group {readable(trajectory.group_id)}", "bold")
    table = Table(box=None, show_header=False, padding=(0, 2, 0, 0))
    for name, value in facts(trajectory):
        table.add_row(Text(name, "bold"), Text(readable(value, encoding), overflow="fold"))
    yield table
    for message in trajectory.messages:
        title = Text(in_one_line(message["role"], 40))
        content = Text(readable(message["content"], encoding), overflow="fold")
        yield Panel(content, title=title, title_align="left", border_style=_STYLES.get(message["role"], ""))
    yield Text("")


def facts(trajectory: Trajectory) -> Iterator[tuple[str, str]]:
    """What there is to say about a sample beside its messages, as names and values."""
    each = trajectory
    yield "uid", each.uid
    stopped = f", stopped by {each.stop_reason}" if each.stop_reason else ""
    yield "status", f"{each.status}{stopped}, attempt {each.attempt}"
    if each.error:
        yield "error", each.error
    yield "reward", _reward(each)
    sampled = sum(each.response_mask)
    yield (
        "tokens",
        f"{len(each.prompt_ids)} prompt, {len(each.response_ids)} response, {sampled} of them sampled",
    )
    if each.logprobs and sampled:
        yield "logprob", f"{sum(each.logprobs) / sampled:.4f} per sampled token"
    if each.version_spans:
        yield "versions", _spans(each)
    if each.ground_truth is not None:
        yield "ground truth", str(each.ground_truth)
    yield "data source", each.data_source
    if each.timing.start is not None and each.timing.end is not None:
        yield (
            "time",
            f"{each.timing.end - each.timing.start:.2f} s, ended {each.timing.end:.2f} s into the run",
        )


def _reward(each: Trajectory) -> str:
    if each.reward is None:
        return "none"
    parts = [f"{each.reward:.4f}"]
    if each.advantage is not None:
        parts.append(f"advantage {each.advantage:+.4f}")
    parts += [f"{name} {value:g}" for name, value in each.reward_components.items()]
    return ", ".join(parts)


def _spans(each: Trajectory) -> str:
    shown = [
        f"{version} for tokens {start} to {end - 1}" for start, end, version in each.version_spans[:_SPANS]
    ]
    if len(each.version_spans) > _SPANS:
        shown.append(f"and {len(each.version_spans) - _SPANS} more")
    if each.consumed_version is not None:
        shown.append(f"consumed by version {each.consumed_version}")
    return ", ".join(shown)
