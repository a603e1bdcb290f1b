"""What a person sees of a run that goes on: a table on a terminal, a line every ten seconds elsewhere."""

import os
import sys
import time
from collections import Counter, deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Self

from asynckit.console import Progress
from asynckit.rollout.observing.metrics import has_learner, metrics_of, recorded
from asynckit.rollout.observing.snapshot import ReplicaSnapshot, Snapshot

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.live import Live

_REFRESH_SECONDS = 0.25
_WINDOW_SECONDS = 10.0  # over which rates are taken: short enough to be now, long enough to be steady
_UNKNOWN = "?"


def render(previous: Snapshot | None, now: Snapshot, *, first: Snapshot | None = None) -> "RenderableType":
    """The run at a moment: lines about the whole, then a row per rollouter.

    Args:
        previous: an earlier moment that rates are taken since.
        now: the moment.
        first: the earliest moment at which the engines worked; without it the time left is not estimated.
    """
    from rich.console import Group
    from rich.table import Table
    from rich.text import Text

    metrics = metrics_of(previous, now)
    facts = Table.grid(padding=(0, 1))
    facts.add_column(style="bold", no_wrap=True)
    facts.add_column(overflow="fold")
    for name, value in _facts(now, metrics, first):
        facts.add_row(name, Text(value))
    table = Table(box=None, padding=(0, 1, 0, 0), header_style="bold", pad_edge=False)
    table.add_column("replica", overflow="fold")  # on a narrow terminal words fold, numbers stay whole
    table.add_column("state", overflow="fold")
    for name in ("v", "groups", "tok/s", "busy"):
        table.add_column(name, justify="right", no_wrap=True)
    for replica in now.replicas:
        table.add_row(*_row(replica, metrics), style="red" if replica.state == "dead" else "")
    return Group(facts, table)


def _facts(now: Snapshot, metrics: dict[str, float], first: Snapshot | None) -> list[tuple[str, str]]:
    ended = sum(now.groups.values())
    rate, score = metrics.get("rollout/tokens_per_second"), metrics.get("critic/score/mean")
    reward = metrics.get("rollout/reward_mean")
    newest = "" if score is None else f" (newest {score:.3f})"
    facts = [
        ("groups", f"{ended} of {now.submitted}: {_counted(now.groups)}"),
        ("time", f"{_duration(now.seconds)}, {_time_left(first, now)} left"),
        ("tokens/s", _UNKNOWN if rate is None else f"{rate:,.0f}"),
        ("reward", _UNKNOWN if reward is None else f"{reward:.3f}{newest}"),
        ("waiting", f"{now.backlog} to start, {now.in_flight} in flight, {now.queued} in the queue"),
    ]
    if has_learner(now):
        idle = metrics.get("fully_async/trainer/idle_ratio")
        busy = "" if idle is None else f", busy {1 - idle:.0%}"
        facts += [
            ("learner", f"version {now.version}, {now.consumed} groups, {now.learner_waiting} wait{busy}"),
            ("staleness", _histogram(now.ages)),
        ]
    return facts


def _row(replica: ReplicaSnapshot, metrics: dict[str, float]) -> tuple[str, ...]:
    rate = metrics.get(f"replica/{replica.name}/tokens_per_second")
    busy = metrics.get(f"replica/{replica.name}/busy")
    return (
        replica.name,
        replica.state,
        str(replica.version),
        str(replica.in_flight),
        _UNKNOWN if rate is None else f"{rate:,.0f}",
        _UNKNOWN if busy is None else f"{busy:.0%}",
    )


def _counted(counts: dict[str, int]) -> str:
    return ", ".join(f"{count} {status}" for status, count in counts.items() if count) or "none yet"


def _histogram(ages: Counter[int]) -> str:
    """The shares of tokens by how many versions old they were when the learner had them."""
    total = ages.total()
    if not total:
        return _UNKNOWN
    shown = [f"{age}: {ages[age] / total:.0%}" for age in sorted(ages)[:6]]
    older = sum(ages[age] for age in sorted(ages)[6:]) / total
    return ", ".join(shown) + (f", older: {older:.0%}" if older else "")


def _time_left(first: Snapshot | None, now: Snapshot) -> str:
    """An estimate from the groups that have ended since ``first``."""
    left = now.submitted - sum(now.groups.values())
    if not left:
        return "0 s"
    ended = 0 if first is None else recorded(now) - recorded(first)
    if first is None or not ended:
        return _UNKNOWN
    return f"about {_duration(left * (now.seconds - first.seconds) / ended)}"


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes:02d} min"
    return f"{minutes} min {rest:02d} s" if minutes else f"{rest} s"


class LiveTable:
    """Shows snapshots on stderr as they come; silent when ``quiet``.

    On a terminal the table is redrawn in place, at most four times a second, and what others print appears
    above it. Elsewhere there is a plain line every ten seconds.
    """

    def __init__(self, *, quiet: bool, clock: Callable[[], float] = time.monotonic) -> None:
        self._quiet = quiet
        self._clock = clock
        self._drawn = -_REFRESH_SECONDS
        self._seen: deque[Snapshot] = deque()
        self._first: Snapshot | None = None
        self._live: Live | None = None
        self._lines: Progress | None = None
        if not quiet and _draws():
            self._live = _live()
            self._live.start()

    def update(self, now: Snapshot) -> None:
        """Show this moment; one that has been shown already changes nothing."""
        if self._quiet or (self._seen and now.seconds <= self._seen[-1].seconds):
            return
        self._seen.append(now)
        while len(self._seen) > 2 and now.seconds - self._seen[1].seconds >= _WINDOW_SECONDS:
            self._seen.popleft()
        if self._first is None and any(replica.state == "running" for replica in now.replicas):
            self._first = now
        if self._live is None:
            self._line(now)
        elif self._clock() - self._drawn >= _REFRESH_SECONDS:
            self._draw()

    def close(self) -> None:
        """Draw the last moment, and leave the terminal tidy."""
        if self._live is not None:
            self._draw()
            self._live.stop()
            self._live = None
        if self._lines is not None:
            self._lines.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _draw(self) -> None:
        assert self._live is not None
        if self._seen:
            self._live.update(render(self._seen[0], self._seen[-1], first=self._first), refresh=True)
        self._drawn = self._clock()

    def _line(self, now: Snapshot) -> None:
        if self._lines is None:
            self._lines = Progress(now.submitted, "group", quiet=False, clock=self._clock)
        metrics = metrics_of(self._seen[0], now)
        parts = [("reward {:.3f}", "rollout/reward_mean"), ("{:,.0f} tokens/s", "rollout/tokens_per_second")]
        notes = [text.format(metrics[name]) for text, name in parts if name in metrics]
        self._lines.update(sum(now.groups.values()), ", ".join(notes))


def _draws() -> bool:
    """Whether stderr is a terminal on which a table can be redrawn."""
    return sys.stderr.isatty() and os.environ.get("TERM") not in ("dumb", "unknown")


def _live() -> "Live":
    """A region of the terminal on stderr; with ``NO_COLOR`` nothing in it is coloured or bold."""
    from rich.console import Console
    from rich.live import Live

    console = Console(file=sys.stderr, color_system=None if os.environ.get("NO_COLOR") else "auto")
    return Live(console=console, auto_refresh=False, screen=False)
